#include "worker/trainer/checkpoint/model_folder.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "common/checkpoints.h"
#include "worker/trainer/chat_template_files.h"
#include "worker/trainer/checkpoint/safetensors_writer.h"
#include "worker/trainer/json_file.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

// Names Python files that are not copied, and that a model which transformers has needs not: its
// save_pretrained drops the key too.
constexpr char kAutoMap[] = "auto_map", kTokenizerConfig[] = "tokenizer_config.json";

constexpr char kGenerationConfig[] = "generation_config.json";
// What makes up a tokenizer and its chat template.
constexpr std::array<std::string_view, 12> kTokenizerFiles = {
    "tokenizer.json",    kTokenizerConfig,  "special_tokens_map.json",
    "added_tokens.json", kChatTemplateFile, "chat_template.json",
    "vocab.json",        "vocab.txt",       "merges.txt",
    "tokenizer.model",   "spiece.model",    "sentencepiece.bpe.model"};
// A model's licence goes with every copy of it.
constexpr std::array<std::string_view, 3> kLicencePrefixes = {"LICENSE", "NOTICE", "USE_POLICY"};

// JSON text and config, and the files beside the weights: far less than this.
constexpr int64_t kSmallFilesBytes = int64_t{1} << 20;

const char* DtypeName(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return "float32";
    case at::kBFloat16:
      return "bfloat16";
    case at::kHalf:
      return "float16";
    default:
      throw std::invalid_argument("models are saved in float32, bfloat16 or float16");
  }
}

// The source's config with the dtype of what is saved: under torch_dtype, as
// transformers before 4.56 named it, where the source does, and under dtype.
ordered_json SavedConfig(const SaveModelRequest& request) {
  const at::ScalarType dtype = request.dtype;
  ordered_json config = ReadOrderedJsonObject(fs::path(request.source_dir) / "config.json");
  if (request.untied) config["tie_word_embeddings"] = false;
  config.erase(kAutoMap);
  const bool old_name = config.contains("torch_dtype");
  if (old_name) config["torch_dtype"] = DtypeName(dtype);
  if (!old_name || config.contains("dtype")) config["dtype"] = DtypeName(dtype);
  return config;
}

std::map<std::string, std::string> Copies(const SaveModelRequest& request) {
  std::map<std::string, std::string> copies = FilesBesideWeights(request.source_dir);
  for (const auto& [name, path] : request.copy_files) copies[name] = path;
  return copies;
}

std::vector<NamedTensor> WithoutTiedHead(const std::vector<NamedTensor>& tensors,
                                         const ordered_json& config) {
  std::vector<NamedTensor> kept = tensors;
  // Absent and null are untied, as ModelConfig reads them.
  const auto tied = config.find("tie_word_embeddings");
  if (tied != config.end() && *tied == true) {
    std::erase_if(kept, [](const NamedTensor& t) { return t.name == "lm_head.weight"; });
  }
  return kept;
}

}  // namespace

std::map<std::string, std::string> ChangedFiles(std::map<std::string, std::string>& copies) {
  const auto it = copies.find(kTokenizerConfig);
  if (it == copies.end()) return {};
  ordered_json config = ReadOrderedJsonObject(it->second);
  if (config.erase(kAutoMap) == 0) return {};
  copies.erase(it);
  return {{kTokenizerConfig, config.dump(2) + "\n"}};
}

