#ifndef LIGER_WORKER_AGENT_RANK_PORTS_H_
#define LIGER_WORKER_AGENT_RANK_PORTS_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "common/unique_fd.h"

namespace liger::agent {

// Ports of a configured range at which the ranks of a task find rank 0.
class RankPorts {
 public:
  // The range, both ends included.
  RankPorts(int first, int last) : first_(first), last_(last) {}

  // "29500-29999". INVALID_ARGUMENT that names the flag.
  static absl::StatusOr<RankPorts> Parse(const std::string& range);

  // A port that no program of this host has, held for the task until Release: other
  // agents do not get it, the task's rank 0 can listen there. The same one when
  // asked again. RESOURCE_EXHAUSTED, naming the range, when all are in use.
  absl::StatusOr<int> Hold(const std::string& task);
  void Release(const std::string& task) { held_.erase(task); }

 private:
  struct Held {
    int port = 0;
    UniqueFd socket;
  };

  int first_, last_;
  std::map<std::string, Held> held_;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_RANK_PORTS_H_
