#include "worker/agent/task_runner.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/file.h"
#include "worker/agent/input_policy.h"
#include "worker/agent/log.h"
#include "worker/agent/steady_time.h"
#include "worker/agent/trainer_environment.h"

namespace liger::agent {
namespace {

// Ranks left when one fails get this long to end by themselves.
constexpr absl::Duration kGangGrace = absl::Seconds(5);
// More time than this between two ticks: the agent stood still.
constexpr absl::Duration kLongestTick = absl::Seconds(1);

}  // namespace

TaskRunner::TaskRunner(const Services& services, AttemptFolder folder,
                       worker::v1::AttemptRecord record, std::unique_ptr<Spool> spool)
    : services_(services),
      folder_(std::move(folder)),
      record_(std::move(record)),
      spool_(std::move(spool)),
      ranks_(folder_, record_.prepare()),
      converter_(ranks_.leading_rank(), record_.prepare().gang().world_size() > 1) {
  publications_ = std::make_unique<Publications>(services_, *spool_, ref(), folder_.work(),
                                                 record_.start().resolved_spec().output());
}

absl::StatusOr<std::unique_ptr<TaskRunner>> TaskRunner::Launch(const Services& services,
                                                               const worker::v1::Prepare& prepare,
                                                               const worker::v1::Start& start) {
  absl::StatusOr<AttemptFolder> folder =
      AttemptFolder::Create(services.archive->attempts_dir(), prepare.ref());
  if (!folder.ok()) return folder.status();
  absl::StatusOr<std::unique_ptr<Spool>> spool = Spool::Open(folder->spool());
  if (!spool.ok()) return spool.status();
  worker::v1::AttemptRecord record;
  *record.mutable_prepare() = prepare;
  *record.mutable_start() = start;
  record.set_boot_id(services.identity->boot_id());
  std::unique_ptr<TaskRunner> task(
      new TaskRunner(services, *folder, std::move(record), *std::move(spool)));
  if (absl::Status s = task->LaunchTrainers(); !s.ok())
    task->spawn_error_ = std::string(s.message());
  task->AddToShipper();
  return task;
}

absl::StatusOr<std::unique_ptr<TaskRunner>> TaskRunner::Recover(const Services& services,
                                                                const AttemptFolder& folder) {
  RemoveTemporaries(folder.path());
  absl::StatusOr<worker::v1::AttemptRecord> record = folder.ReadRecord();
  if (!record.ok()) return record.status();
  absl::StatusOr<std::unique_ptr<Spool>> spool = Spool::Open(folder.spool());
  if (!spool.ok()) return spool.status();
  std::unique_ptr<TaskRunner> task(new TaskRunner(services, folder, *record, *std::move(spool)));
  task->ranks_.ClearLeftovers(*record, services.identity->boot_id());
  if (task->spool_->exited()) {
    task->state_ = State::kExited;
    task->exited_ = task->spool_->After(task->spool_->last_seq() - 1)->exited();
  }
  task->AddToShipper();
  if (task->state_ == State::kExited) services.shipper->Finish(task->ref());
  return task;
}

absl::Status TaskRunner::LaunchTrainers() {
  // The record goes first: a restarted agent finds processes by the folder's
  // mark even when their ids were not written yet.
  if (absl::Status s = folder_.WriteRecord(record_); !s.ok()) return s;
  const bool check = record_.prepare().kind() == trainer::v1::TASK_KIND_CHECK;
  const bool again = (ref().epoch() & 0xffffffff) > 1;  // the rest is the store's generation
  if (auto refused = CheckSpecPaths(record_.start().resolved_spec(), services_, check, again)) {
    launch_failure_ = refused;
    return absl::InvalidArgumentError(refused->message());
  }
  if (absl::Status s = WriteLaunch(); !s.ok()) return s;
  auto environment = OwnEnvironment();
  // Tokenised data sets; what the host's owner set wins.
  environment.try_emplace("LIGER_DATA_CACHE",
                          absl::StrCat(services_.options->data_dir, "/cache/tokenized"));
  const auto environments =
      TrainerEnvironments(environment, record_.prepare(), record_.start().master(),
                          *services_.ledger, services_.options->socket_interface, folder_.path());
  communication_ = CommunicationPart(environments.front());
  absl::Status launched =
      ranks_.Launch(*services_.spawner, services_.options->trainer, environments);
  if (!launched.ok()) return launched;
  for (auto& process : ranks_.Processes()) *record_.add_processes() = process;
  // They run, whether this is written or not.
  if (absl::Status s = folder_.WriteRecord(record_); !s.ok()) LogWarning(s.ToString());
  return absl::OkStatus();
}

absl::Status TaskRunner::WriteLaunch() const {
  trainer::v1::Launch launch;
  launch.set_version(1);
  launch.set_task_kind(record_.prepare().kind());
  *launch.mutable_resolved_spec() = record_.start().resolved_spec();
  *launch.mutable_ref() = ref();
  launch.set_attempt_dir(folder_.work());
  FillCheckpoints(launch);
  launch.set_check_max_rows(record_.start().check_max_rows());
  launch.set_check_seconds(record_.start().check_seconds());
  for (const Root* root : InputRoots(services_)) {
    const auto& known = launch.input_roots();
    if (std::find(known.begin(), known.end(), root->path()) == known.end()) {
      launch.add_input_roots(root->path());
    }
  }
  for (const Root* root : services_.allowed_roots) launch.add_input_roots(root->path());
  const Root& outputs = *services_.output_root;
  const auto output = outputs.Relative(launch.resolved_spec().output().uri());
  if (output.ok()) launch.set_output_dir(absl::StrCat(outputs.path(), "/", *output));
  return WriteFileAtomically(folder_.launch(), launch.SerializeAsString());
}

// Where the checkpoints lie here.
void TaskRunner::FillCheckpoints(trainer::v1::Launch& launch) const {
  const std::string& known = record_.start().resume_from();
  if (!known.empty()) {
    const auto relative = services_.output_root->Relative(known);
    if (relative.ok()) {
      launch.set_resume_from(absl::StrCat(services_.output_root->path(), "/", *relative));
    } else {
      LogWarning("task ", TaskKey(ref()), ": its checkpoint is another worker's, and not below ",
                 services_.output_root->path(), ": ", relative.status().message());
    }
  }
  std::string* named =
      launch.mutable_resolved_spec()->mutable_training()->mutable_resume_from_checkpoint();
  if (named->empty()) return;
  if (const auto path = CheckpointPath(*named, services_); path.ok()) *named = *path;
}

void TaskRunner::AddToShipper() {
  for (const LocalRank& rank : ranks_.ranks()) {
    const int number = rank.outcome.rank;
    services_.shipper->Add(ref(), number, folder_.log(number), folder_.events(number));
  }
}

void TaskRunner::Tick(absl::Time now, bool connected) {
  const absl::Duration passed = std::min(now - last_tick_, kLongestTick);
  last_tick_ = now;
  ranks_.Reap(now);
  ReadEvents(now);
  FillSpool(now);
  publications_->Tick(now);
  const Options& options = *services_.options;
  ranks_.KillHung(passed, {options.hang_timeout, options.stall_timeout, options.io_timeout});
  EnforceStop(now);
  if (state_ == State::kRunning && ranks_.AllGone()) OnAllGone();
  if (state_ == State::kEnded) TryExit(now);
  if (state_ == State::kExited) TryFinish(connected ? passed : absl::ZeroDuration());
}

void TaskRunner::ReadEvents(absl::Time now) {
  if (state_ == State::kExited) return;
  for (LocalRank& rank : ranks_.ranks()) {
    absl::StatusOr<std::vector<trainer::v1::Event>> events = rank.tail.Read();
    if (!events.ok()) {
      // Once: what the rank says from here on cannot be heard.
      if (!rank.gone && !kill_at_) Fail(kGangGrace, std::string(events.status().message()));
      continue;
    }
    for (const trainer::v1::Event& event : *events) Take(rank, event, now);
  }
}

void TaskRunner::Take(LocalRank& rank, const trainer::v1::Event& event, absl::Time now) {
  rank.Hear(event);
  // What it could not do may be asked of it again.
  if (event.has_command_done() && event.command_done().status() != "ok") {
    commands_seen_.erase(event.command_done().command_id());
  }
  // Before a restart of the agent these went to the spool.
  const bool known = event.seq() <= spool_->source_seq(rank.outcome.rank);
  for (ConvertedEvent& converted : converter_.Convert(event, now)) {
    if (converted.event.has_started()) AddFacts(converted.event.mutable_started());
    if (!known) converted_.push_back(std::move(converted));
  }
}

// Beside what the trainer says of itself: how it was to reach the others, and what the
// driver says of its device.
void TaskRunner::AddFacts(worker::v1::Started* started) const {
  if (record_.prepare().gang().world_size() > 1) {
    started->mutable_communication()->insert(communication_.begin(), communication_.end());
  }
  if (services_.nvml == nullptr || record_.prepare().local_ranks().empty()) return;
  const std::string& uuid = record_.prepare().local_ranks(0).device_uuid();
  for (const auto& [name, value] : services_.nvml->Facts(uuid)) {
    (*started->mutable_ready()->mutable_versions())[name] = value;
  }
}

void TaskRunner::FillSpool(absl::Time now) {
  if (state_ == State::kExited) return;
  const bool last = ranks_.AllGone();
  if (auto progress = converter_.DueProgress(now, last)) {
    // Of ranks alone it comes from no one event.
    if (progress->source_seq == 0 ||
        progress->source_seq > spool_->source_seq(progress->source_rank)) {
      converted_.push_back(*std::move(progress));
    }
  }
  while (!converted_.empty()) {
    ConvertedEvent& next = converted_.front();
    if (next.event.has_publish_request()) {
      const trainer::v1::Saved& saved = next.event.publish_request().saved();
      publications_->Verify(saved);
      if (!publications_->Verified(saved.publication_id())) return;
      if (spool_->outcomes().contains(saved.publication_id())) {  // damaged
        converted_.pop_front();
        continue;
      }
    }
    spool_failure_ = spool_->Append(next.event, ref(), next.source_rank, next.source_seq);
    if (!spool_failure_.ok()) {
      // A full disk. The event stays here; with no spool the task cannot go on.
      if (!kill_at_) Fail(kGangGrace, std::string(spool_failure_.message()));
      return;
    }
    converted_.pop_front();
  }
}

void TaskRunner::Control(const trainer::v1::Command& command) {
  if (!command.command_id().empty() && !commands_seen_.insert(command.command_id()).second) return;
  if (!command.has_stop()) return ranks_.Send(command);
  const double grace = command.stop().grace_seconds();
  Stop(grace > 0 ? absl::Seconds(grace) : services_.options->stop_grace, command.stop().reason());
}

void TaskRunner::Stop(absl::Duration grace, const std::string& reason) {
  if (state_ == State::kExited) return;
  if (spool_->stop_reason().empty()) {
    LogInfo("task ", TaskKey(ref()), ": stop (", reason, ")");
    if (absl::Status s = spool_->RecordStop(reason); !s.ok()) LogError(s.ToString());
  }
  trainer::v1::Command command;
  command.set_command_id("stop");
  command.mutable_stop()->set_grace_seconds(absl::ToDoubleSeconds(grace));
  command.mutable_stop()->set_reason(reason);
  ranks_.Send(command);
  kill_at_ = std::min(kill_at_.value_or(absl::InfiniteFuture()), SteadyNow() + grace);
}

void TaskRunner::Fail(absl::Duration grace, const std::string& worker_error) {
  if (state_ == State::kExited) return;
  if (worker_error_.empty()) worker_error_ = worker_error;
  Stop(grace, worker_error);
}

void TaskRunner::Disown() {
  disowned_ = true;
  publications_->Revoke("denied: the coordinator no longer runs this attempt here");
}

void TaskRunner::Vacate(absl::Duration grace, const std::string& reason) {
  if (state_ == State::kExited) return;
  ReadEvents(SteadyNow());  // what it has done by now
  vacated_ = worker_error_.empty();
  if (!IsTraining()) return Fail(grace, reason);
  // It saves a checkpoint first, if that is done in time.
  if (worker_error_.empty()) worker_error_ = reason;
  trainer::v1::Command command;
  command.set_command_id("vacate");
  command.mutable_pause();
  ranks_.Send(command);
  const absl::Time now = SteadyNow();
  stop_at_ = now + grace - std::min(grace / 5, absl::Seconds(1));
  kill_at_ = std::min(kill_at_.value_or(absl::InfiniteFuture()), now + grace);
}

bool TaskRunner::IsTraining() const {
  const worker::v1::TaskStatus status = converter_.Status(SteadyNow());
  return record_.prepare().kind() == trainer::v1::TASK_KIND_TRAIN && status.step() > 0;
}

void TaskRunner::EnforceStop(absl::Time now) {
  if (state_ != State::kRunning) return;
  if (stop_at_ && now >= *stop_at_) {
    stop_at_.reset();
    Stop(*kill_at_ - now, worker_error_);
  }
  if (!kill_at_ && ranks_.AnyFailed() && !ranks_.AllGone()) {
    trainer::v1::Command command;
    command.set_command_id("gang-failed");
    command.mutable_stop()->set_grace_seconds(absl::ToDoubleSeconds(kGangGrace));
    command.mutable_stop()->set_reason("another rank failed");
    ranks_.Send(command);
    kill_at_ = now + kGangGrace;
  }
  if (kill_at_ && now >= *kill_at_) ranks_.Kill();
}

worker::v1::TaskStatus TaskRunner::Status(absl::Time now) const {
  worker::v1::TaskStatus status = converter_.Status(now);
  *status.mutable_ref() = ref();
  return status;
}

worker::v1::OwnedTask TaskRunner::Owned() const {
  worker::v1::OwnedTask owned;
  *owned.mutable_ref() = ref();
  owned.set_phase(converter_.Status(SteadyNow()).phase());
  owned.set_last_event_seq(spool_->last_seq());
  owned.set_running(running());
  return owned;
}

}  // namespace liger::agent
