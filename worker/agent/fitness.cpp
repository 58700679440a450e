#include "worker/agent/fitness.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/bytes.h"
#include "common/unique_fd.h"

namespace liger::agent {
namespace {

constexpr int64_t kLeastRoom = 64'000'000;
// Of a disk on which that is much.
constexpr int64_t kLeastShare = 128;

// Empty: it takes a file.
std::string WriteFault(const std::string& folder) {
  const std::string path = absl::StrCat(folder, "/.fitness");
  const UniqueFd file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file.valid()) return strerror(errno);
  const std::string block(4096, '\0');
  const ssize_t written = write(file.get(), block.data(), block.size());
  const std::string fault = written == static_cast<ssize_t>(block.size()) ? ""
                            : written < 0                                 ? strerror(errno)
                                                                          : strerror(ENOSPC);
  unlink(path.c_str());
  return fault;
}

std::vector<std::string> HostInterfaces() {
  std::vector<std::string> names;
  struct if_nameindex* all = if_nameindex();
  if (all == nullptr) return names;
  for (const struct if_nameindex* one = all; one->if_index != 0; ++one) {
    names.emplace_back(one->if_name);
  }
  if_freenameindex(all);
  return names;
}

}  // namespace

std::string DataFolderFault(const std::string& data_dir) {
  if (const std::string fault = WriteFault(data_dir); !fault.empty()) {
    return absl::StrCat("its data folder ", data_dir, " takes no file (", fault,
                        "); make it writable, or make room there");
  }
  struct statvfs disk;
  if (statvfs(data_dir.c_str(), &disk) != 0) return "";
  const auto bytes = [&disk](uint64_t blocks) {
    return static_cast<int64_t>(blocks * disk.f_frsize);
  };
  const int64_t least = std::min(kLeastRoom, bytes(disk.f_blocks) / kLeastShare);
  if (bytes(disk.f_bavail) >= least) return "";
  return absl::StrCat("its data folder ", data_dir, " has less than ", Bytes(least),
                      " of room; make room there");
}

std::string InterfaceFault(const std::string& socket_interface) {
  if (socket_interface.empty() || strchr("^=", socket_interface.front()) != nullptr) return "";
  const std::vector<std::string> there = HostInterfaces();
  if (there.empty()) return "";  // not known
  const std::vector<std::string> names = absl::StrSplit(socket_interface, ',');
  for (const std::string& name : names) {
    if (std::find(there.begin(), there.end(), name) != there.end()) continue;
    return absl::StrCat("--socket-interface ", name, ": this host has no such interface; it has ",
                        absl::StrJoin(there, ", "));
  }
  return "";
}

}  // namespace liger::agent
