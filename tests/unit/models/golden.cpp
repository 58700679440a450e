#include "tests/unit/models/golden.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <stdexcept>

#include "tests/paths.h"
#include "worker/trainer/loop/model_setup.h"
#include "worker/trainer/models/registry.h"
#include "worker/trainer/models/weights.h"

namespace liger::trainer::golden {

std::string Folder(const std::string& name) { return SourceDir() + "/tests/golden/models/" + name; }

std::vector<std::string> TinyCases() {
  std::vector<std::string> cases;
  for (const auto& entry : std::filesystem::directory_iterator(Folder("tiny"))) {
    cases.push_back(entry.path().filename());
  }
  std::sort(cases.begin(), cases.end());
  return cases;
}

nlohmann::json ReadJson(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path);
  return nlohmann::json::parse(file);
}

liger::v1::KernelSpec Kernels(const std::string& name) {
  liger::v1::KernelSpec spec;
  liger::v1::KernelMode mode;
  if (liger::v1::KernelMode_Parse("KERNEL_MODE_" + name, &mode)) {
    spec.set_mode(mode);
    return spec;
  }
  spec.set_mode(liger::v1::KERNEL_MODE_CUSTOM);
  const auto* field = liger::v1::KernelSpec::descriptor()->FindFieldByName(name);
  if (!field) throw std::runtime_error("no kernel switch " + name);
  spec.GetReflection()->SetBool(&spec, field, true);
  return spec;
}

std::shared_ptr<CausalLM> LoadModel(const std::string& folder, const std::string& kernels) {
  auto model = BuildModel(ModelConfig::FromFolder(folder), Kernels(kernels));
  LoadWeights(*model, folder);
  return model;
}

namespace {

Example ToExample(const nlohmann::json& sequence) {
  return {sequence.at("input_ids").get<std::vector<int32_t>>(),
          sequence.at("labels").get<std::vector<int32_t>>()};
}

Batch AllRows(const ExampleSet& set) {
  std::vector<int64_t> rows(set.num_rows());
  std::iota(rows.begin(), rows.end(), 0);
  return MakeBatch(set, rows);
}

}  // namespace

Batch SftBatch(const nlohmann::json& sequences) {
  ExampleSet set;
  for (const auto& sequence : sequences) set.sequences.push_back(ToExample(sequence));
  return AllRows(set);
}

Batch PairBatch(const nlohmann::json& pairs) {
  ExampleSet set;
  set.kind = RowKind::kPair;
  for (const auto& pair : pairs) {
    set.sequences.push_back(ToExample(pair.at("chosen")));
    set.sequences.push_back(ToExample(pair.at("rejected")));
  }
  return AllRows(set);
}

Batch LabelledBatch(const nlohmann::json& rows) {
  ExampleSet set;
  set.kind = RowKind::kLabelled;
  for (const auto& row : rows) {
    set.sequences.push_back(ToExample(row));
    set.desirable.push_back(row.at("label").get<bool>());
  }
  return AllRows(set);
}

LossOutput WholeStep(Objective& objective, CausalLM& model, const Batch& batch) {
  const StepCounts counts = objective.Count(batch);
  StepContext context;
  context.loss_tokens = counts.loss_tokens;
  context.rows = counts.rows;
  return objective.Forward(model, batch, context);
}

double RelativeError(const at::Tensor& actual, const at::Tensor& expected) {
  const at::Tensor exact = expected.to(at::kDouble);
  return ((actual.to(at::kDouble) - exact).norm() / exact.norm()).item<double>();
}

Trainee::Trainee(Objective& objective, CausalLM& model, const AdamWOptions& options,
                 const PrecisionPlan& precision)
    : parameters_(NamedLeaves(model), precision),
      optimizer_(parameters_, options, precision, /*seed=*/0),
      strategy_(MakeSingle()),
      parts_{model, objective, parameters_, optimizer_, *strategy_, stop_} {}

StepResult Trainee::Step(const std::vector<Batch>& micro_batches, double learning_rate,
                         double max_grad_norm) {
  return RunStep(parts_, micro_batches, ++step_, learning_rate, max_grad_norm);
}

std::vector<std::map<std::string, double>> Train(Objective& objective, CausalLM& model,
                                                 const std::vector<Batch>& batches, double lr) {
  Trainee trainee(objective, model);
  std::vector<std::map<std::string, double>> history;
  for (const Batch& batch : batches) {
    history.push_back(trainee.Step({batch}, lr, /*max_grad_norm=*/0).metrics.Means());
  }
  return history;
}

}  // namespace liger::trainer::golden
