#ifndef LIGER_WORKER_TRAINER_DATA_TOKEN_CACHE_FILE_H_
#define LIGER_WORKER_TRAINER_DATA_TOKEN_CACHE_FILE_H_

#include <cstdint>
#include <string>

#include "worker/trainer/data/split.h"

namespace liger::trainer {

// The files of a TokenCache, little-endian:
//
//   head     uint64 length, JSON: the counts of DataStats, and how many of each array follow, with
//            spaces up to a multiple of 8 bytes
//   arrays   int32 row_lengths, int32 tokens of each cut answer, int32 those tokens, int32 tokens
//            of each sequence, int32 input_ids of all of them, int32 labels of all of them, int64
//            pack_begins, uint8 desirable
//   digests  "sha256:<hex>\n" of each piece of 4 MiB of the above
//   trailer  uint64 bytes of head and arrays; "sha256:<hex>" of name, digests and those bytes
//
// Part of every key: to be raised when the layout changes, or what is made of a row.
inline constexpr int kTokenCacheVersion = 11;

// Bytes of head and arrays, about.
int64_t SplitBytes(const Split& split);

// Writes a new file; `name` is what ReadSplit asks for. Throws std::system_error (a full disk).
void WriteSplit(const std::string& path, const std::string& name, const Split& split);

// Maps the file and checks it by several threads (0: one a core); the split's sequences are views
// of it, which stays mapped with them, whatever becomes of its name. Throws
// std::runtime_error: it is damaged, cut short, or has another name; std::system_error: it cannot
// be read.
Split ReadSplit(const std::string& path, const std::string& name, int num_threads);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_TOKEN_CACHE_FILE_H_
