#include "worker/trainer/checkpoint/safetensors_writer.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "worker/trainer/checkpoint/safetensors_header.h"

namespace liger::trainer {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

at::ScalarType SavedDtype(const at::Tensor& tensor, std::optional<at::ScalarType> float_dtype) {
  return at::isFloatingType(tensor.scalar_type()) ? float_dtype.value_or(tensor.scalar_type())
                                                  : tensor.scalar_type();
}

std::vector<const NamedTensor*> FileOrder(const std::vector<NamedTensor>& tensors,
                                          std::optional<at::ScalarType> float_dtype) {
  std::vector<const NamedTensor*> order;
  for (const NamedTensor& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [&](const NamedTensor* a, const NamedTensor* b) {
    const auto size_a = c10::elementSize(SavedDtype(a->tensor, float_dtype));
    const auto size_b = c10::elementSize(SavedDtype(b->tensor, float_dtype));
    return size_a != size_b ? size_a > size_b : a->name < b->name;
  });
  const auto twice = std::adjacent_find(
      order.begin(), order.end(),
      [](const NamedTensor* a, const NamedTensor* b) { return a->name == b->name; });
  if (twice != order.end()) throw std::invalid_argument("two tensors named " + (*twice)->name);
  return order;
}

// Length and header, padded with spaces so that the data begins at 8 bytes.
std::string HeaderBytes(const std::vector<const NamedTensor*>& order,
                        std::optional<at::ScalarType> float_dtype,
                        const std::map<std::string, std::string>& metadata) {
  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t offset = 0;
  for (const NamedTensor* tensor : order) {
    const auto dtype = SafetensorsDtypeName(SavedDtype(tensor->tensor, float_dtype));
    if (!dtype.has_value()) {
      throw std::invalid_argument("safetensors has no dtype for tensor " + tensor->name);
    }
    const int64_t end = offset + SavedBytes(*tensor, float_dtype);
    header[tensor->name] = {{"dtype", *dtype},
                            {"shape", tensor->tensor.sizes().vec()},
                            {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(uint64_t{text.size()} >> (8 * i));
  return bytes + text;
}

std::string ShardName(size_t index, size_t count) {
  char name[64];
  std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name;
}

std::vector<std::vector<NamedTensor>> SplitIntoShards(const std::vector<NamedTensor>& tensors,
                                                      at::ScalarType dtype,
                                                      int64_t max_shard_bytes) {
  std::vector<std::vector<NamedTensor>> shards(1);
  int64_t filled = 0;
  for (const NamedTensor& tensor : tensors) {
    const int64_t bytes = SavedBytes(tensor, dtype);
    if (filled + bytes > max_shard_bytes && !shards.back().empty()) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().push_back(tensor);
    filled += bytes;
  }
  return shards;
}

}  // namespace

int64_t SavedBytes(const NamedTensor& tensor, std::optional<at::ScalarType> float_dtype) {
  return tensor.tensor.numel() *
         static_cast<int64_t>(c10::elementSize(SavedDtype(tensor.tensor, float_dtype)));
}

void WriteSafetensors(OutputFolder& folder, const std::string& file_name,
                      const std::vector<NamedTensor>& tensors,
                      std::optional<at::ScalarType> float_dtype,
                      const std::map<std::string, std::string>& metadata) {
  const std::unique_ptr<FileWriter> file = folder.Create(file_name);
  WriteSafetensors(*file, tensors, float_dtype, metadata);
  folder.Finish(file_name, file.get());
}

void WriteSafetensors(FileWriter& file, const std::vector<NamedTensor>& tensors,
                      std::optional<at::ScalarType> float_dtype,
                      const std::map<std::string, std::string>& metadata) {
  const at::NoGradGuard no_grad;
  const std::vector<const NamedTensor*> order = FileOrder(tensors, float_dtype);
  file.Write(HeaderBytes(order, float_dtype, metadata));
  for (const NamedTensor* tensor : order) {
    const at::Tensor host =
        tensor->Value()
            .detach()
            .to(at::TensorOptions(at::kCPU).dtype(SavedDtype(tensor->tensor, float_dtype)))
            .contiguous();
    file.Write({static_cast<const char*>(host.const_data_ptr()),
                static_cast<size_t>(SavedBytes(*tensor, float_dtype))});
  }
}

void WriteWeights(OutputFolder& folder, const std::vector<NamedTensor>& tensors,
                  at::ScalarType dtype, int64_t max_shard_bytes) {
  const std::map<std::string, std::string> metadata = {{"format", "pt"}};
  const auto shards = SplitIntoShards(tensors, dtype, max_shard_bytes);
  if (shards.size() == 1) {
    WriteSafetensors(folder, "model.safetensors", tensors, dtype, metadata);
    return;
  }
  int64_t parameters = 0;
  int64_t bytes = 0;
  std::map<std::string, std::string> weight_map;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = ShardName(i, shards.size());
    WriteSafetensors(folder, name, shards[i], dtype, metadata);
    for (const NamedTensor& tensor : shards[i]) {
      weight_map[tensor.name] = name;
      parameters += tensor.tensor.numel();
      bytes += SavedBytes(tensor, dtype);
    }
  }
  const ordered_json index = {
      {"metadata", {{"total_parameters", parameters}, {"total_size", bytes}}},
      {"weight_map", weight_map}};
  folder.Write("model.safetensors.index.json", index.dump(2) + "\n");
}

}  // namespace liger::trainer
