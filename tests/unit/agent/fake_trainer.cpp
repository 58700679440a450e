// A trainer that does what its job's labels say, for tests of the agent. Takes
// the place of liger-trainer: --launch FILE, LIGER_EVENTS_FD, LIGER_COMMANDS_FD.
//
//   steps=N         steps of `step_ms` each before the end (default 3 of 20 ms)
//   end=done        Done, after saving a result when publish=1 (the default)
//      =fail        a Failed event (DATA)
//      =crash       SIGSEGV
//      =exit        exit code 7 and no word
//      =torn        half a frame, then SIGKILL
//      =hang        neither ends nor reads its commands
//      =stall       sends Alive on and on without progress
//      =sync        the same, and says that it waits for its disk
//      =linger      Done, and then as hang
//      =saved       saves a result, then as wait
//      =wait        runs until it is told to stop
//      =lost        a Failed event (INFRA) that blames rank `blames`
//   KEY.R=VALUE     of rank R only
//   deaf=1          takes no commands while it steps
//   pause=1         told to pause, it says that it has; else it ends as when told to stop
//   pause=no        it says that it could not, once, and goes on
//   fork=1          starts a child in a session of its own that outlives it
//   log=TEXT        on stderr
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <string>

#include "common/file.h"
#include "common/framing.h"
#include "liger/trainer/v1/trainer.pb.h"

namespace {

using liger::trainer::v1::Event;
using liger::trainer::v1::Launch;

class FakeTrainer {
 public:
  explicit FakeTrainer(Launch launch)
      : launch_(std::move(launch)),
        events_fd_(atoi(getenv("LIGER_EVENTS_FD"))),
        commands_fd_(atoi(getenv("LIGER_COMMANDS_FD"))),
        rank_(atoi(getenv("RANK"))) {}

  int Run() {
    fprintf(stderr, "rank %d of %s, threads %s\n%s\n", rank_, getenv("WORLD_SIZE"),
            getenv("OMP_NUM_THREADS"), Label("log", "").c_str());
    if (Label("fork", "") == "1") ForkAway();
    SendReady();
    const int steps = atoi(Label("steps", "3").c_str());
    for (int step = 1; step <= steps; ++step) {
      if (!Sleep(atoi(Label("step_ms", "20").c_str()))) return OnCommand(step - 1);
      SendStep(step, steps);
    }
    return End(Label("end", "done"));
  }

 private:
  std::string Label(const std::string& key, const std::string& otherwise) const {
    const auto& labels = launch_.resolved_spec().labels();
    auto it = labels.find(key + "." + std::to_string(rank_));
    if (it == labels.end()) it = labels.find(key);
    return it == labels.end() ? otherwise : it->second;
  }

  void Send(Event event) {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    event.set_seq(++seq_);
    event.set_rank(rank_);
    event.set_monotonic_ns(now.tv_sec * 1000000000LL + now.tv_nsec);
    if (!liger::WriteFrame(events_fd_, event).ok()) _exit(9);
  }

  void SendReady() {
    Event ready;
    ready.mutable_ready()->set_pid(getpid());
    ready.mutable_ready()->set_device("cpu");
    Send(ready);
    Event phase;
    phase.mutable_phase()->set_phase(liger::trainer::v1::PHASE_TRAINING);
    Send(phase);
  }

  void SendStep(int step, int steps) {
    Event event;
    event.mutable_step()->set_step(step);
    event.mutable_step()->set_max_steps(steps);
    (*event.mutable_step()->mutable_values())["loss"] = 1.0 / step;
    Send(event);
    Event memory;
    memory.mutable_memory()->set_kind("rss");
    memory.mutable_memory()->set_peak_bytes(1000 * step);
    Send(memory);
  }

  // False when it was told to stop, or the agent is gone.
  bool Sleep(int ms) {
    pollfd commands{commands_fd_, POLLIN, 0};
    if (Label("deaf", "") == "1") return poll(nullptr, 0, ms) == 0;
    return poll(&commands, 1, ms) == 0;
  }

  // The exit code that a command, or the agent's end, leads to.
  int OnCommand(int64_t step) {
    char buffer[4096];
    const ssize_t n = read(commands_fd_, buffer, sizeof(buffer));
    if (n <= 0) return 2;
    liger::FrameReader frames;
    frames.Append({buffer, static_cast<size_t>(n)});
    std::string payload;
    liger::trainer::v1::Command command;
    if (frames.Next(&payload) != liger::FrameReader::Result::kFrame ||
        !command.ParseFromString(payload) || !command.has_pause()) {
      return 2;
    }
    const std::string pause = Label("pause", "");
    if (pause.empty()) return 2;
    Event answer;
    answer.mutable_command_done()->set_command_id(command.command_id());
    const bool refuses = pause == "no" && !refused_;
    answer.mutable_command_done()->set_status(refuses ? "no room" : "ok");
    Send(answer);
    if (refuses) {
      refused_ = true;
      return Sleep(3600 * 1000) ? 0 : OnCommand(step);
    }
    Event paused;
    paused.mutable_paused()->set_step(step);
    Send(paused);
    return 2;
  }

