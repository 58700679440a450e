#ifndef LIGER_COMMON_EXIT_CODE_H_
#define LIGER_COMMON_EXIT_CODE_H_

#include "absl/status/status.h"

namespace liger {

// Exit code of a program that was given something it cannot work with.
inline constexpr int kExitInvalidInput = 3;

// Exit code of a server that could not start: kExitInvalidInput when another
// flag, file, folder or port would have helped, 1 for the rest (disk full, a
// damaged store).
int StartupExitCode(const absl::Status& status);

}  // namespace liger

#endif  // LIGER_COMMON_EXIT_CODE_H_
