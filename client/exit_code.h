#ifndef LIGER_CLIENT_EXIT_CODE_H_
#define LIGER_CLIENT_EXIT_CODE_H_

namespace liger::client {

// What scripts can rely on (README, Command line).
enum ExitCode {
  kOk = 0,
  kError = 1,
  kCancelled = 2,
  kInvalidInput = 3,
  kNotAuthorised = 4,
  kJobFailed = 5,
  kTimedOut = 6,
  kInterrupted = 130,  // Ctrl-C, as shells report it
};

}  // namespace liger::client

#endif  // LIGER_CLIENT_EXIT_CODE_H_
