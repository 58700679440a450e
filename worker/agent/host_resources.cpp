#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include "worker/agent/devices.h"

namespace liger::agent {
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

}  // namespace

int AvailableCpus() {
  cpu_set_t set;
  int64_t cpus = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
  if (const int64_t quota = QuotaCpus(); quota > 0) cpus = std::min(cpus, quota);
  return static_cast<int>(std::max<int64_t>(1, cpus));
}

int64_t AvailableMemoryBytes() {
  const int64_t host = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGE_SIZE);
  constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  const int64_t limit = std::min(FirstNumber("/sys/fs/cgroup/memory.max", kNone),
                                 FirstNumber("/sys/fs/cgroup/memory/memory.limit_in_bytes", kNone));
  return std::min(host, limit);
}

}  // namespace liger::agent
