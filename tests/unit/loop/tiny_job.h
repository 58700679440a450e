#ifndef LIGER_TESTS_UNIT_LOOP_TINY_JOB_H_
#define LIGER_TESTS_UNIT_LOOP_TINY_JOB_H_

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "liger/trainer/v1/trainer.pb.h"
#include "worker/trainer/loop/events.h"
#include "worker/trainer/loop/request.h"

namespace liger::trainer {

// Keeps every event but Alive.
class RecordingSink : public EventSink {
 public:
  bool Emit(liger::trainer::v1::Event event) override {
    const std::lock_guard<std::mutex> lock(*mutex_);
    if (!event.has_alive()) events.push_back(std::move(event));
    return true;
  }
  // The only event of a kind; default when there is none.
  liger::trainer::v1::Event Last(liger::trainer::v1::Event::EventCase kind) const;
  std::vector<liger::trainer::v1::Event> All(liger::trainer::v1::Event::EventCase kind) const;

  // Of a task that has ended.
  std::vector<liger::trainer::v1::Event> events;

 private:
  std::shared_ptr<std::mutex> mutex_ = std::make_shared<std::mutex>();
};

// A temporary folder with a two-layer Llama (config and byte-level tokenizer,
// no weights: jobs draw them at random) and small data files. Removed at the end.
class TinyJob {
 public:
  TinyJob();
  ~TinyJob();
  TinyJob(const TinyJob&) = delete;

  // A resolved SFT job of 8 steps over a text that the model can learn,
  // with an evaluation share and one sample prompt. Jobs are for the CPU, or what
  // LIGER_TEST_DEVICE_KIND names (tests/gpu/run_all: DEVICE_KIND_CUDA), there deterministic.
  Request Sft() const;
  Request Orpo() const;
  Request Dpo() const;
  Request Kto() const;

  const std::string& dir() const { return dir_; }
  std::string Path(const std::string& name) const { return dir_ + "/" + name; }
  void WriteFile(const std::string& name, const std::string& content) const;

 private:
  Request Base() const;

  std::string dir_;
};

struct TaskOutcome {
  int exit_code = -1;
  RecordingSink sink;
};

// RunTask on `request`, events recorded.
TaskOutcome RunRecorded(const Request& request);

std::string ReadAll(const std::string& path);

}  // namespace liger::trainer

#endif  // LIGER_TESTS_UNIT_LOOP_TINY_JOB_H_
