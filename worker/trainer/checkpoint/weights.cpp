#include "worker/trainer/checkpoint/weights.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <utility>

#include "worker/trainer/checkpoint/adapter_folder.h"
#include "worker/trainer/checkpoint/safetensors_header.h"
#include "worker/trainer/checkpoint/saved_tensors.h"
#include "worker/trainer/error.h"
#include "worker/trainer/json_file.h"
#include "worker/trainer/ticks.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr char kSingle[] = "model.safetensors";
constexpr char kBasePrefix[] = "model.";
constexpr char kIndex[] = "model.safetensors.index.json";
// Tensors of one kind of mismatch that a message names.
constexpr size_t kNamedTensors = 4;

TrainerError NoWeights(const std::string& dir) {
  if (fs::exists(fs::path(dir) / kShardsFile)) {
    return ConfigError(dir + " is a training checkpoint that several ranks have written, no model",
                       "Name it in training.resume_from_checkpoint; with training.max_steps at its "
                       "step the job writes its model and ends.")
        .File(dir);
  }
  std::string found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(dir, ignored)) {
    const std::string extension = entry.path().extension();
    const bool weights = extension == ".safetensors" || extension == ".bin" ||
                         extension == ".pth" || extension == ".pt" || extension == ".gguf";
    if (weights) found += (found.empty() ? "" : ", ") + entry.path().filename().string();
  }
  return ConfigError(dir + " holds no weights: neither " + kSingle + " nor " + kIndex +
                         (found.empty() ? "" : " (found " + found + ")"),
                     found.empty() ? "Put the model's safetensors files there."
                                   : "Convert the weights to safetensors (transformers: "
                                     "AutoModelForCausalLM.from_pretrained(...).save_pretrained).")
      .File(dir);
}

// The shard files of an index in order, and which tensor it says is where.
std::map<std::string, std::string> ReadWeightMap(const std::string& path) {
  const json index = ReadJsonObject(path);
  const auto it = index.find("weight_map");
  if (it == index.end() || !it->is_object() || it->empty()) {
    throw ConfigError(path + " has no weight_map", "Download or copy the model again.").File(path);
  }
  std::map<std::string, std::string> weight_map;
  for (const auto& [tensor, shard] : it->items()) {
    // A shard lies beside its index: a path could lead out of the model root.
    if (!shard.is_string() || shard.get_ref<const std::string&>().find('/') != std::string::npos) {
      throw ConfigError(
          path + ": weight_map[\"" + tensor + "\"] is " + shard.dump() + ", not a file name",
          "Download or copy the model again.")
          .File(path);
    }
    weight_map[tensor] = shard.get<std::string>();
  }
  return weight_map;
}

// "a, b, c, d and 7 more"
class NameList {
 public:
  void Add(const std::string& name) {
    if (++count_ <= kNamedTensors) text_ += (text_.empty() ? "" : ", ") + name;
  }
  bool empty() const { return count_ == 0; }
  std::string ToString() const {
    return count_ <= kNamedTensors
               ? text_
               : text_ + " and " + std::to_string(count_ - kNamedTensors) + " more";
  }

 private:
  size_t count_ = 0;
  std::string text_;
};

bool IsWeightDtype(at::ScalarType dtype) {
  constexpr std::array kWeightDtypes = {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble};
  return std::find(kWeightDtypes.begin(), kWeightDtypes.end(), dtype) != kWeightDtypes.end();
}

}  // namespace

WeightReader WeightReader::Open(const std::string& model_dir) {
  WeightReader reader;
  reader.dir_ = model_dir;
  const fs::path dir(model_dir);
  std::map<std::string, std::string> weight_map;
  std::set<std::string> shards;
  // As transformers, the single file goes before an index.
  if (fs::exists(dir / kSingle)) {
    shards.insert(kSingle);
  } else if (fs::exists(dir / kIndex)) {
    weight_map = ReadWeightMap(dir / kIndex);
    for (const auto& [tensor, shard] : weight_map) shards.insert(shard);
  } else {
    throw NoWeights(model_dir);
  }
  for (const std::string& shard : shards) reader.Add(dir / shard);
  for (const auto& [tensor, shard] : weight_map) {
    const auto it = reader.owner_.find(tensor);
    if (it == reader.owner_.end() || fs::path(it->second->path()).filename() != shard) {
      throw ConfigError((dir / kIndex).string() + " says that tensor " + tensor + " is in " +
                            shard + ", and it is not",
                        "Download or copy the model again.")
          .File(dir / kIndex);
    }
  }
  reader.AddBasePrefix();
  return reader;
}

void WeightReader::AddBasePrefix() {
  const auto based = [](const auto& item) { return item.first.starts_with(kBasePrefix); };
  if (std::any_of(owner_.begin(), owner_.end(), based) || !Has("embed_tokens.weight")) return;
  const auto stored = owner_;
  for (const auto& [name, file] : stored) {
    if (!name.starts_with("lm_head.")) Rename(name, kBasePrefix + name);
  }
}

