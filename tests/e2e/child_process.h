#ifndef LIGER_TESTS_E2E_CHILD_PROCESS_H_
#define LIGER_TESTS_E2E_CHILD_PROCESS_H_

#include <sys/types.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace liger::e2e {

// A program of ours, started by a test. Dies with the test.
class ChildProcess {
 public:
  // Output is appended to `log`. `variables` come on top of the environment.
  ChildProcess(std::vector<std::string> argv, std::string log,
               std::map<std::string, std::string> variables);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  void Signal(int signal_number) const;
  // SIGKILL, and waits for it.
  void Kill();
  // SIGTERM, and the exit status as waitpid has it; fails the test, and kills,
  // when the process does not end in time.
  int Terminate(absl::Duration timeout = absl::Seconds(30));
  // False once it has ended.
  bool Running();

 private:
  pid_t pid_ = 0;
  int status_ = 0;
};

// Processes whose environment holds `assignment` ("NAME=value"), but not this.
std::vector<pid_t> ProcessesWith(const std::string& assignment);
std::string CommandLine(pid_t pid);
// TCP ports that the process listens on; 0: any process of this host.
std::set<int> ListeningPorts(pid_t pid = 0);

}  // namespace liger::e2e

#endif  // LIGER_TESTS_E2E_CHILD_PROCESS_H_
