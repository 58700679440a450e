#ifndef LIGER_COMMON_PLURAL_H_
#define LIGER_COMMON_PLURAL_H_

#include <cstdint>
#include <string>

namespace liger {

// "2 GPUs", "1 worker".
std::string Plural(int64_t count, const std::string& noun);

// In three digits, or all before the point: "0.168", "1.5", "1250".
std::string ThreeDigits(double value);

}  // namespace liger

#endif  // LIGER_COMMON_PLURAL_H_
