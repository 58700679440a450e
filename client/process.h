#ifndef LIGER_CLIENT_PROCESS_H_
#define LIGER_CLIENT_PROCESS_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace liger::client {

// Folder of the running program; the other programs lie beside it.
std::string ProgramFolder();

// A child process with its output in a log file; it gets SIGTERM when this
// process dies, and is stopped and reaped by the destructor.
class ChildProcess {
 public:
  // Throws CliError when the program cannot be started.
  ChildProcess(const std::vector<std::string>& command, const std::string& log_file);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;

  // The wait status once it has ended.
  std::optional<int> Poll();

  // SIGTERM, then SIGKILL after the grace.
  void Stop(double grace_seconds);

  const std::string& log_file() const { return log_file_; }
  // What this process has written there; earlier ones may have, too.
  std::string Log() const;

 private:
  std::string log_file_;
  size_t log_start_ = 0;
  pid_t pid_ = -1;
  std::optional<int> status_;
};

}  // namespace liger::client

#endif  // LIGER_CLIENT_PROCESS_H_
