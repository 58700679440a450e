#ifndef LIGER_WORKER_TRAINER_CHECKPOINT_JSON_FILE_H_
#define LIGER_WORKER_TRAINER_CHECKPOINT_JSON_FILE_H_

#include <nlohmann/json.hpp>
#include <string>

namespace liger::trainer {

// A JSON object from a file. Throws TrainerError (CONFIG) with file, line,
// column and byte when it is absent, malformed or not an object.
nlohmann::json ReadJsonObject(const std::string& path);
// The same, with the keys in the file's order.
nlohmann::ordered_json ReadOrderedJsonObject(const std::string& path);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_CHECKPOINT_JSON_FILE_H_
