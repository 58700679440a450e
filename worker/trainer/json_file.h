#ifndef LIGER_WORKER_TRAINER_JSON_FILE_H_
#define LIGER_WORKER_TRAINER_JSON_FILE_H_

#include <nlohmann/json.hpp>
#include <string>

namespace liger::trainer {

// Files of a model folder, whole. All throw TrainerError (CONFIG) with the file
// when it cannot be read, and with line, column and byte when it is malformed.

std::string ReadTextFile(const std::string& path);

nlohmann::json ReadJsonFile(const std::string& path);
// Fails, too, when the file holds something else than an object.
nlohmann::json ReadJsonObject(const std::string& path);
// The same, with the keys in the file's order.
nlohmann::ordered_json ReadOrderedJsonObject(const std::string& path);

// What was read from `path` already.
nlohmann::json ParseJsonFile(const std::string& path, const std::string& text);
[[noreturn]] void FailMalformed(const std::string& path, const std::string& text, size_t offset,
                                const std::string& why);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_JSON_FILE_H_
