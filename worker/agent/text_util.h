#ifndef LIGER_WORKER_AGENT_TEXT_UTIL_H_
#define LIGER_WORKER_AGENT_TEXT_UTIL_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace liger::agent {

// The last `max_bytes` of a file, as valid UTF-8 (it may start anywhere); empty when
// it cannot be read.
std::string ReadTail(const std::string& path, int64_t max_bytes);

// The last `lines` lines of `text`.
std::string LastLines(std::string_view text, int lines);

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_TEXT_UTIL_H_
