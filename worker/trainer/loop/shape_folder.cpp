#include "worker/trainer/loop/shape_folder.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "worker/trainer/error.h"

namespace liger::trainer {

namespace fs = std::filesystem;

ShapeFolder::ShapeFolder(const ModelShape& shape, const std::optional<std::string>& found,
                         const std::string& parent)
    : path_((fs::path(parent) / "model-shape-XXXXXX").string()) {
  const auto failed = [&] {
    return TrainerError(liger::v1::FAILURE_CLASS_STORAGE,
                        "cannot make a folder for the model's shape below " + parent,
                        "make the folder writable, or free space")
        .File(parent);
  };
  if (mkdtemp(path_.data()) == nullptr) throw failed();
  std::error_code error;
  if (found && fs::is_directory(*found, error)) {
    for (const auto& entry : fs::directory_iterator(*found, error)) {
      fs::create_symlink(fs::absolute(entry.path()), fs::path(path_) / entry.path().filename(),
                         error);
    }
  }
  std::ofstream config(path_ + "/config.json");
  config << shape.config_json;
  config.close();
  if (error || !config) throw failed();
}

ShapeFolder::~ShapeFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

bool ShapeFolder::has_tokenizer() const {
  return fs::exists(path_ + "/tokenizer.json") || fs::exists(path_ + "/tokenizer.model");
}

}  // namespace liger::trainer
