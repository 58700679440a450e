#ifndef LIGER_TESTS_UNIT_AGENT_LOOPBACK_PROXY_H_
#define LIGER_TESTS_UNIT_AGENT_LOOPBACK_PROXY_H_

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace liger::agent {

// Forwards TCP connections to a port of loopback, until one goes silent: as
// when a cable is pulled, neither side hears of it.
class LoopbackProxy {
 public:
  explicit LoopbackProxy(int target_port);
  ~LoopbackProxy();

  std::string address() const;
  // The connections that there are stay open and carry nothing any more; new
  // ones work.
  void Silence() { silenced_ = accepted_.load(); }

 private:
  void Accept();
  void Forward(int number, int client);

  const int target_port_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<int> accepted_{0};
  std::atomic<int> silenced_{0};  // connections with a number up to this
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> connections_;  // of the accepting thread
  std::thread acceptor_;
};

}  // namespace liger::agent

#endif  // LIGER_TESTS_UNIT_AGENT_LOOPBACK_PROXY_H_
