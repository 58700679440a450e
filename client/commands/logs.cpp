#include <iostream>

#include "absl/strings/str_cat.h"
#include "client/commands/commands.h"
#include "client/interrupt.h"

namespace liger::client {
namespace {

struct Options {
  std::string job;
  bool follow = false;
  int rank = 0;
  int64_t attempt = 0;
  int64_t tail_bytes = 0;
};

ExitCode Logs(const Options& options, Session& session) {
  liger::v1::TailLogsRequest request;
  request.set_job(options.job);
  request.set_follow(options.follow);
  request.set_rank(options.rank);
  if (options.attempt > 0) request.set_attempt(options.attempt);
  request.set_tail_bytes(options.tail_bytes);

  grpc::ClientContext context;
  InterruptGuard guard(&context);
  auto reader = session.connection().stub().TailLogs(&context, request);
  liger::v1::TailLogsResponse piece;
  while (reader->Read(&piece)) std::cout << piece.data() << std::flush;
  const grpc::Status status = reader->Finish();
  if (InterruptGuard::interrupted()) {
    std::cerr << "detached; the job goes on\n";
    return kInterrupted;
  }
  session.connection().Check(status);
  return kOk;
}

}  // namespace

Action DeclareLogs(CLI::App* app) {
  auto options = std::make_shared<Options>();
  app->add_option("job", options->job, "Name or uid")->required();
  app->add_flag("-f,--follow", options->follow, "Go on until the job ends");
  app->add_option("--rank", options->rank, "Rank (default 0)");
  app->add_option("--attempt", options->attempt, "Attempt (default the newest)");
  app->add_option("--tail", options->tail_bytes, "Only the last bytes")->type_name("BYTES");
  return [options](Session& session) { return Logs(*options, session); };
}

}  // namespace liger::client
