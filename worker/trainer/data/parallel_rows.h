#ifndef LIGER_WORKER_TRAINER_DATA_PARALLEL_ROWS_H_
#define LIGER_WORKER_TRAINER_DATA_PARALLEL_ROWS_H_

#include <cstdint>
#include <functional>

namespace liger::trainer {

// Calls work(i) once for each i in [0, n) from several threads (0: one a core).
// When calls throw, the exception of the lowest such i is thrown, as a loop
// would have done; later indices may have been left out then.
void ForEachRow(int64_t n, int num_threads, const std::function<void(int64_t)>& work);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_PARALLEL_ROWS_H_
