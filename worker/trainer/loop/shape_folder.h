#ifndef LIGER_WORKER_TRAINER_LOOP_SHAPE_FOLDER_H_
#define LIGER_WORKER_TRAINER_LOOP_SHAPE_FOLDER_H_

#include <memory>
#include <optional>
#include <string>

#include "common/model_shapes/model_shapes.h"

namespace liger::trainer {

// A model folder of a known shape that no folder holds: its config.json, and links
// to the files of `found` (a folder without config.json, such as one that holds a
// tokenizer alone). Removed with the last owner.
class ShapeFolder {
 public:
  // Below `parent`, which exists. Throws TrainerError (STORAGE).
  ShapeFolder(const ModelShape& shape, const std::optional<std::string>& found,
              const std::string& parent);
  ~ShapeFolder();
  ShapeFolder(const ShapeFolder&) = delete;
  ShapeFolder& operator=(const ShapeFolder&) = delete;

  const std::string& path() const { return path_; }
  bool has_tokenizer() const;

 private:
  std::string path_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_SHAPE_FOLDER_H_
