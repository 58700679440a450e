#include "common/file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <memory>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace liger {
namespace {

// Before the writer's process id, behind the name of the file.
constexpr char kTemporaryMark[] = ".tmp.";

absl::Status ErrnoError(const char* what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot ", what, " ", path));
}

// Incremental SHA-256 (OpenSSL EVP).
class Sha256Hasher {
 public:
  Sha256Hasher() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr);
  }
  void Update(std::string_view bytes) {
    EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size());
  }
  std::string Finish() {
    std::string digest(32, '\0');
    EVP_DigestFinal_ex(context_.get(), reinterpret_cast<unsigned char*>(digest.data()), nullptr);
    return absl::StrCat("sha256:", absl::BytesToHexString(digest));
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

// Calls sink(bytes) for the file's content in pieces.
template <typename Sink>
absl::Status ForEachPiece(const std::string& path, Sink sink) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoError("open", path);
  absl::Cleanup closer = [fd] { close(fd); };
  auto piece = std::make_unique<std::array<char, 1 << 20>>();
  while (true) {
    const ssize_t n = read(fd, piece->data(), piece->size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoError("read", path);
    if (n == 0) return absl::OkStatus();
    if (auto status = sink(std::string_view(piece->data(), static_cast<size_t>(n))); !status.ok()) {
      return status;
    }
  }
}

}  // namespace

absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes) {
  std::string content;
  auto status = ForEachPiece(path, [&](std::string_view bytes) {
    content.append(bytes);
    if (static_cast<int64_t>(content.size()) > max_bytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat(path, " is larger than the limit of ", max_bytes, " bytes"));
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return content;
}

absl::Status WriteFully(int fd, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoError("write", path);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

absl::Status SyncFolder(const std::string& path) {
  const int fd = open(path.empty() ? "." : path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return ErrnoError("open folder", path);
  absl::Cleanup closer = [fd] { close(fd); };
  if (fsync(fd) != 0) return ErrnoError("sync folder", path);
  return absl::OkStatus();
}

absl::Status WriteFileAtomically(const std::string& path, std::string_view content) {
  const std::string temporary = absl::StrCat(path, kTemporaryMark, getpid());
  const int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return ErrnoError("create", temporary);
  absl::Cleanup remover = [&] { unlink(temporary.c_str()); };
  {
    absl::Cleanup closer = [fd] { close(fd); };
    if (auto status = WriteFully(fd, content, path); !status.ok()) return status;
    if (fsync(fd) != 0) return ErrnoError("sync", path);
  }
  if (rename(temporary.c_str(), path.c_str()) != 0) return ErrnoError("rename to", path);
  std::move(remover).Cancel();
  return SyncFolder(std::filesystem::path(path).parent_path().string());
}

void RemoveTemporaries(const std::string& dir) {
  std::error_code error;
  for (std::filesystem::directory_iterator it(dir, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename();
    const size_t mark = name.rfind(kTemporaryMark);
    if (mark == std::string::npos) continue;
    const std::string_view pid = std::string_view(name).substr(mark + strlen(kTemporaryMark));
    std::error_code ignored;
    if (!pid.empty() && pid.find_first_not_of("0123456789") == std::string_view::npos) {
      std::filesystem::remove(it->path(), ignored);
    }
  }
}

absl::Status MakeFolders(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot create folder ", path));
  return absl::OkStatus();
}

std::string Sha256(std::string_view bytes) {
  Sha256Hasher hasher;
  hasher.Update(bytes);
  return hasher.Finish();
}

absl::StatusOr<std::string> Sha256File(const std::string& path) {
  Sha256Hasher hasher;
  auto status = ForEachPiece(path, [&](std::string_view bytes) {
    hasher.Update(bytes);
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return hasher.Finish();
}

}  // namespace liger
