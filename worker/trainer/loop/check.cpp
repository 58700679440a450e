#include "worker/trainer/loop/check.h"

#include <algorithm>
#include <functional>
#include <map>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/spec/metric_names.h"
#include "common/spec/row_counts.h"
#include "common/spec/spec.h"
#include "common/spec/violations.h"
#include "worker/trainer/error.h"
#include "worker/trainer/loop/best_model.h"
#include "worker/trainer/loop/data_counts.h"
#include "worker/trainer/loop/failure.h"
#include "worker/trainer/loop/input_warnings.h"
#include "worker/trainer/loop/inputs.h"
#include "worker/trainer/loop/job_length.h"
#include "worker/trainer/loop/lora_setup.h"
#include "worker/trainer/loop/model_identity.h"
#include "worker/trainer/loop/model_settings.h"
#include "worker/trainer/loop/output_check.h"
#include "worker/trainer/loop/resume_point.h"
#include "worker/trainer/loop/sample.h"
#include "worker/trainer/loop/sharded_setup.h"
#include "worker/trainer/loop/strategy_choice.h"
#include "worker/trainer/models/registry.h"
#include "worker/trainer/models/weights.h"
#include "worker/trainer/objectives/objective.h"
#include "worker/trainer/optim/precision.h"

namespace liger::trainer {
namespace {

namespace tv1 = liger::trainer::v1;

// Runs checks by name and keeps what they find.
class Checks {
 public:
  Checks(tv1::CheckResult& result, const StopFlag& stop) : result_(result), stop_(stop) {}

  // True when it passed. `field` is blamed when the error names none of the job.
  bool Run(const std::string& name, const std::string& field, const std::function<void()>& check) {
    stop_.Check();
    result_.add_checks_run(name);
    try {
      check();
      return true;
    } catch (...) {
      const liger::v1::Failure failure = FailureFromException(std::current_exception());
      *result_.add_violations() = ToViolation(failure, field);
      return false;
    }
  }
  void Skip(const std::string& name) { result_.add_checks_skipped(name); }
  void Warn(const std::vector<liger::v1::Warning>& warnings) {
    result_.mutable_warnings()->Add(warnings.begin(), warnings.end());
  }

