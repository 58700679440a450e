#include "worker/agent/spawner.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "worker/agent/process.h"
#include "common/unique_fd.h"

namespace liger::agent {
namespace {

// What the child needs between fork and exec, prepared before the fork: after
// it only async-signal-safe calls are allowed.
struct ExecPlan {
  std::vector<char*> argv, envp;
  std::string cwd;
  int log_fd;
  int error_fd;
  std::vector<int> keep;  // sorted
  pid_t parent;
};

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (std::string& s : strings) out.push_back(s.data());
  out.push_back(nullptr);
  return out;
}

[[noreturn]] void Fail(int error_fd) {
  const int error = errno;
  [[maybe_unused]] ssize_t n = write(error_fd, &error, sizeof(error));
  _exit(127);
}

void CloseRange(unsigned first, unsigned last) {
  if (first <= last) syscall(SYS_close_range, first, last, 0);
}

// Closes every descriptor above 2 that is not listed.
void CloseOthers(const std::vector<int>& keep) {
  unsigned first = 3;
  for (int fd : keep) {
    CloseRange(first, static_cast<unsigned>(fd) - 1);
    first = static_cast<unsigned>(fd) + 1;
  }
  CloseRange(first, ~0u);
}

[[noreturn]] void RunChild(const ExecPlan& plan) {
  // The kernel kills the trainer when the agent dies; the check closes the
  // window in which it died before the call.
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) Fail(plan.error_fd);
  if (getppid() != plan.parent) _exit(127);
  if (setsid() < 0) Fail(plan.error_fd);
  const int null_fd = open("/dev/null", O_RDONLY);
  if (null_fd < 0 || dup2(null_fd, 0) < 0) Fail(plan.error_fd);
  if (dup2(plan.log_fd, 1) < 0 || dup2(plan.log_fd, 2) < 0) Fail(plan.error_fd);
  for (int fd : plan.keep) {
    if (fd != plan.error_fd && fcntl(fd, F_SETFD, 0) != 0) Fail(plan.error_fd);
  }
  CloseOthers(plan.keep);
  if (!plan.cwd.empty() && chdir(plan.cwd.c_str()) != 0) Fail(plan.error_fd);
  signal(SIGPIPE, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, nullptr);
  execve(plan.argv[0], plan.argv.data(), plan.envp.data());
  Fail(plan.error_fd);
}

absl::StatusOr<ProcessId> ForkAndExec(const SpawnRequest& request) {
  std::vector<std::string> argv = request.argv, env;
  for (const auto& [key, value] : request.env) env.push_back(absl::StrCat(key, "=", value));
  int error_pipe[2];
  if (pipe2(error_pipe, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe2");
  UniqueFd error_read(error_pipe[0]), error_write(error_pipe[1]);
  ExecPlan plan{Pointers(argv), Pointers(env),     request.working_dir,
                request.log_fd, error_write.get(), request.pass_fds,
                getpid()};
  plan.keep.push_back(error_write.get());
  std::sort(plan.keep.begin(), plan.keep.end());

  const pid_t pid = fork();
  if (pid < 0) return absl::ErrnoToStatus(errno, "fork");
  if (pid == 0) RunChild(plan);
  error_write.reset();
  int error = 0;
  ssize_t n;
  do {
    n = read(error_read.get(), &error, sizeof(error));
  } while (n < 0 && errno == EINTR);
  if (n == sizeof(error)) {
    waitpid(pid, nullptr, 0);
    return absl::ErrnoToStatus(error, absl::StrCat("cannot start ", request.argv[0]));
  }
  return ProcessId{pid, StartTicks(pid).value_or(0)};
}

}  // namespace

Spawner::Spawner() : thread_([this] { Run(); }) {}

Spawner::~Spawner() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

absl::StatusOr<ProcessId> Spawner::Spawn(const SpawnRequest& request) {
  Job job;
  job.request = &request;
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(this, &Spawner::Idle));
  job_ = &job;
  mutex_.Await(absl::Condition(&job.done));
  return job.result;
}

void Spawner::Run() {
  // Signals are main's; a child starts with none blocked (RunChild).
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  absl::MutexLock lock(&mutex_);
  while (true) {
    mutex_.Await(absl::Condition(this, &Spawner::Ready));
    if (job_ == nullptr) return;
    job_->result = ForkAndExec(*job_->request);
    job_->done = true;
    job_ = nullptr;
  }
}

}  // namespace liger::agent
