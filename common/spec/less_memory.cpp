#include "common/spec/less_memory.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace liger {
namespace {

using liger::v1::JobSpec;

bool OnGpu(const JobSpec& resolved) {
  return resolved.resources().device_kind() == liger::v1::DEVICE_KIND_CUDA;
}

std::string Joined(std::vector<std::string> ways) {
  const std::string last = ways.back();
  ways.pop_back();
  return ways.empty() ? last : absl::StrCat(absl::StrJoin(ways, ", "), " or ", last);
}

std::vector<std::string> SmallerBatches(const MemoryUser& user) {
  const auto* training = user.job == nullptr ? nullptr : &user.job->training();
  std::vector<std::string> ways;
  if (user.evaluating) {
    if (training == nullptr || training->per_device_eval_batch_size() != 1) {
      ways.emplace_back("lower training.per_device_eval_batch_size");
    }
  } else if (training == nullptr || training->per_device_train_batch_size() != 1) {
    ways.emplace_back(
        "lower training.per_device_train_batch_size (raise gradient_accumulation_steps to keep the "
        "step's size)");
  }
  ways.emplace_back("lower training.max_length");
  return ways;
}

// The baseline's losses hold the logits of all tokens.
void AddKernels(const JobSpec& resolved, std::vector<std::string>* ways) {
  if (resolved.kernels().mode() == liger::v1::KERNEL_MODE_BASELINE) {
    ways->emplace_back("use kernels: LIGER");
  }
}

// The next way to keep less for the backward pass; none where all are taken.
void AddFewerActivations(const JobSpec& resolved, std::vector<std::string>* ways) {
  const auto& training = resolved.training();
  if (!training.gradient_checkpointing()) {
    ways->emplace_back("set training.gradient_checkpointing");
  } else if (training.gradient_checkpointing_every() > 1) {
    ways->emplace_back("set training.gradient_checkpointing_every: 1");
  } else if (!training.activation_offloading() && OnGpu(resolved)) {
    ways->emplace_back("set training.activation_offloading");
  }
}

}  // namespace

std::string LessDeviceMemory(const MemoryUser& user) {
  std::vector<std::string> ways = SmallerBatches(user);
  if (user.job == nullptr) {
    ways.emplace_back("set training.gradient_checkpointing, with it activation_offloading");
  } else {
    if (!user.evaluating) AddFewerActivations(*user.job, &ways);
    AddKernels(*user.job, &ways);
  }
  return Joined(std::move(ways));
}

std::string LessHostMemory(const MemoryUser& user) {
  if (user.reading) {
    return "write Parquet in smaller row groups, lower LIGER_DATA_MEMORY_MB in the worker's "
           "environment, name fewer files, or use a host with more memory";
  }
  if (user.job == nullptr) {
    std::vector<std::string> ways = SmallerBatches(user);
    ways.emplace_back(
        "set training.gradient_checkpointing; on a GPU leave activation_offloading and "
        "parallel.cpu_offload out");
    return Joined(std::move(ways));
  }
  const JobSpec& job = *user.job;
  if (!OnGpu(job)) return LessDeviceMemory(user);
  std::vector<std::string> ways;
  if (job.training().activation_offloading() && !user.evaluating) {
    ways = SmallerBatches(user);
    ways.emplace_back("leave training.activation_offloading out");
  }
  if (job.parallel().cpu_offload()) ways.emplace_back("leave parallel.cpu_offload out");
  ways.emplace_back("use a host with more memory");
  return Joined(std::move(ways));
}

}  // namespace liger
