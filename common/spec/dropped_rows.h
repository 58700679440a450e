#ifndef LIGER_COMMON_SPEC_DROPPED_ROWS_H_
#define LIGER_COMMON_SPEC_DROPPED_ROWS_H_

#include <cstdint>
#include <string>

namespace liger {

// What a running job and a dry run both say of rows that leave nothing to train on.

// The cause. `response_template`: sft's, "" for none.
inline std::string DroppedRowsCause(int64_t max_length, const std::string& response_template) {
  return "the prompt fills training.max_length (" + std::to_string(max_length) +
         "), or there is no answer" +
         (response_template.empty() ? ""
                                    : ", or sft.response_template '" + response_template +
                                          "' is not among the row's tokens");
}

inline constexpr char kKeepDroppedRows[] =
    "Raise training.max_length, or shorten, complete or remove these rows.";

}  // namespace liger

#endif  // LIGER_COMMON_SPEC_DROPPED_ROWS_H_
