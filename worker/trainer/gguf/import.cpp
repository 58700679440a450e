#include "worker/trainer/gguf/import.h"

#include <ATen/ATen.h>

#include <ostream>

#include "worker/trainer/checkpoint/model_folder.h"
#include "worker/trainer/checkpoint/safetensors_writer.h"
#include "worker/trainer/error.h"
#include "worker/trainer/gguf/dequantize.h"
#include "worker/trainer/gguf/folder_files.h"
#include "worker/trainer/gguf/tensor_names.h"
#include "worker/trainer/models/registry.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {
namespace {

constexpr int64_t kMaxShardBytes = 5'000'000'000;
constexpr int64_t kTextBytes = int64_t{32} << 20;     // tokenizer and config, at most
constexpr char kRopeFactors[] = "rope_freqs.weight";  // in the config

at::ScalarType ParseDtype(const std::string& dtype) {
  if (dtype == "bfloat16") return at::kBFloat16;
  if (dtype == "float16") return at::kHalf;
  if (dtype == "float32") return at::kFloat;
  throw ConfigError("--dtype " + dtype + ": is none of bfloat16, float16, float32");
}

class Importer {
 public:
  explicit Importer(const ImportGgufOptions& options)
      : options_(options),
        dtype_(ParseDtype(options.dtype)),
        file_(GgufFile::Open(options.file)),
        config_(GgufConfig(*file_)) {
    config_["torch_dtype"] = options.dtype;
    parsed_ = ModelConfig::FromJson(nlohmann::json(config_), file_->path());
    MatchTensors();
  }

  SavedFolder Run() {
    const std::map<std::string, std::string> files = options_.tokenizer_dir.empty()
                                                         ? GgufTokenizerFiles(*file_)
                                                         : std::map<std::string, std::string>();
    int64_t bytes = kTextBytes;
    for (const NamedTensor& tensor : targets_) bytes += SavedBytes(tensor, dtype_);
    OutputFolder folder(options_.output, /*overwrite=*/false, bytes);
    WriteWeights(folder, targets_, dtype_, kMaxShardBytes);
    folder.Write("config.json", config_.dump(2) + "\n");
    folder.Write("generation_config.json", GgufGenerationConfig(*file_).dump(2) + "\n");
    for (const auto& [name, content] : files) folder.Write(name, content);
    if (!options_.tokenizer_dir.empty()) {
      Tokenizer::FromFolder(options_.tokenizer_dir);  // before it is relied on
      for (const auto& [name, path] : FilesBesideWeights(options_.tokenizer_dir)) {
        if (name != "generation_config.json") folder.Copy(name, path);
      }
    }
    return folder.Commit();
  }

 private:
  [[noreturn]] void Fail(const std::string& what) const {
    throw ConfigError(file_->path() + ": " + what, "Convert the model to GGUF again.")
        .File(file_->path());
  }

  // Each parameter of the model that the config describes must be there, in its
  // shape, and nothing else.
  void MatchTensors() {
    for (const auto& [name, tensor] : file_->tensors()) {
      if (name == kRopeFactors) continue;
      const auto ours = HuggingFaceName(name);
      if (!ours) Fail("tensor " + name + " is not one of a Llama");
      sources_[*ours] = &tensor;
    }
    const auto model = BuildModel(parsed_, liger::v1::KernelSpec(), at::kMeta);
    for (const auto& parameter : model->named_parameters()) {
      const auto source = sources_.find(parameter.key());
      if (source == sources_.end()) Fail("has no tensor for " + parameter.key());
      if (source->second->shape != parameter.value().sizes().vec()) {
        Fail("tensor " + source->second->name + " is " + ShapeString(source->second->shape) +
             ", not " + ShapeString(parameter.value().sizes().vec()) +
             ", as the metadata asks for");
      }
      targets_.push_back({parameter.key(), parameter.value().detach(),
                          [this, name = parameter.key()] { return Weight(name); }});
    }
    for (const auto& [ours, tensor] : sources_) {
      if (!model->named_parameters().contains(ours)) {
        Fail("tensor " + tensor->name + " does not belong to the model of its metadata");
      }
    }
  }

  at::Tensor Weight(const std::string& name) const {
    at::Tensor weight = Dequantize(*file_, *sources_.at(name));
    if (name.find(".q_proj.") != name.npos) {
      weight = InHalves(weight, parsed_.num_attention_heads);
    } else if (name.find(".k_proj.") != name.npos) {
      weight = InHalves(weight, parsed_.num_key_value_heads);
    }
    return weight;
  }

  // llama.cpp rotates neighbouring rows of a head, transformers row i and i + R.
  static at::Tensor InHalves(const at::Tensor& weight, int64_t heads) {
    return weight.unflatten(0, {heads, -1, 2}).transpose(1, 2).flatten(0, 2).contiguous();
  }

  const ImportGgufOptions& options_;
  const at::ScalarType dtype_;
  const std::shared_ptr<const GgufFile> file_;
  nlohmann::ordered_json config_;
  ModelConfig parsed_;
  std::map<std::string, const GgufTensor*> sources_;
  std::vector<NamedTensor> targets_;  // on the meta device
};

}  // namespace

void ImportGguf(const ImportGgufOptions& options, std::ostream& out) {
  const SavedFolder saved = Importer(options).Run();
  out << saved.dir << ": " << saved.bytes << " bytes" << std::endl;
}

}  // namespace liger::trainer
