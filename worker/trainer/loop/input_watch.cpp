#include "worker/trainer/loop/input_watch.h"

#include <filesystem>
#include <utility>
#include <vector>

#include "common/file_state.h"
#include "worker/trainer/chat_template_files.h"
#include "worker/trainer/loop/code_files.h"
#include "worker/trainer/loop/paths.h"

namespace liger::trainer {
namespace {

// Under the name that the job has for it, which may be a link's.
std::string DataDigest(const std::string& uri, const std::string& field,
                       const std::vector<std::string>& files) {
  if (files.size() != 1) return "";
  const std::filesystem::path path = PathOfUri(uri, field);
  return FileStateDigest(path.filename().string(), files.front());
}

}  // namespace

InputWatch::InputWatch(const liger::v1::JobSpec& spec, const InputPaths& paths)
    : spec_(spec), paths_(paths), before_(Look()) {}

void InputWatch::AddText(const TextInputs& text) {
  reads_clock_ = text.chat_template && text.chat_template->clock_use() != ClockUse::kNone;
}

liger::trainer::v1::Inputs InputWatch::Unchanged() const {
  liger::trainer::v1::Inputs inputs;
  const std::map<std::string, std::string> now = Look();
  for (const auto& [name, digest] : before_) {
    if (!digest.empty() && now.at(name) == digest) (*inputs.mutable_digests())[name] = digest;
  }
  if (reads_clock_) (*inputs.mutable_digests())["clock"] = "read by the chat template";
  return inputs;
}

std::map<std::string, std::string> InputWatch::Look() const {
  std::map<std::string, std::string> digests;
  digests["code"] = FileStatesDigest(CodeFiles());
  // A shape without files of its own is a part of the code.
  const bool shape_alone = paths_.shape && !paths_.shape->has_tokenizer();
  digests["model files"] =
      shape_alone ? "shape" : FolderStateDigest(paths_.model_dir, kChatTemplatesFolder);
  const liger::v1::DatasetSpec& dataset = spec_.dataset();
  if (dataset.sources().empty()) {
    const std::string& uri = dataset.uri().empty() ? dataset.name() : dataset.uri();
    digests["dataset file"] = DataDigest(uri, "dataset.name", paths_.train_files.at(0));
  }
  for (int i = 0; i < dataset.sources_size(); ++i) {
    digests["dataset file " + std::to_string(i + 1)] =
        DataDigest(dataset.sources(i).uri(), "dataset.sources", paths_.train_files.at(i));
  }
  if (!dataset.eval_uri().empty()) {
    digests["evaluation file"] =
        DataDigest(dataset.eval_uri(), "dataset.eval_uri", paths_.eval_files);
  }
  return digests;
}

}  // namespace liger::trainer
