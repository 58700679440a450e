#ifndef LIGER_WORKER_TRAINER_DATA_ROW_TEXTS_H_
#define LIGER_WORKER_TRAINER_DATA_ROW_TEXTS_H_

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

// The text in a row's values at any depth, but for what messages and their parts are called (role,
// from, type).
namespace liger::trainer {

// Whether there is any but white space.
bool HasText(const nlohmann::ordered_json& value);

// All of it in the row's columns, each run of white space one space.
std::string TextOf(const nlohmann::ordered_json& row, const std::vector<std::string>& columns);

// Whether each text of the value is a part of `text`, which is as TextOf gives it.
bool Repeats(const nlohmann::ordered_json& value, const std::string& text);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_ROW_TEXTS_H_
