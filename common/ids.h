#ifndef LIGER_COMMON_IDS_H_
#define LIGER_COMMON_IDS_H_

#include <string>
#include <string_view>

namespace liger {

// A random (version 4) UUID from the kernel's generator.
std::string NewUuid();

// Whether `text` has the form of NewUuid's.
bool IsUuid(std::string_view text);

// `length` random characters of [a-z0-9], for readable names.
std::string RandomSuffix(int length);

}  // namespace liger

#endif  // LIGER_COMMON_IDS_H_
