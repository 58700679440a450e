#include "worker/trainer/data/data_text.h"

#include <zlib.h>

#include <algorithm>
#include <limits>
#include <system_error>

#include "worker/trainer/data/zstd_text.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

constexpr std::string_view kUtf8Bom = "\xEF\xBB\xBF";
constexpr std::string_view kGzipMagic = "\x1F\x8B";
constexpr size_t kPiece = size_t{1} << 20;

// The name of the encoding, by the byte order mark or by the zeros beside the ASCII
// characters that every such file begins with (RFC 4627, 3); "" for one byte a character.
std::string WideEncoding(std::string_view text) {
  const auto zero = [&](size_t i) { return i < text.size() && text[i] == '\0'; };
  const bool little = text.starts_with("\xFF\xFE"), big = text.starts_with("\xFE\xFF");
  if (zero(0) && zero(1)) return zero(3) || text.size() < 4 ? "" : "UTF-32BE";
  if (zero(2) && zero(3) && (little || zero(1))) return "UTF-32LE";
  if (little || (!zero(0) && zero(1))) return "UTF-16LE";
  return big || (zero(0) && text.size() > 1) ? "UTF-16BE" : "";
}

class Inflater {
 public:
  explicit Inflater(const MappedFile& file) : file_(file), packed_(file.bytes()) {
    constexpr int kGzipOnly = 16 + MAX_WBITS;
    if (inflateInit2(&stream_, kGzipOnly) != Z_OK) throw std::bad_alloc();
  }
  ~Inflater() { inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  void Run(UnpackedText& text) {
    std::string piece(kPiece, '\0');
    while (true) {
      const int status = Piece(&piece);
      text.Append(std::string_view(piece).substr(0, kPiece - stream_.avail_out));
      if (status == Z_STREAM_END && AtEnd()) return;
      if (status == Z_STREAM_END) {  // several members are one text
        if (inflateReset(&stream_) != Z_OK) throw Damaged("cannot go on");
      } else if (status == Z_BUF_ERROR || (status == Z_OK && Starved())) {
        throw Damaged("the gzip stream is cut short");
      } else if (status == Z_MEM_ERROR) {
        throw std::bad_alloc();
      } else if (status != Z_OK) {
        throw Damaged(std::string("the gzip stream is damaged: ") +
                      (stream_.msg == nullptr ? "not gzip" : stream_.msg));
      }
    }
  }

 private:
  size_t at() const { return next_ - stream_.avail_in; }
  // But for zeros, with which tapes and block devices pad, and which gzip(1) passes over.
  bool AtEnd() const { return packed_.find_first_not_of('\0', at()) == std::string_view::npos; }
  bool Starved() const { return stream_.avail_in == 0 && next_ == packed_.size() && !full_; }

  // Unpacks up to kPiece more bytes.
  int Piece(std::string* piece) {
    if (stream_.avail_in == 0) {
      const size_t take = std::min(packed_.size() - next_, kPiece);
      file_.RequireWhole();
      // zlib does not write through this pointer.
      stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed_.data() + next_));
      stream_.avail_in = static_cast<uInt>(take);
      next_ += take;
    }
    stream_.next_out = reinterpret_cast<Bytef*>(piece->data());
    stream_.avail_out = kPiece;
    const int status = inflate(&stream_, Z_NO_FLUSH);
    full_ = stream_.avail_out == 0;
    return status;
  }

  TrainerError Damaged(const std::string& what) const {
    return DataError(file_.path() + ": byte " + std::to_string(at()) + ": " + what,
                     "Copy the file again from where it came from.")
        .File(file_.path());
  }

  const MappedFile& file_;
  const std::string_view packed_;
  z_stream stream_ = {};
  size_t next_ = 0;  // what has been given to zlib
  bool full_ = false;
};

}  // namespace

std::unique_ptr<const MappedFile> MapDataFile(const std::string& path) {
  try {
    return std::make_unique<MappedFile>(path);
  } catch (const std::system_error& e) {
    throw DataError("cannot read " + path + ": " + e.code().message(),
                    "Check the path, and that the worker may read the file.")
        .File(path);
  }
}

DataText::DataText(const std::string& path, const std::string& scratch_dir)
    : file_(MapDataFile(path)), view_(file_->bytes()) {
  const bool gzip = view_.starts_with(kGzipMagic);
  if (gzip || IsZstd(view_)) {
    unpacked_ = std::make_unique<UnpackedText>(path, scratch_dir);
    if (gzip) {
      Inflater(*file_).Run(*unpacked_);
    } else {
      UnpackZstd(*file_, *unpacked_);
    }
    view_ = unpacked_->Finish();
  }
  if (const std::string encoding = WideEncoding(view_); !encoding.empty()) {
    throw DataError(path + ": is " + encoding + " text, and must be UTF-8",
                    "Save it as UTF-8, such as with iconv -f " + encoding + " -t UTF-8.")
        .File(path);
  }
  if (view_.starts_with(kUtf8Bom)) view_.remove_prefix(kUtf8Bom.size());
}

}  // namespace liger::trainer
