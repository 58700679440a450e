#include "common/framing.h"

#include <errno.h>
#include <unistd.h>
#include <zlib.h>

#include <cstring>

#include "absl/strings/str_cat.h"

namespace liger {
namespace {

constexpr size_t kHeaderBytes = 8;

void StoreLittleEndian(uint32_t value, char* out) {
  for (int i = 0; i < 4; ++i) out[i] = static_cast<char>(value >> (8 * i));
}

uint32_t LoadLittleEndian(const char* in) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value |= uint32_t{static_cast<uint8_t>(in[i])} << (8 * i);
  return value;
}

uint32_t Crc(std::string_view payload) {
  return static_cast<uint32_t>(
      crc32(0, reinterpret_cast<const Bytef*>(payload.data()), payload.size()));
}

}  // namespace

std::string EncodeFrame(std::string_view payload) {
  std::string frame(kHeaderBytes, '\0');
  StoreLittleEndian(static_cast<uint32_t>(payload.size()), frame.data());
  StoreLittleEndian(Crc(payload), frame.data() + 4);
  frame.append(payload);
  return frame;
}

absl::Status WriteFrame(int fd, const google::protobuf::MessageLite& message) {
  const std::string payload = message.SerializeAsString();
  if (payload.size() > kMaxFrameBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a frame of ", payload.size(),
                                                   " bytes is over the limit of ", kMaxFrameBytes));
  }
  if (payload.empty()) return absl::InvalidArgumentError("a frame may not be empty");
  const std::string frame = EncodeFrame(payload);
  std::string_view rest = frame;
  while (!rest.empty()) {
    const ssize_t n = write(fd, rest.data(), rest.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      return absl::ErrnoToStatus(errno, "cannot write a frame");
    }
    rest.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

FrameReader::Result FrameReader::Next(std::string* payload) {
  const std::string_view rest = std::string_view(buffer_).substr(start_);
  if (rest.size() < kHeaderBytes) return Result::kIncomplete;
  const uint32_t length = LoadLittleEndian(rest.data());
  if (length == 0 || length > kMaxFrameBytes) return Result::kCorrupt;
  if (rest.size() < kHeaderBytes + length) return Result::kIncomplete;
  const std::string_view body = rest.substr(kHeaderBytes, length);
  if (LoadLittleEndian(rest.data() + 4) != Crc(body)) return Result::kCorrupt;
  payload->assign(body);
  start_ += kHeaderBytes + length;
  offset_ += static_cast<int64_t>(kHeaderBytes + length);
  if (start_ > buffer_.size() / 2) {  // amortised: each byte moves at most twice
    buffer_.erase(0, start_);
    start_ = 0;
  }
  return Result::kFrame;
}

}  // namespace liger
