#include "common/host_resources.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <string>

namespace liger {
namespace {

// First number of a file; `otherwise` when there is none ("max") or no file.
int64_t FirstNumber(const std::string& path, int64_t otherwise) {
  std::ifstream in(path);
  int64_t value;
  return in >> value ? value : otherwise;
}

// The cgroup's CPU quota in whole processors, rounded up; 0: unlimited. A
// container sees its own group at the mount's root.
int64_t QuotaCpus() {
  std::ifstream v2("/sys/fs/cgroup/cpu.max");
  int64_t quota = 0, period = 0;
  if (!(v2 >> quota >> period)) {
    quota = FirstNumber("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", 0);
    period = FirstNumber("/sys/fs/cgroup/cpu/cpu.cfs_period_us", 0);
  }
  return quota > 0 && period > 0 ? (quota + period - 1) / period : 0;
}

// The number after `key` in a file of "key value" lines.
std::optional<int64_t> NumberOf(const std::string& path, const std::string& key) {
  std::ifstream in(path);
  std::string line;
  while (std::getline(in, line)) {
    if (line.starts_with(key + " ")) return std::strtoll(line.c_str() + key.size(), nullptr, 10);
  }
  return std::nullopt;
}

int64_t HostMemoryBytes() { return int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGE_SIZE); }

}  // namespace

std::string HostName() {
  std::array<char, 256> name = {};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

int AvailableCpus() {
  cpu_set_t set;
  int64_t cpus = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
  if (const int64_t quota = QuotaCpus(); quota > 0) cpus = std::min(cpus, quota);
  return static_cast<int>(std::max<int64_t>(1, cpus));
}

int64_t AvailableMemoryBytes() {
  constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  const int64_t limit = std::min(FirstNumber("/sys/fs/cgroup/memory.max", kNone),
                                 FirstNumber("/sys/fs/cgroup/memory/memory.limit_in_bytes", kNone));
  return std::min(HostMemoryBytes(), limit);
}

std::optional<int64_t> UsedMemoryBytes() {
  // As kubelet counts a working set: without the page cache that is not in use.
  if (AvailableMemoryBytes() < HostMemoryBytes()) {
    const int64_t current = FirstNumber("/sys/fs/cgroup/memory.current", 0);
    const auto cache = NumberOf("/sys/fs/cgroup/memory.stat", "inactive_file");
    if (current > 0 && cache.has_value()) return std::max<int64_t>(0, current - *cache);
    return std::nullopt;
  }
  const auto available_kib = NumberOf("/proc/meminfo", "MemAvailable:");
  if (!available_kib.has_value()) return std::nullopt;
  return std::max<int64_t>(0, HostMemoryBytes() - *available_kib * 1024);
}

}  // namespace liger