int64_t BytesOf(const std::vector<NamedTensor>& tensors, std::optional<at::ScalarType> dtype,
                const std::map<std::string, std::string>& copies) {
  int64_t bytes = kSmallFilesBytes;
  for (const NamedTensor& tensor : tensors) bytes += SavedBytes(tensor, dtype);
  std::error_code error;
  for (const auto& [name, path] : copies) {
    const auto size = fs::file_size(path, error);
    if (!error) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

namespace {

// The whole folder with these weights.
int64_t BytesOf(const SaveModelRequest& request, const std::vector<NamedTensor>& tensors,
                const std::map<std::string, std::string>& copies) {
  int64_t bytes = BytesOf(tensors, request.dtype, copies);
  for (const auto& [name, file] : request.tensor_files) {
    for (const NamedTensor& tensor : file) bytes += SavedBytes(tensor, std::nullopt);
  }
  return bytes;
}

}  // namespace

std::map<std::string, std::string> TokenizerFiles(const std::string& source_dir) {
  std::map<std::string, std::string> files;
  const fs::path source(source_dir);
  for (const std::string_view name : kTokenizerFiles) {
    if (fs::is_regular_file(source / name)) files[std::string(name)] = source / name;
  }
  if (!fs::is_directory(source / kChatTemplatesFolder)) return files;
  for (const auto& entry : fs::directory_iterator(source / kChatTemplatesFolder)) {
    if (entry.is_regular_file()) {
      files[std::string(kChatTemplatesFolder) + "/" + entry.path().filename().string()] =
          entry.path();
    }
  }
  return files;
}

std::map<std::string, std::string> FilesBesideWeights(const std::string& source_dir) {
  std::map<std::string, std::string> files = TokenizerFiles(source_dir);
  const fs::path source(source_dir);
  const fs::path generation = source / kGenerationConfig;
  if (fs::is_regular_file(generation)) files[kGenerationConfig] = generation;
  for (const auto& entry : fs::directory_iterator(source)) {
    const std::string name = entry.path().filename();
    const bool licence = std::any_of(kLicencePrefixes.begin(), kLicencePrefixes.end(),
                                     [&](std::string_view p) { return name.starts_with(p); });
    if (licence && entry.is_regular_file()) files[name] = entry.path();
  }
  return files;
}

void CopyFiles(OutputFolder& folder, const std::map<std::string, std::string>& files,
               const std::map<std::string, int64_t>& bytes) {
  for (const auto& [name, path] : files) {
    const auto some = bytes.find(name);
    folder.Copy(name, path, some == bytes.end() ? std::nullopt : std::optional(some->second));
  }
}

std::string FolderInside(const std::string& dir, const std::string& file) {
  std::pair<int64_t, std::string> best = {-1, ""};
  int found = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(dir, error)) {
    if (!fs::exists(entry.path() / file, error)) continue;
    const std::string name = entry.path().filename();
    best = std::max(best, std::pair(CheckpointStep(name).value_or(0), name));
    ++found;
  }
  return best.first > 0 || found == 1 ? best.second : "";
}

json ReadModelConfig(const std::string& model_dir) {
  const fs::path dir(model_dir);
  if (!fs::exists(dir / "config.json")) {
    if (const std::string inside = FolderInside(model_dir, "config.json"); !inside.empty()) {
      throw ConfigError(model_dir + " is no model's folder: it holds no config.json",
                        "name the model's own folder: " + inside + " in it")
          .File(model_dir);
    }
  }
  if (!fs::exists(dir / "config.json") && fs::exists(dir / "adapter_config.json")) {
    throw ConfigError(model_dir + " is an adapter's folder, not a model's",
                      "name the adapter's base model as the model, and this folder as "
                      "lora.adapter_uri")
        .File((dir / "adapter_config.json").string());
  }
  return ReadJsonObject(fs::path(model_dir) / "config.json");
}

std::optional<json> ReadGenerationConfig(const std::string& model_dir) {
  const fs::path path = fs::path(model_dir) / kGenerationConfig;
  if (!fs::exists(path)) return std::nullopt;
  return ReadJsonObject(path);
}

int64_t BytesToSave(const SaveModelRequest& request) {
  const ordered_json config = SavedConfig(request);
  return BytesOf(request, WithoutTiedHead(request.tensors, config), Copies(request));
}

void WriteBesideWeights(OutputFolder& folder, const SaveModelRequest& request) {
  for (const auto& [name, file] : request.tensor_files) WriteSafetensors(folder, name, file);
  folder.Write("config.json", SavedConfig(request).dump(2) + "\n");
  std::map<std::string, std::string> copies = Copies(request);
  for (const auto& [name, content] : ChangedFiles(copies)) folder.Write(name, content);
  CopyFiles(folder, copies, request.copy_bytes);
  for (const auto& [name, content] : request.extra_files) folder.Write(name, content);
}

SavedFolder SaveModel(const SaveModelRequest& request) {
  const ordered_json config = SavedConfig(request);
  const std::vector<NamedTensor> tensors = WithoutTiedHead(request.tensors, config);
  OutputFolder folder(request.dir, request.overwrite, BytesOf(request, tensors, Copies(request)));
  if (!tensors.empty()) WriteWeights(folder, tensors, request.dtype, request.max_shard_bytes);
  WriteBesideWeights(folder, request);
  if (!request.model_card.empty()) folder.Write("README.md", request.model_card);
  return folder.Commit();
}

}  // namespace liger::trainer
