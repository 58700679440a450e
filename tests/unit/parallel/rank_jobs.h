#ifndef LIGER_TESTS_UNIT_PARALLEL_RANK_JOBS_H_
#define LIGER_TESTS_UNIT_PARALLEL_RANK_JOBS_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/unit/loop/tiny_job.h"
#include "tests/unit/parallel/rank_processes.h"
#include "worker/trainer/checkpoint/safetensors.h"
#include "worker/trainer/loop/exit_code.h"

namespace liger::trainer {

inline constexpr absl::Duration kLimit = absl::Minutes(4);  // of a busy machine

// Of `size` ranks that have rows together, and of as many rows at once whatever their number.
inline std::string Sequence(int size, int ranks) {
  const std::string rows = std::to_string(4 * size / ranks);
  return " --set parallel.sequence_parallel_size=" + std::to_string(size) +
         " --set training.per_device_train_batch_size=" + rows +
         " --set training.per_device_eval_batch_size=" + rows;
}

// Jobs of several ranks through the program, and what they leave beside what one device leaves.
class RankJobs : public testing::Test {
 protected:
  // Of `ranks` ranks that take 4 rows a micro-batch together.
  std::string Arguments(const std::string& method, const std::string& data, int ranks,
                        const std::string& out, const std::string& more = "") {
    job_.WriteFile(out + ".yaml",
                   "model: {name: " + job_.Path("model") + ", random_init: true}\n" +
                       "dataset: {uri: " + job_.Path(data) + ", eval_fraction: 0.25}\n" + method +
                       ": {}\n" + Resources(ranks) + "training: " +
                       "{max_length: 64, precision: FP32, learning_rate: 1e-3, logging_steps: 1, "
                       "eval_steps: 3, " +
                       "gradient_accumulation_steps: 2, per_device_train_batch_size: " +
                       std::to_string(4 / ranks) +
                       ", per_device_eval_batch_size: " + std::to_string(4 / ranks) + more + "}\n");
    return "--spec " + job_.Path(out + ".yaml") + " --output " + job_.Path(out);
  }
  void Run(int ranks, const std::string& arguments) {
    RankProcesses processes(ranks, arguments, job_.Path("log"));
    ASSERT_THAT(processes.Wait(kLimit), testing::Each(kExitOk))
        << processes.Output(0) << processes.Output(ranks - 1);
  }
  std::vector<nlohmann::json> Metrics(const std::string& out) const {
    std::istringstream in(ReadAll(job_.Path(out + "/metrics.jsonl")));
    std::vector<nlohmann::json> lines;
    for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
    return lines;
  }
  void ExpectSameMetrics(const std::string& actual, const std::string& expected) const {
    const auto a = Metrics(actual), e = Metrics(expected);
    ASSERT_EQ(a.size(), e.size());
    for (size_t i = 0; i < e.size(); ++i) {
      for (const char* name : {"loss", "grad_norm", "learning_rate", "epoch", "num_tokens",
                               "entropy", "eval_loss", "rewards/chosen", "kl"}) {
        if (!e[i].contains(name)) continue;
        const double value = e[i][name];
        ASSERT_TRUE(a[i].contains(name)) << name;
        EXPECT_NEAR(a[i][name].get<double>(), value, 1e-5 * std::max(1.0, std::abs(value)))
            << name << " in line " << i;
      }
    }
  }
  void ExpectSameRun(const std::string& actual, const std::string& expected,
                     const std::string& file = "/model.safetensors") const {
    ExpectSameMetrics(actual, expected);
    const auto of = SafetensorsFile::Open(job_.Path(expected + file));
    const auto is = SafetensorsFile::Open(job_.Path(actual + file));
    for (const auto& [name, info] : of->tensors()) {
      EXPECT_TRUE(at::allclose(is->View(name), of->View(name), 1e-4, 1e-5)) << name;
    }
  }
  std::vector<std::string> Leftovers() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(job_.dir())) {
      const std::string name = entry.path().filename();
      if (name.find(".attempt-") != std::string::npos) names.push_back(name);
    }
    return names;
  }

  const int many_ = ManyRanks();
  TinyJob job_;
};

}  // namespace liger::trainer

#endif  // LIGER_TESTS_UNIT_PARALLEL_RANK_JOBS_H_
