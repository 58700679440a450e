#include "worker/trainer/loop/inputs.h"

#include <algorithm>

#include "common/file.h"
#include "worker/trainer/error.h"
#include "worker/trainer/loop/paths.h"

namespace liger::trainer {
namespace {

LoadOptions MakeLoadOptions(const Request& request, const InputPaths& paths,
                            const ModelConfig& config) {
  const liger::v1::JobSpec& spec = request.spec();
  LoadOptions options;
  options.method = spec.method_case();
  if (spec.has_sft() && spec.sft().has_completion_only_loss()) {
    options.completion_only_loss = spec.sft().completion_only_loss();
  }
  options.max_length = spec.training().max_length();
  options.keep_end = spec.training().truncation_mode() == "keep_end";
  options.data_seed = static_cast<uint64_t>(spec.training().data_seed());
  options.max_rows = request.launch.check_max_rows();
  options.train_path = paths.train_path;
  options.eval_path = paths.eval_path;
  options.vocab_size = config.vocab_size;
  return options;
}

void RequireDigest(const std::string& field, const std::string& expected, const std::string& file) {
  if (expected.empty()) return;
  const absl::StatusOr<std::string> actual = Sha256File(file);
  if (!actual.ok()) {
    throw ConfigError(field + ": cannot be checked: " + std::string(actual.status().message()),
                      "leave the digest out, or name a model that has a manifest.json")
        .Field(field)
        .File(file);
  }
  if (*actual == expected) return;
  throw ConfigError(field + ": " + file + " is " + *actual + ", not " + expected,
                    "the file has changed: put the right one there, or correct the digest")
      .Field(field)
      .File(file);
}

// A tokenizer may know more ids than the model has rows; using one would read
// past the embedding.
void RequireIdsBelow(int64_t vocab_size, const ExampleSet& set, const std::string& file) {
  for (size_t i = 0; i < set.sequences.size(); ++i) {
    const auto& ids = set.sequences[i].input_ids;
    const auto bad = std::find_if(ids.begin(), ids.end(),
                                  [vocab_size](int32_t id) { return id < 0 || id >= vocab_size; });
    if (bad == ids.end()) continue;
    throw DataError(file + ": token id " + std::to_string(*bad) + " is outside of the model's " +
                        std::to_string(vocab_size) + " embeddings",
                    "use the tokenizer that belongs to the model, or resize its embeddings")
        .File(file);
  }
}

}  // namespace

InputPaths InputPaths::Resolve(const Request& request) {
  const liger::v1::JobSpec& spec = request.spec();
  const auto roots = request.roots();
  InputPaths paths;
  paths.model_dir = ResolveInput(spec.model().uri(), spec.model().name(), roots, "model.name");
  paths.train_path =
      ResolveInput(spec.dataset().uri(), spec.dataset().name(), roots, "dataset.name");
  if (!spec.dataset().eval_uri().empty()) {
    paths.eval_path = ResolveInput(spec.dataset().eval_uri(), "", roots, "dataset.eval_uri");
  }
  if (!spec.lora().adapter_uri().empty()) {
    paths.adapter_dir = ResolveInput(spec.lora().adapter_uri(), "", roots, "lora.adapter_uri");
  }
  return paths;
}

void RequireDigests(const liger::v1::JobSpec& spec, const InputPaths& paths) {
  RequireDigest("model.digest", spec.model().digest(), paths.model_dir + "/manifest.json");
  RequireDigest("dataset.digest", spec.dataset().digest(), paths.train_path);
}

TextInputs TextInputs::Load(const std::string& model_dir) {
  TextInputs text;
  text.tokenizer = Tokenizer::FromFolder(model_dir);
  text.chat_template = ChatTemplate::FromFolder(model_dir);
  return text;
}

Dataset LoadData(const Request& request, const InputPaths& paths, const ModelConfig& config,
                 const TextInputs& text) {
  Dataset dataset = LoadDataset(request.spec().dataset(), MakeLoadOptions(request, paths, config),
                                *text.tokenizer, text.template_or_null());
  if (text.tokenizer->max_id() >= config.vocab_size) {
    RequireIdsBelow(config.vocab_size, dataset.train, paths.train_path);
    RequireIdsBelow(config.vocab_size, dataset.eval,
                    paths.eval_path.empty() ? paths.train_path : paths.eval_path);
  }
  return dataset;
}

}  // namespace liger::trainer
