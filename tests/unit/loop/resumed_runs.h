#ifndef LIGER_TESTS_UNIT_LOOP_RESUMED_RUNS_H_
#define LIGER_TESTS_UNIT_LOOP_RESUMED_RUNS_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "common/checkpoints.h"
#include "tests/unit/loop/tiny_job.h"
#include "worker/trainer/checkpoint/safetensors.h"

// What tests of runs that are cut off and go on share.
namespace liger::trainer {

inline liger::v1::TrainingSpec& Training(Request& request) {
  return *request.launch.mutable_resolved_spec()->mutable_training();
}

// Checkpoints every 3 steps, evaluation every 2, logs that straddle checkpoints.
inline Request WithCheckpoints(Request request) {
  Training(request).set_save_steps(3);
  Training(request).set_eval_steps(2);
  Training(request).set_logging_steps(2);
  Training(request).set_save_total_limit(0);
  return request;
}

inline Request In(Request request, const std::string& attempt_dir) {
  request.launch.set_attempt_dir(attempt_dir);
  return request;
}

inline Request From(Request request, const std::string& checkpoint) {
  request.launch.set_resume_from(checkpoint);
  return request;
}

inline std::string Checkpoint(const std::string& attempt_dir, int64_t step) {
  return attempt_dir + "/checkpoints/" + CheckpointName(step);
}

// What a job's log says of steps and evaluations, without times.
inline std::vector<std::string> Lines(const std::string& path) {
  std::ifstream in(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    auto object = nlohmann::ordered_json::parse(line);
    for (const char* time : {"step_seconds", "tokens_per_second", "eval_runtime", "train_runtime",
                             "train_tokens_per_second", "throughput", "tflops", "mfu", "memory/rss",
                             "memory/allocated", "memory/reserved", "save_stall_seconds"}) {
      object.erase(time);
    }
    lines.push_back(object.dump());
  }
  return lines;
}

inline void ExpectSameTensors(const std::string& a, const std::string& b) {
  const auto one = SafetensorsFile::Open(a), two = SafetensorsFile::Open(b);
  ASSERT_EQ(one->tensors().size(), two->tensors().size());
  for (const auto& [name, info] : one->tensors()) {
    EXPECT_TRUE(at::equal(one->View(name), two->View(name))) << name;
  }
}

inline std::string Failure(const TaskOutcome& outcome) {
  return outcome.sink.Last(liger::trainer::v1::Event::kFailed).ShortDebugString();
}

// The disk is full from the first checkpoint until the next one could not be written.
struct FullDisk : RecordingSink {
  static void LimitFiles(rlim_t bytes) {
    rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = std::min(bytes, limit.rlim_max);
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  bool Emit(liger::trainer::v1::Event event) override {
    if (event.has_saved() && event.saved().step() == 3) LimitFiles(64 << 10);
    if (event.has_warning() && event.warning().code() == "CheckpointNotSaved") {
      LimitFiles(RLIM_INFINITY);
    }
    return RecordingSink::Emit(std::move(event));
  }
};

}  // namespace liger::trainer

#endif  // LIGER_TESTS_UNIT_LOOP_RESUMED_RUNS_H_
