#include "worker/trainer/checkpoint/adapter_folder.h"

#include "worker/trainer/checkpoint/model_folder.h"
#include "worker/trainer/checkpoint/safetensors_writer.h"

namespace liger::trainer {
namespace {

std::map<std::string, std::string> Copies(const SaveAdapterRequest& request) {
  std::map<std::string, std::string> copies = FilesBesideWeights(request.source_dir);
  copies.erase("generation_config.json");  // the base model's, as the weights
  for (const auto& [name, path] : request.copy_files) copies[name] = path;
  return copies;
}

}  // namespace

int64_t BytesToSave(const SaveAdapterRequest& request) {
  int64_t bytes = BytesOf(request.tensors, std::nullopt, Copies(request));
  for (const auto& [name, file] : request.tensor_files) bytes += BytesOf(file, std::nullopt, {});
  return bytes;
}

void WriteBesideWeights(OutputFolder& folder, const SaveAdapterRequest& request) {
  for (const auto& [name, file] : request.tensor_files) WriteSafetensors(folder, name, file);
  folder.Write("adapter_config.json", request.config.dump(2) + "\n");
  std::map<std::string, std::string> copies = Copies(request);
  for (const auto& [name, content] : ChangedFiles(copies)) folder.Write(name, content);
  CopyFiles(folder, copies, request.copy_bytes);
  for (const auto& [name, content] : request.extra_files) folder.Write(name, content);
}

SavedFolder SaveAdapter(const SaveAdapterRequest& request) {
  OutputFolder folder(request.dir, request.overwrite, BytesToSave(request));
  WriteSafetensors(folder, kAdapterWeights, request.tensors);
  WriteBesideWeights(folder, request);
  if (!request.model_card.empty()) folder.Write("README.md", request.model_card);
  return folder.Commit();
}

}  // namespace liger::trainer
