#include "worker/trainer/data/zstd_text.h"

#include <zstd.h>

#include <algorithm>
#include <memory>
#include <new>
#include <string>

#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

constexpr size_t kPiece = size_t{1} << 20;
// What `zstd --long=31` writes is read, too.
constexpr int kLongestWindow = 31;

TrainerError Damaged(const MappedFile& file, size_t at, const std::string& what) {
  return DataError(file.path() + ": byte " + std::to_string(at) + ": the zstd stream is " + what,
                   "Copy the file again from where it came from.")
      .File(file.path());
}

}  // namespace

bool IsZstd(std::string_view bytes) {
  if (bytes.starts_with("\x28\xB5\x2F\xFD")) return true;
  // A skippable frame (RFC 8878, 3.1.2), with which pzstd's files begin.
  return bytes.size() > 4 && (bytes[0] & 0xF0) == 0x50 && bytes.substr(1, 3) == "\x2A\x4D\x18";
}

void UnpackZstd(const MappedFile& file, UnpackedText& text) {
  const std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(),
                                                                   ZSTD_freeDCtx);
  if (context == nullptr) throw std::bad_alloc();
  ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, kLongestWindow);
  const std::string_view packed = file.bytes();
  ZSTD_inBuffer in = {packed.data(), 0, 0};
  std::string piece(kPiece, '\0');
  while (true) {
    if (in.pos == in.size) {
      file.RequireWhole();
      in.size = std::min(packed.size(), in.size + kPiece);
    }
    ZSTD_outBuffer out = {piece.data(), kPiece, 0};
    const size_t left = ZSTD_decompressStream(context.get(), &out, &in);  // 0: a frame's end
    text.Append(std::string_view(piece).substr(0, out.pos));
    if (ZSTD_isError(left)) {
      throw Damaged(file, in.pos, std::string("damaged: ") + ZSTD_getErrorName(left));
    }
    const bool at_end = in.pos == packed.size();
    if (at_end && left == 0) return;
    if (at_end && out.pos < out.size) throw Damaged(file, in.pos, "cut short");
  }
}

}  // namespace liger::trainer
