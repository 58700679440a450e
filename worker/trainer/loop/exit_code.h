#ifndef LIGER_WORKER_TRAINER_LOOP_EXIT_CODE_H_
#define LIGER_WORKER_TRAINER_LOOP_EXIT_CODE_H_

namespace liger::trainer {

// Exit codes of liger-trainer; below 7 the same numbers as liger-cli's.
inline constexpr int kExitOk = 0;
inline constexpr int kExitError = 1;         // internal error
inline constexpr int kExitStopped = 2;       // told to stop
inline constexpr int kExitInvalidInput = 3;  // flags, spec, model or data
inline constexpr int kExitFailed = 5;        // NaN, out of memory, disk full, ...
inline constexpr int kExitPaused = 7;        // as asked; its checkpoint is saved

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_EXIT_CODE_H_
