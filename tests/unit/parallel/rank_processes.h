#ifndef LIGER_TESTS_UNIT_PARALLEL_RANK_PROCESSES_H_
#define LIGER_TESTS_UNIT_PARALLEL_RANK_PROCESSES_H_

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/devices.h"

namespace liger::trainer {

// Of a job file: `count` devices of the kind that LIGER_TEST_DEVICE_KIND names, else CPUs.
std::string Resources(int count);
// Four, or as many GPUs as are here where the jobs are for GPUs.
int ManyRanks();

// In which a gang ends after one of its ranks was lost (docs/parallelism.md: 15 s, or what
// LIGER_PEER_TIMEOUT says, and 5 s after it).
inline constexpr absl::Duration kGangEndsIn = absl::Seconds(30);

// Where files are synced at once, however busy the disk: a kill is no loss of power. Before a
// TinyJob.
struct FilesInMemory {
  FilesInMemory();
};

// "<step> <loss>" of each logged step of a job whose output is there.
std::vector<std::string> Losses(const std::string& out);

// Ranks of one job as processes of liger-trainer with torchrun's environment. Killed at the end
// where they still run.
class RankProcesses {
 public:
  // `arguments` of each; rank r's output goes to <log_prefix><r>. `environment` beside the ranks'.
  RankProcesses(int world_size, const std::string& arguments, const std::string& log_prefix,
                const std::map<std::string, std::string>& environment = {});
  ~RankProcesses();
  RankProcesses(const RankProcesses&) = delete;

  // Exit codes by rank, -signal for one that was killed; -1000 for one that still runs at the
  // limit.
  std::vector<int> Wait(absl::Duration limit);
  int WaitFor(int rank, absl::Duration limit);
  void Signal(int rank, int signal) const;
  std::string Output(int rank) const;
  // Waits until that rank has written `text`; false at the limit.
  bool AwaitOutput(int rank, const std::string& text, absl::Duration limit) const;

 private:
  struct Child {
    pid_t pid = 0;
    std::optional<int> status;
    std::string log;
  };
  std::vector<Child> children_;
};

}  // namespace liger::trainer

#endif  // LIGER_TESTS_UNIT_PARALLEL_RANK_PROCESSES_H_
