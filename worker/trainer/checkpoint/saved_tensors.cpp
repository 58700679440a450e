#include "worker/trainer/checkpoint/saved_tensors.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>

#include "worker/trainer/checkpoint/safetensors.h"
#include "worker/trainer/error.h"
#include "worker/trainer/json_file.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Files = std::vector<std::shared_ptr<const SafetensorsFile>>;
using Shapes = std::map<std::string, std::vector<int64_t>>;

constexpr int kVersion = 1;

int64_t Numel(const std::vector<int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<int64_t>());
}

class InOneFile : public SavedTensors {
 public:
  explicit InOneFile(std::shared_ptr<const SafetensorsFile> file) : file_(std::move(file)) {
    for (const auto& [name, info] : file_->tensors()) shapes_[name] = info.shape;
  }
  const Shapes& shapes() const override { return shapes_; }
  at::Tensor Range(const std::string& name, int64_t begin, int64_t count) const override {
    return file_->View(name).view(-1).narrow(0, begin, count);
  }

 private:
  const std::shared_ptr<const SafetensorsFile> file_;
  Shapes shapes_;
};

class InShards : public SavedTensors {
 public:
  InShards(Files files, ShardedTensors tensors)
      : files_(std::move(files)), tensors_(std::move(tensors)) {
    for (const auto& [name, tensor] : tensors_) shapes_[name] = tensor.shape;
  }
  const Shapes& shapes() const override { return shapes_; }
  at::Tensor Range(const std::string& name, int64_t begin, int64_t count) const override {
    const at::NoGradGuard no_grad;
    at::Tensor range;
    int64_t first = 0;  // of the file's elements
    const std::vector<int64_t>& counts = tensors_.at(name).counts;
    for (size_t i = 0; i < files_.size(); first += counts[i], ++i) {
      const int64_t from = std::max(begin, first);
      const int64_t to = std::min(begin + count, first + counts[i]);
      const bool some = from < to;
      // One without elements has a dtype, too.
      if (!some && !(count == 0 && counts[i] > 0)) continue;
      const at::Tensor part = files_[i]->View(name).narrow(0, some ? from - first : 0,
                                                           some ? to - from : 0);
      if (part.numel() == count) return part;
      if (!range.defined()) range = at::empty({count}, part.options());
      range.narrow(0, from - begin, to - from).copy_(part);
    }
    return range;
  }

 private:
  const Files files_;
  const ShardedTensors tensors_;
  Shapes shapes_;
};

json ToJson(const ShardedTensors& tensors) {
  json object = json::object();
  for (const auto& [name, tensor] : tensors) {
    object[name] = {{"shape", tensor.shape}, {"counts", tensor.counts}};
  }
  return object;
}

ShardedTensors FromJson(const json& object) {
  ShardedTensors tensors;
  for (const auto& [name, tensor] : object.items()) {
    tensors[name] = {tensor.at("shape").get<std::vector<int64_t>>(),
                     tensor.at("counts").get<std::vector<int64_t>>()};
  }
  return tensors;
}

TrainerError Contradiction(const std::string& path, const std::string& what) {
  return ConfigError(path + " " + what, "resume from another checkpoint").File(path);
}

// Every file has of each tensor what the list says.
void RequireAgreement(const std::string& list, const Files& files, const ShardedTensors& tensors) {
  for (const auto& [name, tensor] : tensors) {
    const int64_t sum = std::accumulate(tensor.counts.begin(), tensor.counts.end(), int64_t{0});
    if (tensor.counts.size() != files.size() || sum != Numel(tensor.shape)) {
      throw Contradiction(list, "contradicts itself on tensor '" + name + "'");
    }
    for (size_t i = 0; i < files.size(); ++i) {
      const auto it = files[i]->tensors().find(name);
      const int64_t there = it == files[i]->tensors().end() ? 0 : Numel(it->second.shape);
      if (there != tensor.counts[i] || (there > 0 && it->second.shape.size() != 1)) {
        throw Contradiction(files[i]->path(), "has not what " + list + " says of tensor '" + name +
                                                  "'");
      }
    }
  }
}

}  // namespace

at::Tensor SavedTensors::Whole(const std::string& name) const {
  const std::vector<int64_t>& shape = shapes().at(name);
  return Range(name, 0, Numel(shape)).view(shape);
}

std::unique_ptr<const SavedTensors> OpenSavedTensors(const std::string& path) {
  return std::make_unique<InOneFile>(SafetensorsFile::Open(path));
}

std::string ShardFile(int64_t rank, int64_t ranks) {
  char name[64];
  std::snprintf(name, sizeof(name), "shard-%05d-of-%05d.safetensors", static_cast<int>(rank + 1),
                static_cast<int>(ranks));
  return name;
}

std::string ShardsJson(int64_t ranks, const ShardedTensors& parameters,
                       const ShardedTensors& states, const ShardedTensors& reference) {
  json files = json::array();
  for (int64_t rank = 0; rank < ranks; ++rank) files.push_back(ShardFile(rank, ranks));
  const json object = {{"version", kVersion},
                       {"files", files},
                       {"parameters", ToJson(parameters)},
                       {"states", ToJson(states)},
                       {"reference", ToJson(reference)}};
  return object.dump() + "\n";
}

SavedShards OpenShards(const std::string& dir) {
  const std::string list = (fs::path(dir) / kShardsFile).string();
  const json object = ReadJsonObject(list);
  if (object.value("version", json()) != kVersion) {
    throw Contradiction(list, "is not of version " + std::to_string(kVersion));
  }
  Files files;
  ShardedTensors parameters, states, reference;
  try {
    parameters = FromJson(object.at("parameters"));
    states = FromJson(object.at("states"));
    reference = FromJson(object.value("reference", json::object()));
    for (const auto& name : object.at("files")) {
      // They lie beside the list: a path could lead out of the root.
      const std::string file = fs::path(name.get<std::string>()).filename();
      files.push_back(SafetensorsFile::Open((fs::path(dir) / file).string()));
    }
  } catch (const json::exception& error) {
    throw Contradiction(list, std::string("is no list of shards: ") + error.what());
  }
  RequireAgreement(list, files, parameters);
  RequireAgreement(list, files, states);
  RequireAgreement(list, files, reference);
  return {std::make_unique<InShards>(files, std::move(parameters)),
          std::make_unique<InShards>(files, std::move(states)),
          std::make_unique<InShards>(files, std::move(reference))};
}

}  // namespace liger::trainer
