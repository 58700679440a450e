#ifndef LIGER_COMMON_MODEL_SHAPES_MODEL_SHAPES_H_
#define LIGER_COMMON_MODEL_SHAPES_MODEL_SHAPES_H_

#include <span>
#include <string_view>

namespace liger {

// The config.json of a published model, as the hub has it but for keys without
// meaning here. A job with model.random_init that names one needs no model folder.
struct ModelShape {
  std::string_view name;  // the catalog's
  std::string_view config_json;
};

// In the order of their names.
std::span<const ModelShape> ModelShapes();
// nullptr when there is no such shape.
const ModelShape* FindModelShape(std::string_view name);

}  // namespace liger

#endif  // LIGER_COMMON_MODEL_SHAPES_MODEL_SHAPES_H_