 private:
  tv1::CheckResult& result_;
  const StopFlag& stop_;
};

void CheckSettings(Checks& checks, const liger::v1::JobSpec& spec) {
  const bool on_gpu = spec.resources().device_kind() == liger::v1::DEVICE_KIND_CUDA;
  checks.Warn(SpecWarnings(spec));
  checks.Run("precision", "training.precision", [&] {
    const auto warning = PrecisionWarning(ResolvePrecision(spec.training(), on_gpu));
    if (warning) checks.Warn({*warning});
  });
  checks.Run("method", "method", [&] { MakeObjective(spec); });
}

void CheckOutput(Checks& checks, const Request& request) {
  const std::string& output = request.launch.output_dir();
  if (output.empty()) return;  // nobody publishes
  checks.Run("output", "output.uri", [&] {
    RequireFreeOutput(output, request.spec());
    RequireWritableOutput(request);
  });
}

// What an adapter changes of the model, and that it fits.
void CheckLora(Checks& checks, const Request& request, const InputPaths& paths,
               const ModelConfig& config, tv1::CheckResult& result) {
  checks.Run("lora", "lora", [&] {
    const auto model = BuildModel(config, request.spec().kernels(), at::kMeta);
    const LoraSetup lora = LoraSetup::Find(request.spec().lora(), paths.adapter_dir, *model);
    checks.Warn(AdapterWarnings(request.spec().model(), paths.model_dir, paths.adapter_dir));
    (*result.mutable_stats())["trained_parameters"] = TrainableNumel(*model, lora.targets);
  });
}

// The one name that hangs on the model.
void CheckBestMetric(Checks& checks, const liger::v1::TrainingSpec& training,
                     const ModelConfig& config) {
  if (!training.metric_for_best_model().ends_with(kRouterLossMetric)) return;
  checks.Run("best metric", "training.metric_for_best_model", [&] {
    if (config.router_aux_loss_coef != 0) return;
    throw ConfigError("training.metric_for_best_model: the model has no aux_loss",
                      "use loss, or set output_router_logits in the model's config.json")
        .Field("training.metric_for_best_model");
  });
}

// Of all, as PEFT counts them: the model's and the adapters'.
void NoteTrained(bool lora, tv1::CheckResult& result) {
  const int64_t parameters = CountOf(result.stats(), "parameters");
  const int64_t adapters = CountOf(result.stats(), "trained_parameters");
  if (parameters == 0 || (lora && adapters == 0)) return;  // a check failed
  if (!lora) {
    result.add_notices(absl::StrCat("trained parameters: all ", parameters));
    return;
  }
  const int64_t all = parameters + adapters;
  result.add_notices(
      absl::StrFormat("trained parameters: %d of %d (%.3g %%)", adapters, all,
                      100 * static_cast<double>(adapters) / static_cast<double>(all)));
}

// True when the config could be read.
bool CheckModel(Checks& checks, const Request& request, const InputPaths& paths,
                ModelConfig& config, tv1::CheckResult& result) {
  const std::string& model_dir = paths.model_dir;
  const bool lora = request.spec().has_lora();
  if (!checks.Run("model config", "model", [&] { config = ModelConfig::FromFolder(model_dir); })) {
    checks.Skip("weights");
    if (lora) checks.Skip("lora");
    return false;
  }
  checks.Warn(ModelWarnings(config, request.spec().training()));
  CheckBestMetric(checks, request.spec().training(), config);
  const auto& parallel = request.spec().parallel();
  if (parallel.sequence_parallel_size() > 1) {
    checks.Run("query heads", "parallel.sequence_parallel_size",
               [&] { RequireHeadsForAllRanks(parallel, config); });
  }
  if (lora) CheckLora(checks, request, paths, config, result);
  checks.Run("weights", "model", [&] {
    const auto model = BuildModel(config, request.spec().kernels(), at::kMeta);
    ApplyCheckpointing(request.spec().training(), *model);
    int64_t parameters = 0;
    for (const auto& parameter : model->parameters()) parameters += parameter.numel();
    (*result.mutable_stats())["parameters"] = parameters;
    if (!request.spec().model().random_init()) CheckWeights(*model, model_dir);
  });
  NoteTrained(lora, result);
  return true;
}

// What each device is predicted to hold: the coordinator, which knows the devices, judges it.
void CheckMemory(Checks& checks, const Request& request, tv1::CheckResult& result) {
  if (!result.violations().empty()) return checks.Skip("memory");
  checks.Run("memory", "parallel", [&] { NeedsOf(request).AddTo(result.mutable_stats()); });
}

void AddFormats(const std::vector<std::string>& names, const liger::v1::DatasetSpec& spec,
                tv1::CheckResult& result) {
  for (const std::string& name : names) {
    const int i = result.formats_size();
    result.add_formats(names.size() == 1 ? name
                                         : absl::StrCat(name, " of ", spec.sources(i).uri()));
  }
}

void WarnNothingToTrain(Checks& checks, const std::string& field, const std::string& why) {
  liger::v1::Warning warning;
  warning.set_code("NothingToTrain");
  warning.set_field(field);
  warning.set_message(why);
  checks.Warn({warning});
}

// Of a run that goes on from a checkpoint and ends at `last_step`.
void CheckLength(Checks& checks, const liger::v1::TrainingSpec& training, const ResumePoint& resume,
                 int64_t last_step) {
  const std::string field = LengthField(training);
  if (resume.state.step == last_step) {
    WarnNothingToTrain(checks, field,
                       absl::StrCat("the checkpoint ", resume.dir, " is at step ", last_step,
                                    ", where the job ends: it trains nothing; raise ", field));
  }
  resume.state.RequireNotPast(last_step, field, resume.dir);
}

// What the run's evaluations so far mean to this job.
void CheckBest(Checks& checks, const liger::v1::TrainingSpec& training, const ResumePoint& resume,
               const Dataset& dataset) {
  BestModel best(training);
  if (dataset.eval_stats.rows > 0 && dataset.unread_rows + dataset.unread_eval_rows == 0) {
    best.SetRows(dataset.eval_stats);
  }
  if (const auto warning = IncomparableBest(best, resume)) return checks.Warn({*warning});
  best.Restore(resume.state.best);
  if (!best.should_stop()) return;
  WarnNothingToTrain(
      checks, "training.early_stopping_patience",
      absl::StrCat("the run of ", resume.dir, " was stopped early at step ", resume.state.step,
                   ": the job trains nothing; raise "
                   "training.early_stopping_patience, or leave it out"));
}

// Whether its rows are those of the run, as far as all were read, and its tokenizer is.
void CheckSameText(Checks& checks, const ResumePoint& resume, const std::string& model_dir,
                   const Dataset& dataset) {
  const std::map<std::string, std::string> files = TextFilesOf(model_dir);
  if (dataset.unread_rows + dataset.unread_eval_rows == 0) {
    resume.state.RequireSameData(dataset.train_stats, resume.dir,
                                 resume.state.ChangedTextFile(files, model_dir));
  }
  if (const auto warning = ChangedTokenizer(resume, files, model_dir)) checks.Warn({*warning});
}

// Optimizer steps that go through all training rows, with as many ranks as there will be, which of
// an elastic job nobody knows: 0.
int64_t EpochSteps(const liger::v1::JobSpec& spec, const ExampleSet& rows) {
  if (spec.parallel().elastic() || rows.num_rows() == 0) return 0;
  const int64_t ranks = std::max<int64_t>(1, spec.resources().count()) /
                        std::max<int64_t>(1, spec.parallel().sequence_parallel_size());
  return StepsPerEpoch(rows, TrainBatchOptions(spec, 0, ranks),
                       spec.training().gradient_accumulation_steps());
}

// Of a job all of whose rows were read.
void CheckEpochs(Checks& checks, const liger::v1::JobSpec& spec,
                 const std::optional<ResumePoint>& resume, const Dataset& dataset,
                 tv1::CheckResult& result) {
  for (const std::string& line : DescribeMix(dataset.train, spec.dataset())) {
    result.add_notices(line);
  }
  const int64_t epoch = EpochSteps(spec, dataset.train);
  if (epoch == 0) return;
  const int64_t steps = TotalSteps(spec.training(), epoch);
  (*result.mutable_stats())["steps_per_epoch"] = epoch;
  (*result.mutable_stats())["steps"] = steps;
  result.add_notices(DescribeLength(spec.training(), epoch));
  if (spec.training().max_steps() > 0) return;  // which is checked without the rows
  checks.Warn(LengthWarnings(spec, steps));
  if (resume) CheckLength(checks, spec.training(), *resume, steps);
}

void CheckData(Checks& checks, const Request& request, const InputPaths& paths,
               const ModelConfig& config, const TextInputs& text,
               const std::optional<ResumePoint>& resume, tv1::CheckResult& result) {
  checks.Run("data", "dataset", [&] {
    const Dataset dataset = LoadData(request, paths, config, text);
    checks.Warn(DataWarnings(dataset));
    if (resume) CheckSameText(checks, *resume, paths.model_dir, dataset);
    if (dataset.unread_rows == 0) {
      CheckEpochs(checks, request.spec(), resume, dataset, result);
    }
    if (resume) CheckBest(checks, request.spec().training(), *resume, dataset);
    AddFormats(FormatNames(dataset), request.spec().dataset(), result);
    AddCounts("", dataset.train_stats, result.mutable_stats());
    if (dataset.train.kind == RowKind::kLabelled && dataset.unread_rows == 0) {
      auto& counts = *result.mutable_stats();
      counts["desirable_rows"] = std::ranges::count(dataset.train.desirable, 1);
      counts["undesirable_rows"] = std::ranges::count(dataset.train.desirable, 0);
    }
    auto& stats = *result.mutable_stats();
    if (dataset.eval.num_rows() > 0) AddCounts(kEvalRows, dataset.eval_stats, &stats);
    if (dataset.unread_rows > 0) stats["unread_rows"] = dataset.unread_rows;
    if (dataset.unread_eval_rows > 0) stats["eval_unread_rows"] = dataset.unread_eval_rows;
  });
}

}  // namespace

tv1::CheckResult CheckJob(const Request& request, const StopFlag& stop) {
  tv1::CheckResult result;
  Checks checks(result, stop);
  result.add_checks_run("spec");  // valid, or there would be no request
  CheckSettings(checks, request.spec());
  CheckOutput(checks, request);

  InputPaths paths;
  if (!checks.Run("paths", "model", [&] { paths = InputPaths::Resolve(request); })) {
    for (const char* name : {"model config", "weights", "memory", "tokenizer", "generation config",
                             "sample prompts", "data"}) {
      checks.Skip(name);
    }
    return result;
  }
  std::optional<ResumePoint> resume;
  if (!request.spec().training().resume_from_checkpoint().empty()) {
    checks.Run("checkpoint", "training.resume_from_checkpoint", [&] {
      std::vector<liger::v1::Warning> of_checkpoints;
      resume = FindResumePoint(request, *MakeSingle(), &of_checkpoints);
      checks.Warn(of_checkpoints);
      const int64_t max_steps = request.spec().training().max_steps();
      if (max_steps > 0) CheckLength(checks, request.spec().training(), *resume, max_steps);
    });
  }
  checks.Run("digests", "model.digest", [&] { RequireDigests(request.spec(), paths); });
  ModelConfig config;
  TextInputs text;
  const bool has_config = CheckModel(checks, request, paths, config, result);
  if (has_config && resume) {
    checks.Run("checkpoint's model", "training.resume_from_checkpoint", [&] {
      const auto model = BuildModel(config, request.spec().kernels(), at::kMeta);
      resume->state.RequireSameShapes(ShapesDigest(*model), resume->dir);
      resume->state.RequireSameSettings(SettingsOf(config), paths.model_dir, resume->dir);
    });
  }
  CheckMemory(checks, request, result);
  const bool has_text = checks.Run("tokenizer", "model", [&] { text = TextInputs::Load(paths); });
  if (has_config && has_text) {
    checks.Run("generation config", "model",
               [&] { StopTokens(paths.model_dir, config, *text.tokenizer); });
    checks.Run("sample prompts", "training.sample_prompts", [&] {
      RequireSamplesFit(request.spec().training(), *text.tokenizer, text.template_or_null(),
                        config.max_position_embeddings);
    });
    CheckData(checks, request, paths, config, text, resume, result);
  } else {
    for (const char* name : {"generation config", "sample prompts", "data"}) checks.Skip(name);
  }
  return result;
}

}  // namespace liger::trainer
