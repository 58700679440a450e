#ifndef LIGER_WORKER_TRAINER_LOOP_CODE_FILES_H_
#define LIGER_WORKER_TRAINER_LOOP_CODE_FILES_H_

#include <string>
#include <vector>

namespace liger::trainer {

// The files whose code trains, sorted: what this process had mapped as code at the first
// call (the program, libtorch_cpu, libc, ...), and what it may load later: our modules beside the
// program, the libraries in libtorch's folder, of NVIDIA's and Arrow's packages beside torch, and
// the CUDA driver. Of a file that was replaced since the process began, a name that no file has.
const std::vector<std::string>& CodeFiles();

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_CODE_FILES_H_
