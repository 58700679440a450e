#ifndef LIGER_COMMON_FRAMING_H_
#define LIGER_COMMON_FRAMING_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "google/protobuf/message_lite.h"

namespace liger {

// Frames of the trainer's event file and command pipe (docs/protocol.md):
//
//   frame := length:u32le  crc:u32le  payload:length bytes
//
// where crc is zlib's CRC-32 of the payload. A payload is never empty: after a
// power loss the end of a file may be zeros, which would be such frames. Files only grow, so a
// reader that stops at an incomplete frame may try again later; after the writer is known to be
// dead, an incomplete frame at the end is a torn tail and is dropped.

// Larger frames are refused on both sides: a length beyond this is corruption.
inline constexpr uint32_t kMaxFrameBytes = 16u << 20;

// The bytes of one frame.
std::string EncodeFrame(std::string_view payload);

// Writes one frame with a single write() where the kernel allows, so that
// appends from one process do not interleave. Errors: the errno of write();
// INVALID_ARGUMENT when the message is empty or too large.
absl::Status WriteFrame(int fd, const google::protobuf::MessageLite& message);

// Splits a growing byte stream into frames. Not thread-safe.
class FrameReader {
 public:
  enum class Result {
    kFrame,       // *payload holds the next frame
    kIncomplete,  // more bytes are needed
    kCorrupt,     // length or CRC is wrong; nothing after this can be trusted
  };

  // Adds bytes read from the stream.
  void Append(std::string_view bytes) { buffer_.append(bytes); }

  Result Next(std::string* payload);

  // Stream offset just behind the last frame returned.
  int64_t offset() const { return offset_; }
  // Bytes appended and not yet returned as frames.
  size_t pending() const { return buffer_.size() - start_; }

 private:
  std::string buffer_;
  size_t start_ = 0;
  int64_t offset_ = 0;
};

}  // namespace liger

#endif  // LIGER_COMMON_FRAMING_H_
