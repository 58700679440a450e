#ifndef LIGER_WORKER_TRAINER_DATA_ARROW_VALUE_H_
#define LIGER_WORKER_TRAINER_DATA_ARROW_VALUE_H_

#include <arrow/array.h>

#include <cstdint>
#include <nlohmann/json.hpp>

namespace liger::trainer {

// Value `index` of an array, as ArrowTable::Row has it. Throws
// std::runtime_error when it is text that is not UTF-8.
nlohmann::ordered_json ToJson(const arrow::Array& array, int64_t index);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_ARROW_VALUE_H_
