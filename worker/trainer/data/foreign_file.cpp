#include "worker/trainer/data/foreign_file.h"

#include <algorithm>
#include <iterator>

#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

using std::string_view_literals::operator""sv;

constexpr std::string_view kLfsPointer = "version https://git-lfs.github.com/spec/v1";
constexpr char kTar[] = "is a tar archive";

struct ForeignForm {
  const char* what;
  std::string_view bytes;
  size_t at = 0;
};

// By what text cannot have there: of bzip2 not its "BZh9", and of tar also the zero behind.
constexpr ForeignForm kForms[] = {{"is packed with bzip2", "1AY&SY", 4},
                                  {"is packed with xz",
                                   "\xFD"
                                   "7zXZ\0"sv},
                                  {"is a zip archive", "PK\x03\x04"},
                                  {"is a 7z archive", "7z\xBC\xAF\x27\x1C"},
                                  {kTar, "ustar\0"sv, 257},
                                  {kTar, "ustar  \0"sv, 257}};

// Archives are told by their names before they are unpacked, which may take long.
bool NamedTar(std::string_view path) {
  constexpr std::string_view kEndings[] = {".tar", ".tar.gz", ".tgz", ".tar.zst"};
  return std::ranges::any_of(kEndings, [&](std::string_view end) { return path.ends_with(end); });
}

// "" when it is none that is known.
std::string ForeignFormOf(std::string_view path, std::string_view bytes) {
  const auto form = std::ranges::find_if(kForms, [&](const ForeignForm& known) {
    return bytes.size() > known.at && bytes.substr(known.at).starts_with(known.bytes);
  });
  if (form != std::end(kForms)) return form->what;
  return NamedTar(path) ? kTar : "";
}

}  // namespace

void RequireNotForeign(const std::string& path, std::string_view bytes) {
  if (bytes.starts_with(kLfsPointer)) {
    throw DataError(path + ": is a Git LFS pointer, which stands for the data",
                    "Fetch the data with `git lfs pull` in its repository, or with `hf download`.")
        .File(path);
  }
  if (const std::string form = ForeignFormOf(path, bytes); !form.empty()) {
    throw DataError(path + ": " + form + ", which is not read",
                    "Unpack it; the packings that are read are gzip and zstd, of single files.")
        .File(path);
  }
}

}  // namespace liger::trainer
