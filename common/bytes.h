#ifndef LIGER_COMMON_BYTES_H_
#define LIGER_COMMON_BYTES_H_

#include <cstdint>
#include <string>

namespace liger {

// Memory and file sizes as people read them, in powers of 1000: "1.50 GB".
std::string Bytes(int64_t bytes);

}  // namespace liger

#endif  // LIGER_COMMON_BYTES_H_
