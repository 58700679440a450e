#ifndef LIGER_WORKER_TRAINER_DATA_ZSTD_TEXT_H_
#define LIGER_WORKER_TRAINER_DATA_ZSTD_TEXT_H_

#include <string_view>

#include "worker/trainer/data/unpacked_text.h"
#include "worker/trainer/mapped_file.h"

namespace liger::trainer {

// Begins as zstd's frames do (RFC 8878), skippable ones too.
bool IsZstd(std::string_view bytes);

// Appends what the file unpacks to, all of its frames one after the other. Throws
// TrainerError (DATA) with the byte when the stream is cut short or damaged.
void UnpackZstd(const MappedFile& file, UnpackedText& text);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_ZSTD_TEXT_H_
