#ifndef LIGER_COMMON_OUTPUT_PLACE_H_
#define LIGER_COMMON_OUTPUT_PLACE_H_

#include <cstdint>
#include <string>

// Where a job's output may lie.
namespace liger {

// What every file system in use takes as a name, in bytes.
inline constexpr int64_t kLongestName = 255;
// What a folder's name grows by before it is visible: the agent publishes NAME by way of
// .NAME.<16 digits>.part; the trainer's own names for it are shorter.
inline constexpr int64_t kStagingBytes = 23;
inline constexpr int64_t kLongestOutputName = kLongestName - kStagingBytes;

// Why this process can make no folder at `path`, an absolute one, whose parents need not exist: a
// parent is a file, may not be written to or lies on a read-only file system, or a name is too long
// for the one there. "": nothing is against it. Writes nothing; a full disk is not looked for.
std::string WhyNotWritable(const std::string& path);

}  // namespace liger

#endif  // LIGER_COMMON_OUTPUT_PLACE_H_
