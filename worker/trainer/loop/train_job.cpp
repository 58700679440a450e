#include "worker/trainer/loop/train_job.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>

#include <cmath>
#include <future>
#include <iostream>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "common/file.h"
#include "common/spec/spec.h"
#include "kernels/path.h"
#include "worker/trainer/error.h"
#include "worker/trainer/loop/data_counts.h"
#include "worker/trainer/loop/evaluate.h"
#include "worker/trainer/loop/failure.h"
#include "worker/trainer/loop/input_warnings.h"
#include "worker/trainer/loop/input_watch.h"
#include "worker/trainer/loop/job_length.h"
#include "worker/trainer/loop/output_check.h"
#include "worker/trainer/loop/publish.h"
#include "worker/trainer/loop/random_state.h"
#include "worker/trainer/loop/sample.h"
#include "worker/trainer/loop/step_profile.h"
#include "worker/trainer/loop/strategy_choice.h"

namespace liger::trainer {
namespace {

namespace tv1 = liger::trainer::v1;

void MakeAttemptFolder(const std::string& path) {
  const absl::Status status = MakeFolders(path);
  if (status.ok()) return;
  throw TrainerError(liger::v1::FAILURE_CLASS_STORAGE, std::string(status.message()),
                     "make the folder writable, or free space")
      .File(path);
}

}  // namespace

TrainJob::TrainJob(const Request& request, std::unique_ptr<Strategy> strategy, Reporter& reporter,
                   const StopFlag& stop, CheckpointRequests& checkpoint_requests)
    : request_(request),
      reporter_(reporter),
      stop_(stop),
      checkpoint_requests_(checkpoint_requests),
      strategy_(std::move(strategy)),
      best_(request.spec().training()) {}

std::optional<int64_t> TrainJob::Run() {
  // What is said of a checkpoint comes before the end.
  const absl::Cleanup finish = [this] {
    if (writing_.valid()) writing_.wait();
  };
  try {
    RunOrExplain();
  } catch (...) {
    LeaveEarly(FarewellOf(std::current_exception()));
    throw;
  }
  strategy_->Leave(Farewell::Done());
  return paused_after_;
}

void TrainJob::LeaveEarly(const Farewell& farewell) {
  // Its shards may never come, and from here on nobody watches who is there.
  if (checkpoints_) checkpoints_->GiveUp();
  strategy_->Leave(farewell);
}

void TrainJob::RunOrExplain() {
  try {
    RunToEnd();
  } catch (...) {
    // Where ranks share parameters or tokens every pass may fail for another rank's sake.
    if (strategy_->passes_together()) strategy_->Explain(std::current_exception());
    throw;
  }
}

void TrainJob::RunToEnd() {
  RequireSameRun();
  MakeAttemptFolder(request_.launch.attempt_dir());
  if (strategy_->leads()) RequireWritableOutput(request_);
  const std::optional<ResumePoint> from = FindStart();
  if (strategy_->leads()) {
    metrics_log_ = std::make_unique<MetricsLog>(request_.launch.attempt_dir() + "/metrics.jsonl",
                                                from ? from->dir + "/metrics.jsonl" : "");
  }
  Load();
  PrepareTraining();
  if (strategy_->leads() && training().max_steps() <= 0) {
    for (const auto& warning : LengthWarnings(request_.spec(), max_steps_)) reporter_.Warn(warning);
  }
  if (from) Resume(*from);
  RequireSameInputs();
  if (strategy_->leads()) LookForRoom();
  if (first_step_ == 1) {
    SampleAt(0);
    if (training().eval_on_start()) EvaluateAt(0);
  }
  Train();
  if (paused_after_) return;
  TakeBest();
  SampleAt(last_step_);
  Save();
}

void TrainJob::LookForRoom() {
  try {
    checkpoints_->RequireRoom(max_steps_ - first_step_ + 1);
  } catch (const TrainerError& error) {
    // One that was lost or paused would have gone on, had it not been; there may be room by then.
    const bool goes_on = !request_.launch.resume_from().empty();
    if (!goes_on || error.failure().class_() != liger::v1::FAILURE_CLASS_STORAGE) throw;
    reporter_.Warn("LittleRoom", "output.uri",
                   absl::StrCat(error.what(), "; the job goes on, but its result is lost unless ",
                                "there is room at its end: make room there"));
  }
}

std::optional<ResumePoint> TrainJob::FindStart() {
  std::vector<liger::v1::Warning> warnings;
  std::optional<ResumePoint> from = FindResumePoint(request_, *strategy_, &warnings);
  if (strategy_->leads()) {
    for (const liger::v1::Warning& warning : warnings) reporter_.Warn(warning);
    if (from) reporter_.GoesOnFrom(from->Told());
  }
  return from;
}

void TrainJob::Load() {
  reporter_.EnterPhase(tv1::PHASE_LOADING);
  if (training().deterministic()) UseDeterministicAlgorithms();
  device_ = Device::Open(request_.spec().resources().device_kind(), strategy_->rank().local_rank);
  strategy_->OpenDevice(device_->torch());
  at::manual_seed(static_cast<uint64_t>(training().seed()));  // after Open: asks for accelerators
  reporter_.Ready(device_->description(), {});
  precision_ = ResolvePrecision(training(), device_->on_gpu());
  paths_ = InputPaths::Resolve(request_);
  InputWatch watch(request_.spec(), paths_);  // before the first is read
  reporter_.TellAtEnd([watch] { return watch.Unchanged(); });
  RequireDigests(request_.spec(), paths_);
  config_ = ModelConfig::FromFolder(paths_.model_dir);
  RequireHeadsForAllRanks(request_.spec().parallel(), config_);

  auto data = std::async(std::launch::async, [this] {
    text_ = TextInputs::Load(paths_);
    return LoadData(request_, paths_, config_, text_);
  });
  trainable_ = strategy_->sharded()
                   ? MakeShardedModel(request_.spec(), paths_.model_dir, precision_, *device_,
                                      paths_.adapter_dir, *strategy_)
                   : MakeTrainableModel(request_.spec(), paths_.model_dir, precision_, *device_,
                                        paths_.adapter_dir);
  trainable_.model->set_sequence_group(strategy_->sequence_group());
  // Noise (dropout, NEFTune) is another one on each rank.
  if (!strategy_->leads()) SeedRank(static_cast<uint64_t>(training().seed()), strategy_->rank());
  reporter_.EnterPhase(tv1::PHASE_TOKENIZING);
  dataset_ = data.get();
  watch.AddText(text_);
  reporter_.TellAtEnd([watch] { return watch.Unchanged(); });
  RequireSamplesFit(training(), *text_.tokenizer, text_.template_or_null(),
                    config_.max_position_embeddings);
  if (strategy_->leads()) WarnAboutInputs();
}

void TrainJob::WarnAboutInputs() {
  for (const auto& warning : SpecWarnings(request_.spec())) reporter_.Warn(warning);
  if (const auto warning = PrecisionWarning(precision_)) reporter_.Warn(*warning);
  for (const std::string& line : dataset_.notes) std::cout << line << std::endl;
  for (const std::string& line : DescribeData(dataset_)) std::cout << line << std::endl;
  for (const auto& warning : DataWarnings(dataset_)) reporter_.Warn(warning);
  for (const auto& warning : ModelWarnings(config_, training())) reporter_.Warn(warning);
  for (const auto& warning :
       AdapterWarnings(request_.spec().model(), paths_.model_dir, paths_.adapter_dir)) {
    reporter_.Warn(warning);
  }
}

void TrainJob::PrepareTraining() {
  objective_ = MakeObjective(request_.spec());
  if (objective_->NeedsReference() && !objective_->PrecomputesReference()) {
    const auto reference = MakeReference(request_.spec(), trainable_);
    reference->set_sequence_group(strategy_->sequence_group());
    objective_->SetReference(reference, MixerOf(trainable_));
  }
  model_identity_ = Identity();
  optimizer_ = MakeOptimizer(training(), *trainable_.parameters, precision_);
  strategy_->Attach(*trainable_.parameters, FinishedBeforeBackward(parts()));
  checkpoints_ = std::make_unique<Checkpoints>(request_, trainable_, *optimizer_, precision_,
                                               paths_.model_dir, objective_->MovingReference());
  const BatchOptions options =
      TrainBatchOptions(request_.spec(), strategy_->data_rank(), strategy_->data_ranks());
  batches_ = std::make_unique<BatchIterator>(dataset_.train, options);
  eval_batches_ = EvalBatches(dataset_.eval, training().per_device_eval_batch_size(), options.rank,
                              options.world_size);
  max_steps_ =
      TotalSteps(training(), batches_->steps_per_epoch(training().gradient_accumulation_steps()));
  schedule_ = LrSchedule::FromSpec(training(), max_steps_);
  best_.SetRows(dataset_.eval_stats);
  SetUpReference();
}

StepParts TrainJob::parts() {
  return {*trainable_.model, *objective_, *trainable_.parameters, *optimizer_, *strategy_, stop_,
          [this] { checkpoints_->BeforeUpdate(); }};
}

void TrainJob::Train() {
  last_step_ = first_step_ - 1;
  StopFlag::TakeSigtermAsPause(true);
  const absl::Cleanup ends = [] { StopFlag::TakeSigtermAsPause(false); };
  if (first_step_ <= max_steps_ && PausesBeforeItBegins()) {
    paused_after_ = last_step_;
    return;
  }
  for (int64_t step = first_step_; step <= max_steps_ && !best_.should_stop(); ++step) {
    reporter_.EnterPhase(tv1::PHASE_TRAINING);
    TrainOneStep(step);
    reporter_.Advance(step);
    last_step_ = step;
    if (step == first_step_) {
      ReportKernels();
      if (training().save_steps() > 0 && (strategy_->leads() || trainable_.sharding)) {
        checkpoints_->Reserve(best_.load_best() && !trainable_.sharding);
      }
    }
    const bool last = step == max_steps_;
    if (last || step % training().logging_steps() == 0) LogStep(step);
    const int64_t eval = training().eval_steps(), save = training().save_steps();
    const bool saves = save > 0 && step % save == 0;
    if (last || saves) {
      std::optional<HoldsUpSteps> held;
      if (saves) held.emplace(save_stall_);
      RequireFiniteParameters(step);
    }
    if (!last && eval > 0 && step % eval == 0) {
      EvaluateAt(step);
      SampleAt(step);
    }
    if (last) EvaluateAt(step);
    // Nothing is held up any more.
    const bool over = last || best_.should_stop();
    if (saves && checkpointed_step_ != step && (over || !LeavesOut(step))) {
      SaveCheckpoint(step, /*best=*/false);
    }
    if (ActOnRequests(step)) {
      paused_after_ = step;
      return;
    }
  }
  AwaitWriting();
  saved_step_ = last_step_;
  // Where nothing was left to train.
  if (last_step_ == max_steps_) EvaluateAt(max_steps_);
}

void TrainJob::TrainOneStep(int64_t step) {
  RequireWriterIsWell();
  const absl::Time begin = absl::Now();
  const double waited = strategy_->WaitedSeconds();
  std::vector<Batch> micro_batches = batches_->NextStep(training().gradient_accumulation_steps());
  if (precomputed_) precomputed_->AttachToStep(micro_batches, *batches_, step);
  const absl::Time start = absl::Now();
  const double learning_rate = schedule_->LearningRate(step - 1);
  const StepProfile profile(step, device_->on_gpu());
  const StepResult result =
      RunStep(parts(), micro_batches, step, learning_rate, training().max_grad_norm());
  objective_->AfterStep(*trainable_.model, step);
  device_->Synchronize();
  double flops = 0;
  for (const Batch& batch : micro_batches) flops += flops_->Of(batch) / strategy_->sequence_size();
  save_stall_.Add(absl::Seconds(checkpoints_->TakeHeldUpSeconds()));
  const absl::Time end = absl::Now();
  progress_.AddStep(result, learning_rate, end - start, flops);
  own_seconds_ = result.device_seconds.value_or(absl::ToDoubleSeconds(end - begin) -
                                                (strategy_->WaitedSeconds() - waited));
}

void TrainJob::LogStep(int64_t step) {
  const double epoch = batches_->epoch_progress();
  Progress::Logged logged = progress_.TakeLogged(epoch);
  const std::map<std::string, int64_t> peaks = PeakMemory();
  AddDeviceMetrics(peaks, logged.values);
  std::map<std::string, double> line = logged.values;
  line["step_seconds"] = logged.step_seconds;
  line["tokens_per_second"] = logged.tokens_per_second;
  if (const absl::Duration stall = save_stall_.Take(); stall > absl::ZeroDuration()) {
    line["save_stall_seconds"] = absl::ToDoubleSeconds(stall);
  }
  Record(step, line);
  if (logged.values.contains("loss")) last_loss_ = logged.values.at("loss");

  tv1::Step event;
  event.set_step(step);
  event.set_max_steps(max_steps_);
  event.set_epoch(epoch);
  event.set_tokens_total(progress_.tokens_total());
  event.set_step_seconds(logged.step_seconds);
  event.set_tokens_per_second(logged.tokens_per_second);
  event.mutable_values()->insert(logged.values.begin(), logged.values.end());
  reporter_.Step(std::move(event));
  reporter_.Memory(peaks);
}

void TrainJob::Record(int64_t step, const std::map<std::string, double>& values) {
  if (metrics_log_) metrics_log_->Append(step, values);
}

std::map<std::string, int64_t> TrainJob::PeakMemory() {
  std::map<std::string, int64_t> peaks = device_->PeakMemoryBytes();
  std::vector<int64_t> bytes;
  for (const auto& [kind, own] : peaks) bytes.push_back(own);
  const at::Tensor most = at::tensor(bytes, at::kLong);
  strategy_->MaxAcrossRanks(most, "the memory's peaks");
  const auto* value = most.const_data_ptr<int64_t>();
  for (auto& [kind, peak] : peaks) peak = *value++;
  return peaks;
}

// tflops and mfu are a device's, the mean over ranks; mfu is of bf16 products on GPUs whose peak is
// known; memory in GiB, the peaks so far.
void TrainJob::AddDeviceMetrics(const std::map<std::string, int64_t>& peaks,
                                std::map<std::string, double>& values) {
  const at::Tensor tflops = at::tensor({values["tflops"]}, at::kDouble);
  strategy_->SumAcrossRanks(tflops, "the operations a second");
  values["tflops"] = tflops.item<double>() / strategy_->rank().world_size;
  const auto peak = PeakBf16Flops(device_->description());
  if (peak && precision_.compute == at::kBFloat16) {
    values["mfu"] = values["tflops"] * 1e12 / *peak;
  }
  for (const auto& [kind, bytes] : peaks) {
    values["memory/" + kind] = static_cast<double>(bytes) / double{1 << 30};
  }
}

void TrainJob::EvaluateAt(int64_t step) {
  if (eval_batches_.empty() || last_evaluated_step_ == step) return;
  reporter_.EnterPhase(tv1::PHASE_EVALUATING);
  const std::map<std::string, double> values =
      Evaluate(*trainable_.model, *objective_, eval_batches_, *strategy_, stop_);
  last_evaluated_step_ = step;
  const auto loss = values.find("eval_loss");
  if (loss != values.end() && !std::isfinite(loss->second)) {
    throw NotFinite("eval_loss", loss->second, step);
  }
  Record(step, values);
  if (loss != values.end()) eval_losses_.push_back(loss->second);
  reporter_.Eval(step, values);
  if (step == 0) return best_.RequireMetric(values);  // before training, not after
  KeepIfBest(step, values);
}

void TrainJob::SampleAt(int64_t step) {
  if (training().sample_prompts().empty()) return;
  // The other ranks go on to the next sum over ranks and wait there, unless every pass needs them.
  if (!strategy_->leads() && !strategy_->sharded()) return;
  reporter_.EnterPhase(tv1::PHASE_SAMPLING);
  const auto stop_tokens = StopTokens(paths_.model_dir, config_, *text_.tokenizer);
  for (const std::string& prompt : training().sample_prompts()) {
    stop_.Check();
    reporter_.Sample(step, prompt,
                     AnswerGreedily(*trainable_.model, *text_.tokenizer, text_.template_or_null(),
                                    prompt, training().sample_max_new_tokens(), stop_tokens,
                                    AgreedToken()));
  }
}

// Passes of all ranks end together: all take the token that rank 0 finds.
AgreeOnToken TrainJob::AgreedToken() {
  if (!strategy_->sharded()) return nullptr;
  return [this](int64_t token) {
    const at::Tensor first = at::tensor({strategy_->leads() ? token : int64_t{0}}, at::kLong);
    strategy_->SumAcrossRanks(first, "the next token of a sample");
    return first.item<int64_t>();
  };
}

void TrainJob::ReportKernels() {
  std::vector<liger::v1::KernelRan> kernels;
  for (const auto& [op, path] : kernels::PathsRan()) {
    liger::v1::KernelRan ran;
    ran.set_op(std::string(op));
    ran.set_path(std::string(kernels::PathName(path)));
    kernels.push_back(std::move(ran));
  }
  reporter_.Ready(device_->description(), kernels);
}

}  // namespace liger::trainer
