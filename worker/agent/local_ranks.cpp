#include "worker/agent/local_ranks.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/framing.h"
#include "worker/agent/log.h"
#include "worker/agent/process.h"

namespace liger::agent {
namespace {

// Time that leftovers of an earlier agent get to vanish after SIGKILL.
constexpr absl::Duration kClearTimeout = absl::Seconds(5);

absl::StatusOr<UniqueFd> OpenForAppend(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
  if (!fd.valid()) return absl::ErrnoToStatus(errno, absl::StrCat("open ", path));
  return fd;
}

}  // namespace

void LocalRank::Hear(const trainer::v1::Event& event) {
  // What follows the end, too, must come to one.
  if (!outcome.done && !outcome.paused && !outcome.failed) silent = absl::ZeroDuration();
  switch (event.event_case()) {
    case trainer::v1::Event::kAlive:
      outcome.phase = event.alive().phase();
      outcome.step = event.alive().step();
      outcome.in_slow_call = event.alive().in_slow_call();
      if (event.alive().progress() == progress) return;
      progress = event.alive().progress();
      break;
    case trainer::v1::Event::kPhase:
      outcome.phase = event.phase().phase();
      break;
    case trainer::v1::Event::kStep:
      outcome.step = event.step().step();
      break;
    case trainer::v1::Event::kCommandDone:  // from a thread that only listens
      return;
    case trainer::v1::Event::kDone:
      outcome.done = true;
      break;
    case trainer::v1::Event::kPaused:
      outcome.paused = true;
      break;
    case trainer::v1::Event::kFailed:
      outcome.failed = event.failed();
      break;
    default:
      break;
  }
  idle = absl::ZeroDuration();
}

LocalRanks::LocalRanks(const AttemptFolder& folder, const worker::v1::Prepare& prepare)
    : folder_(folder) {
  for (const auto& rank : prepare.local_ranks()) {
    ranks_.emplace_back(rank.rank(), folder.events(rank.rank()));
  }
}

absl::Status LocalRanks::Launch(
    Spawner& spawner, const std::string& program,
    const std::vector<std::map<std::string, std::string>>& environments) {
  for (size_t i = 0; i < ranks_.size(); ++i) {
    if (absl::Status s = LaunchOne(spawner, program, environments[i], ranks_[i]); !s.ok()) {
      Kill();
      return s;
    }
  }
  return absl::OkStatus();
}

absl::Status LocalRanks::LaunchOne(Spawner& spawner, const std::string& program,
                                   std::map<std::string, std::string> environment,
                                   LocalRank& rank) {
  absl::StatusOr<UniqueFd> log = OpenForAppend(folder_.log(rank.outcome.rank));
  absl::StatusOr<UniqueFd> events = OpenForAppend(folder_.events(rank.outcome.rank));
  if (!log.ok()) return log.status();
  if (!events.ok()) return events.status();
  int commands[2];
  if (pipe2(commands, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe2");
  UniqueFd read_end(commands[0]);
  rank.commands.reset(commands[1]);
  // A trainer that does not read must not block the agent.
  fcntl(rank.commands.get(), F_SETFL, O_NONBLOCK);

  environment["LIGER_EVENTS_FD"] = absl::StrCat(events->get());
  environment["LIGER_COMMANDS_FD"] = absl::StrCat(read_end.get());
  SpawnRequest request;
  request.argv = {program, "--launch", folder_.launch()};
  request.env = std::move(environment);
  request.working_dir = folder_.work();
  request.log_fd = log->get();
  request.pass_fds = {events->get(), read_end.get()};
  absl::StatusOr<ProcessId> process = spawner.Spawn(request);
  if (!process.ok()) return process.status();
  rank.process = *process;
  rank.gone = false;
  return absl::OkStatus();
}

void LocalRanks::ClearLeftovers(const worker::v1::AttemptRecord& record,
                                const std::string& boot_id) {
  std::vector<ProcessId> leaders;
  if (record.boot_id() == boot_id) {
    for (const auto& p : record.processes()) leaders.push_back({p.pid(), p.start_ticks()});
  }
  if (!KillTree(leaders, folder_.path(), kClearTimeout)) {
    LogError("processes of ", folder_.path(), " survived SIGKILL");
  }
}

void LocalRanks::Send(const trainer::v1::Command& command) {
  for (LocalRank& rank : ranks_) {
    if (rank.gone) continue;
    rank.outcome.told_to_stop |= command.has_stop();
    if (absl::Status s = WriteFrame(rank.commands.get(), command); !s.ok()) {
      LogWarning("rank ", rank.outcome.rank, " does not take commands: ", s.ToString());
    }
  }
}

void LocalRanks::Kill() {
  for (LocalRank& rank : ranks_) {
    if (rank.gone) continue;
    rank.outcome.killed_by_agent = true;
    kill(-rank.process.pid, SIGKILL);
  }
}

void LocalRanks::KillHung(absl::Duration passed, const HangLimits& limits) {
  for (LocalRank& rank : ranks_) {
    if (rank.gone) continue;
    rank.silent += passed;
    rank.idle += passed;
    if (rank.outcome.hung()) continue;
    const absl::Duration idle_limit =
        rank.outcome.in_slow_call ? std::max(limits.slow_call, limits.idleness) : limits.idleness;
    if (rank.silent > limits.silence) {
      rank.outcome.silent_for = rank.silent;
    } else if (rank.idle > idle_limit) {
      rank.outcome.idle_for = rank.idle;
    } else {
      continue;
    }
    LogWarning("rank ", rank.outcome.rank, " of ", folder_.path(), " ", DescribeHang(rank.outcome),
               ": killed");
    kill(-rank.process.pid, SIGKILL);
  }
}

void LocalRanks::Reap(absl::Time now) {
  if (AllGone()) return;
  oom_watch_.Look(now);
  for (LocalRank& rank : ranks_) {
    if (rank.gone) continue;
    int status = 0;
    const pid_t pid = waitpid(rank.process.pid, &status, WNOHANG);
    if (pid == 0 || (pid < 0 && errno == EINTR)) continue;
    rank.gone = true;
    rank.commands.reset();
    rank.outcome.order = ended_++;
    rank.outcome.out_of_memory = oom_watch_.Recent(now);
    if (pid > 0) rank.outcome.wait_status = status;
    // What it started dies with it.
    kill(-rank.process.pid, SIGKILL);
  }
}

bool LocalRanks::ClearStrays() {
  const std::vector<pid_t> strays = FindMarked(folder_.path());
  for (pid_t pid : strays) kill(pid, SIGKILL);
  return strays.empty();
}

bool LocalRanks::AllGone() const {
  return std::all_of(ranks_.begin(), ranks_.end(), [](const LocalRank& r) { return r.gone; });
}

bool LocalRanks::AnyFailed() const {
  return std::any_of(ranks_.begin(), ranks_.end(), [](const LocalRank& r) {
    const bool ended_well = r.outcome.done || r.outcome.paused;
    return r.outcome.failed || (r.gone && r.tail.at_end() && !ended_well);
  });
}

std::vector<worker::v1::TrainerProcess> LocalRanks::Processes() const {
  std::vector<worker::v1::TrainerProcess> processes;
  for (const LocalRank& rank : ranks_) {
    auto& process = processes.emplace_back();
    process.set_rank(rank.outcome.rank);
    process.set_pid(rank.process.pid);
    process.set_start_ticks(rank.process.start_ticks);
  }
  return processes;
}

std::set<pid_t> LocalRanks::Pids() const {
  std::set<pid_t> pids;
  for (const LocalRank& rank : ranks_) {
    if (!rank.gone) pids.insert(rank.process.pid);
  }
  return pids;
}

std::vector<RankOutcome> LocalRanks::Outcomes() const {
  std::vector<RankOutcome> outcomes;
  for (const LocalRank& rank : ranks_) outcomes.push_back(rank.outcome);
  return outcomes;
}

}  // namespace liger::agent
