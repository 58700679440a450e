#ifndef LIGER_COMMON_IDS_H_
#define LIGER_COMMON_IDS_H_

#include <string>

namespace liger {

// A random (version 4) UUID from the kernel's generator.
std::string NewUuid();

// `length` random characters of [a-z0-9], for readable names.
std::string RandomSuffix(int length);

}  // namespace liger

#endif  // LIGER_COMMON_IDS_H_
