#ifndef LIGER_WORKER_TRAINER_DATA_FOREIGN_FILE_H_
#define LIGER_WORKER_TRAINER_DATA_FOREIGN_FILE_H_

#include <string>
#include <string_view>

namespace liger::trainer {

// Throws TrainerError (DATA) where the bytes of a file, or what they unpack to, are not rows but
// stand for them: a pointer of Git LFS, or an archive or packing that is not read.
void RequireNotForeign(const std::string& path, std::string_view bytes);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_FOREIGN_FILE_H_
