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

namespace {

// Where to, and from which model: of both kinds of folder.
template <typename SaveRequest>
SaveRequest FolderToSave(const Request& request, const std::string& model_dir) {
  SaveRequest save;
  save.dir =
      request.alone()
          ? request.publish_to
          : (std::filesystem::path(request.launch.attempt_dir()) / kModelPublication).string();
  save.overwrite = request.alone() && request.spec().output().overwrite();
  save.source_dir = model_dir;
  return save;
}

// A parameter as checkpoints hold it.
std::vector<NamedTensor> Pieces(const ModelConfig& config, const NamedTensor& whole) {
  auto pieces = CheckpointTensors(config, whole.name, whole.tensor);
  if (!whole.make) return pieces;
  for (size_t i = 0; i < pieces.size(); ++i) {
    pieces[i].make = [config, whole, i] {
      return CheckpointTensors(config, whole.name, whole.make()).at(i).tensor;
    };
  }
  return pieces;
}

}  // namespace

SaveModelRequest ModelToSave(const Request& request, const TrainableModel& trainable,
                             const PrecisionPlan& precision, const std::string& model_dir) {
  auto save = FolderToSave<SaveModelRequest>(request, model_dir);
  save.dtype = precision.storage;
  save.untied = trainable.model->config().has_own_head;
  std::vector<NamedTensor> parameters = StoredParameters(trainable);
  if (trainable.lora) parameters = trainable.lora->Merged(parameters);
  for (const NamedTensor& whole : parameters) {
    const auto pieces = Pieces(trainable.model->config(), whole);
    save.tensors.insert(save.tensors.end(), pieces.begin(), pieces.end());
  }
  return save;
}

SaveAdapterRequest AdapterToSave(const Request& request, const TrainableModel& trainable,
                                 const std::string& model_dir) {
  auto save = FolderToSave<SaveAdapterRequest>(request, model_dir);
  const LoraSetup& lora = *trainable.lora;
  save.config = lora.config.ToJson(model_dir, lora.targets.NamesForConfig(lora.config));
  save.tensors = lora.Adapter(StoredParameters(trainable));
  return save;
}

namespace {

// Hands what is to be saved to `use`: the adapter alone, or a model.
template <typename Use>
auto WithFolder(const Request& request, const TrainableModel& trainable,
                const PrecisionPlan& precision, const std::string& model_dir, const Use& use) {
  const bool adapter = trainable.lora && !request.spec().lora().merge();
  return adapter ? use(AdapterToSave(request, trainable, model_dir))
                 : use(ModelToSave(request, trainable, precision, model_dir));
}

}  // namespace

OutputSize SizeOfOutput(const Request& request, const TrainableModel& trainable,
                        const PrecisionPlan& precision, const std::string& model_dir) {
  return WithFolder(request, trainable, precision, model_dir, [](const auto& save) {
    return OutputSize{save.dir, BytesToSave(save)};
  });
}

liger::trainer::v1::Saved SaveOutput(const Request& request, const TrainableModel& trainable,
                                     const PrecisionPlan& precision, const RunSummary& summary) {
  const SavedFolder folder =
      WithFolder(request, trainable, precision, summary.model_dir, [&](auto save) {
        save.model_card = MakeModelCard(request.spec(), summary.results);
        save.extra_files["resolved_spec.json"] = SpecJson(request.spec());
        save.copy_files["metrics.jsonl"] = summary.metrics_path;
        return SaveFolder(save);
      });

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
