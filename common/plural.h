#ifndef LIGER_COMMON_PLURAL_H_
#define LIGER_COMMON_PLURAL_H_

#include <cstdint>
#include <string>

namespace liger {

// "2 GPUs", "1 worker".
std::string Plural(int64_t count, const std::string& noun);

}  // namespace liger

#endif  // LIGER_COMMON_PLURAL_H_