void WeightReader::Rename(const std::string& from, const std::string& to) {
  auto owner = owner_.extract(from);
  stored_[to] = Stored(from);
  owner.key() = to;
  owner_.insert(std::move(owner));
}

const std::string& WeightReader::Stored(const std::string& name) const {
  const auto it = stored_.find(name);
  return it == stored_.end() ? name : it->second;
}

WeightReader WeightReader::OpenAdapter(const std::string& adapter_dir) {
  const fs::path path = fs::path(adapter_dir) / kAdapterWeights;
  if (!fs::exists(path)) {
    throw ConfigError(adapter_dir + " holds no " + kAdapterWeights,
                      "Name a folder that PEFT or a LoRA job has saved; convert an "
                      "adapter_model.bin with PEFT (load it, then save_pretrained).")
        .File(adapter_dir)
        .Field("lora.adapter_uri");
  }
  WeightReader reader;
  reader.dir_ = adapter_dir;
  reader.adapter_ = true;
  reader.Add(path);
  return reader;
}

void WeightReader::Add(const std::string& path) {
  auto file = SafetensorsFile::Open(path);
  for (const auto& [name, info] : file->tensors()) {
    const auto [it, inserted] = owner_.emplace(name, file.get());
    if (inserted) continue;
    throw ConfigError(
        "tensor " + name + " is in two shards: " + it->second->path() + " and " + file->path(),
        "Download or copy the model again.")
        .File(file->path());
  }
  files_.push_back(std::move(file));
}

const TensorInfo& WeightReader::Info(const std::string& name) const {
  return owner_.at(name)->tensors().at(Stored(name));
}

at::Tensor WeightReader::View(const std::string& name) const {
  return owner_.at(name)->View(Stored(name));
}

void WeightReader::CopyInto(const std::string& name, at::Tensor target) const {
  owner_.at(name)->CopyInto(Stored(name), std::move(target));
}

int64_t WeightReader::total_bytes() const {
  int64_t total = 0;
  for (const auto& [name, file] : owner_) total += Info(name).bytes();
  return total;
}

int64_t WeightReader::total_parameters() const {
  int64_t total = 0;
  for (const auto& [name, file] : owner_) {
    const TensorInfo& info = Info(name);
    total += info.bytes() / static_cast<int64_t>(c10::elementSize(info.dtype));
  }
  return total;
}

void WeightReader::Check(const std::vector<ExpectedTensor>& expected,
                         const IgnorablePredicate& ignorable) const {
  NameList missing, extra, misshapen, quantised;
  std::set<std::string> known;
  for (const ExpectedTensor& tensor : expected) {
    known.insert(tensor.name);
    if (!Has(tensor.name)) {
      missing.Add(tensor.name + " " + ShapeString(tensor.shape));
      continue;
    }
    const TensorInfo& info = Info(tensor.name);
    if (info.shape != tensor.shape) {
      misshapen.Add(tensor.name + " is " + ShapeString(info.shape) + " and the model's is " +
                    ShapeString(tensor.shape));
    }
    if (!IsWeightDtype(info.dtype)) {
      quantised.Add(tensor.name + " (" + *SafetensorsDtypeName(info.dtype) + ")");
    }
  }
  for (const auto& [name, file] : owner_) {
    if (known.count(name) != 0 || (ignorable && ignorable(name))) continue;
    extra.Add(name + " " + ShapeString(Info(name).shape));
  }
  std::string what;
  const auto add = [&what](const char* kind, const NameList& names) {
    if (!names.empty()) what += (what.empty() ? "" : "; ") + std::string(kind) + names.ToString();
  };
  add("of another shape: ", misshapen);
  add("missing: ", missing);
  add("unknown to the model: ", extra);
  add("quantised: ", quantised);
  if (what.empty()) return;
  if (adapter_) {
    throw ConfigError("the adapter in " + dir_ + " does not fit the model: " + what,
                      "Name the model that the adapter was trained for, or train a new adapter "
                      "(leave lora.adapter_uri out).")
        .File(dir_)
        .Field("lora.adapter_uri");
  }
  throw ConfigError("the weights in " + dir_ + " do not fit its config.json: " + what,
                    quantised.empty()
                        ? "Check that config.json and the weights belong to the same model and "
                          "that every shard is there."
                        : "Use weights in bf16, fp16 or fp32.")
      .File(dir_);
}

void WeightReader::LoadInto(const std::vector<NamedTensor>& targets,
                            const IgnorablePredicate& ignorable) const {
  std::vector<ExpectedTensor> expected;
  expected.reserve(targets.size());
  for (const NamedTensor& target : targets) {
    expected.push_back({target.name, target.tensor.sizes().vec()});
  }
  Check(expected, ignorable);
  for (const NamedTensor& target : targets) {
    CopyInto(target.name, target.tensor);
    Tick();
  }
}

}  // namespace liger::trainer
