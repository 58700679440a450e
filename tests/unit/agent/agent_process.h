#ifndef LIGER_TESTS_UNIT_AGENT_AGENT_PROCESS_H_
#define LIGER_TESTS_UNIT_AGENT_AGENT_PROCESS_H_

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace liger::agent {

// A real liger-worker with the fake trainer, in a temporary folder that is
// removed at the end.
class AgentProcess {
 public:
  // `data_dir`: default, one of its own.
  explicit AgentProcess(const std::string& coordinator, const std::string& data_dir = "");
  ~AgentProcess();

  void Start(const std::vector<std::string>& more_flags = {});
  // Of the next Start.
  void SetVariable(const std::string& name, const std::string& value) { variables_[name] = value; }
  void Signal(int signal_number);
  // Its exit status as waitpid reports it; fails the test after a minute.
  int Wait();
  // From now on no file of it can grow: as on a full disk.
  void FillDisk();
  // SIGKILL, and nothing else: what is left is the next agent's to clear.
  void Kill();

  const std::string& dir() const { return dir_; }
  const std::string& data_dir() const { return data_dir_; }
  std::string output(const std::string& name) const { return dir_ + "/outputs/" + name; }
  std::string Log() const;
  // The answer of its HTTP server, status line and body.
  std::string HttpGet(const std::string& path) const;
  // Folders below <data-dir>/`sub`.
  std::vector<std::string> Folders(const std::string& sub) const;
  // Processes with this agent's mark, trainers and what they started.
  std::vector<pid_t> Trainers() const;

 private:
  const std::string coordinator_;
  std::string dir_;
  std::string data_dir_;
  std::map<std::string, std::string> variables_;
  pid_t pid_ = 0;
};

}  // namespace liger::agent

#endif  // LIGER_TESTS_UNIT_AGENT_AGENT_PROCESS_H_
