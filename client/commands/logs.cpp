#include <algorithm>
#include <iostream>
#include <string_view>

#include "absl/cleanup/cleanup.h"
#include "absl/time/clock.h"
#include "client/commands/commands.h"
#include "client/errors.h"
#include "client/interrupt.h"
#include "client/outage.h"

namespace liger::client {
namespace {

struct Options {
  std::string job;
  bool follow = false;
  int rank = 0;
  int64_t attempt = 0;
  int64_t tail_bytes = 0;
};

// Prints a job's log, over as many streams as it takes.
class LogPrinter {
 public:
  LogPrinter(const Options& options, Connection& connection)
      : follow_(options.follow), connection_(connection) {
    request_.set_job(options.job);
    request_.set_follow(options.follow);
    request_.set_rank(options.rank);
    if (options.attempt > 0) request_.set_attempt(options.attempt);
    request_.set_tail_bytes(options.tail_bytes);
  }

  ExitCode Run() {
    while (true) {
      const absl::Time began = absl::Now();
      heard_ = false;
      const grpc::Status status = ReadStream();
      if (guard_.interrupted()) {
        std::cerr << "detached; the job goes on\n";
        return kInterrupted;
      }
      if (status.ok()) return kOk;
      const bool known = epoch_ != 0;
      const bool resumable =
          follow_ && CoordinatorAway(status) && (known || MayAnswerLater(status));
      if (!resumable || outage_.StreamFailed(began, heard_, absl::Now())) {
        connection_.Check(status);
      }
      if (!known) connection_.SayAwaited();
      // From the beginning: what was printed is known by its offset.
      if (known) request_.set_tail_bytes(0);
      guard_.Sleep(absl::Milliseconds(300));
      AwaitConnection(*connection_.channel(), absl::Milliseconds(300));
    }
  }

 private:
  grpc::Status ReadStream() {
    grpc::ClientContext context;
    guard_.Attach(&context);
    absl::Cleanup detach = [this] { guard_.Detach(); };
    auto reader = connection_.stub().TailLogs(&context, request_);
    liger::v1::TailLogsResponse piece;
    while (reader->Read(&piece)) {
      heard_ = true;
      Print(piece);
    }
    return reader->Finish();
  }

  // What of a piece is new.
  void Print(const liger::v1::TailLogsResponse& piece) {
    if (piece.epoch() != epoch_) {
      epoch_ = piece.epoch();
      printed_ = 0;
    }
    const int64_t end = piece.offset() + static_cast<int64_t>(piece.data().size());
    if (end <= printed_) return;
    const int64_t skip = std::max<int64_t>(0, printed_ - piece.offset());
    std::cout << std::string_view(piece.data()).substr(static_cast<size_t>(skip)) << std::flush;
    printed_ = end;
  }

  const bool follow_;
  Connection& connection_;
  InterruptGuard guard_;
  Outage outage_;
  liger::v1::TailLogsRequest request_;
  bool heard_ = false;
  // Attempt, and the offset in its log up to which it is printed.
  int64_t epoch_ = 0;
  int64_t printed_ = 0;
};

ExitCode Logs(const Options& options, Session& session) {
  return LogPrinter(options, session.connection()).Run();
}

}  // namespace

Action DeclareLogs(CLI::App* app) {
  auto options = std::make_shared<Options>();
  app->add_option("job", options->job, "Name or uid")->required();
  app->add_flag("-f,--follow", options->follow, "Go on until the job ends");
  app->add_option("--rank", options->rank, "Rank (default 0)")->check(WholeNumber());
  app->add_option("--attempt", options->attempt, "Attempt (default the newest)")->check(Positive());
  app->add_option("--tail", options->tail_bytes, "Only the last bytes")
      ->type_name("BYTES")
      ->check(WholeNumber());
  return [options](Session& session) { return Logs(*options, session); };
}

}  // namespace liger::client
