#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "worker/agent/oom_watch.h"

namespace liger::agent {
namespace {

std::string Slurp(const std::string& path) {
  std::ifstream in(path);
  std::stringstream content;
  content << in.rdbuf();
  return content.str();
}

// The number behind `key` in a file of "key number" lines; -1 when not there.
int64_t CounterIn(const std::string& path, absl::string_view key) {
  const std::string content = Slurp(path);
  for (absl::string_view line : absl::StrSplit(content, '\n')) {
    std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    int64_t value;
    if (words.size() == 2 && words[0] == key && absl::SimpleAtoi(words[1], &value)) return value;
  }
  return -1;
}

// Where this process's memory cgroup may be mounted: its path as the host sees
// it, and the root, which is what a container sees of itself.
std::vector<std::string> CounterFiles() {
  std::vector<std::string> files;
  const std::string own = Slurp("/proc/self/cgroup");
  for (absl::string_view line : absl::StrSplit(own, '\n')) {
    // hierarchy:controllers:path
    std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const bool v2 = parts[1].empty();
    const bool v1_memory = parts[1] == "memory";
    if (v2) files.push_back(absl::StrCat("/sys/fs/cgroup", parts[2], "/memory.events"));
    if (v1_memory) {
      files.push_back(absl::StrCat("/sys/fs/cgroup/memory", parts[2], "/memory.oom_control"));
    }
  }
  files.push_back("/sys/fs/cgroup/memory.events");
  files.push_back("/sys/fs/cgroup/memory/memory.oom_control");
  return files;
}

}  // namespace

int64_t OomKillCount() {
  for (const std::string& file : CounterFiles()) {
    if (int64_t count = CounterIn(file, "oom_kill"); count >= 0) return count;
  }
  return CounterIn("/proc/vmstat", "oom_kill");
}

}  // namespace liger::agent
