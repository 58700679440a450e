#include "worker/trainer/loop/publish.h"

#include <google/protobuf/util/json_util.h>

#include <filesystem>

#include "worker/trainer/checkpoint/model_card.h"
#include "worker/trainer/models/weights.h"

namespace liger::trainer {
namespace {

// Name of the finished model below the attempt's folder, and its publication id:
// one attempt publishes one model.
constexpr char kModelPublication[] = "model";

}  // namespace

std::string SpecJson(const liger::v1::JobSpec& spec) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(spec, &json, options);
  if (!status.ok()) throw std::runtime_error(std::string(status.message()));
  return json;
}

SaveModelRequest ModelToSave(const Request& request, const TrainableModel& trainable,
                             const PrecisionPlan& precision, const std::string& model_dir) {
  SaveModelRequest save;
  save.dir =
      request.alone()
          ? request.publish_to
          : (std::filesystem::path(request.launch.attempt_dir()) / kModelPublication).string();
  save.overwrite = request.alone() && request.spec().output().overwrite();
  save.source_dir = model_dir;
  save.dtype = precision.storage;
  for (const auto& [name, tensor] : StoredParameters(trainable)) {
    const auto pieces = CheckpointTensors(trainable.model->config(), name, tensor);
    save.tensors.insert(save.tensors.end(), pieces.begin(), pieces.end());
  }
  return save;
}

liger::trainer::v1::Saved SaveOutput(const Request& request, const TrainableModel& trainable,
                                     const PrecisionPlan& precision, const RunSummary& summary) {
  SaveModelRequest save = ModelToSave(request, trainable, precision, summary.model_dir);
  save.model_card = MakeModelCard(request.spec(), summary.results);
  save.extra_files["resolved_spec.json"] = SpecJson(request.spec());
  save.copy_files["metrics.jsonl"] = summary.metrics_path;
  const SavedFolder folder = SaveModel(save);

  liger::trainer::v1::Saved saved;
  saved.set_publication_id(kModelPublication);
  saved.set_kind("model");
  saved.set_step(summary.steps);
  saved.set_dir(folder.dir);
  saved.set_manifest_digest(folder.manifest_digest);
  saved.set_bytes(folder.bytes);
  return saved;
}

}  // namespace liger::trainer