  int Lose() {
    Event failed;
    failed.mutable_failed()->set_class_(liger::v1::FAILURE_CLASS_INFRA);
    failed.mutable_failed()->set_message("lost rank " + Label("blames", "0"));
    failed.mutable_failed()->set_first_failed_rank(atoi(Label("blames", "0").c_str()));
    Send(failed);
    return 1;
  }

  int End(const std::string& end) {
    if (end == "lost") return Lose();
    if (end == "fail") return Fail();
    if (end == "crash") raise(SIGSEGV);
    if (end == "exit") return 7;
    if (end == "torn") Tear();
    if (end == "hang") Hang();
    if (end == "stall" || end == "sync") return Stall(/*in_slow_call=*/end == "sync");
    if (end == "wait") return Sleep(3600 * 1000) ? 0 : OnCommand(3);
    if (launch_.task_kind() == liger::trainer::v1::TASK_KIND_CHECK) SendCheckResult();
    if (launch_.task_kind() == liger::trainer::v1::TASK_KIND_TRAIN && rank_ == 0) Save();
    if (end == "saved") return Sleep(3600 * 1000) ? 0 : 2;
    Event done;
    done.mutable_done();
    Send(done);
    if (end == "linger") Hang();
    return 0;
  }

  int Fail() {
    Event failed;
    failed.mutable_failed()->set_class_(liger::v1::FAILURE_CLASS_DATA);
    failed.mutable_failed()->set_message("row 17 is empty");
    failed.mutable_failed()->set_row(17);
    Send(failed);
    return 1;
  }

  void Tear() {
    Event event;
    event.mutable_step()->set_step(1000);
    const std::string frame = liger::EncodeFrame(event.SerializeAsString());
    [[maybe_unused]] ssize_t n = write(events_fd_, frame.data(), frame.size() - 2);
    raise(SIGKILL);
  }

  int Stall(bool in_slow_call) {
    do {
      Event alive;
      alive.mutable_alive()->set_phase(liger::trainer::v1::PHASE_TRAINING);
      alive.mutable_alive()->set_step(atoi(Label("steps", "3").c_str()));
      alive.mutable_alive()->set_progress(7);
      alive.mutable_alive()->set_in_slow_call(in_slow_call);
      Send(alive);
    } while (Sleep(100));
    return 2;
  }

  [[noreturn]] void Hang() {
    signal(SIGTERM, SIG_IGN);
    while (true) pause();
  }

  void ForkAway() {
    if (fork() != 0) return;
    setsid();
    if (fork() != 0) _exit(0);
    prctl(PR_SET_NAME, "liger-stray");
    while (true) pause();
  }

  void SendCheckResult() {
    Event event;
    event.mutable_check_result()->add_checks_run("data");
    (*event.mutable_check_result()->mutable_stats())["rows"] = 5;
    Send(event);
  }

  void Save() {
    const std::string dir = launch_.attempt_dir() + "/model";
    const std::string weights = "weights of " + launch_.resolved_spec().name();
    const std::string digest = liger::Sha256(weights).substr(7);
    const std::string manifest =
        "{\"files\": {\"model.safetensors\": {\"bytes\": " + std::to_string(weights.size()) +
        ", \"sha256\": \"" + digest + "\"}}}";
    if (!liger::MakeFolders(dir).ok() ||
        !liger::WriteFileAtomically(dir + "/model.safetensors", weights).ok() ||
        !liger::WriteFileAtomically(dir + "/manifest.json", manifest).ok()) {
      _exit(9);
    }
    Event event;
    event.mutable_saved()->set_publication_id("model");
    event.mutable_saved()->set_kind("model");
    event.mutable_saved()->set_dir(dir);
    event.mutable_saved()->set_manifest_digest(liger::Sha256(manifest));
    Send(event);
  }

  const Launch launch_;
  const int events_fd_, commands_fd_, rank_;
  int64_t seq_ = 0;
  bool refused_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "--list-code") {
    char path[4096] = {};
    [[maybe_unused]] ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    printf("%s\nend\n", path);
    return 0;
  }
  if (argc != 3 || std::string(argv[1]) != "--launch") return 3;
  auto bytes = liger::ReadFile(argv[2]);
  Launch launch;
  if (!bytes.ok() || !launch.ParseFromString(*bytes)) return 3;
  return FakeTrainer(std::move(launch)).Run();
}
