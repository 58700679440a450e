#include "worker/trainer/loop/step_profile.h"

#include <torch/csrc/autograd/profiler_kineto.h>

#include <charconv>
#include <cstdlib>
#include <optional>
#include <set>

#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

namespace profiler = torch::autograd::profiler;
using torch::profiler::impl::ActivityType;

constexpr char kVariable[] = "LIGER_PROFILE";

struct Wanted {
  int64_t step;
  std::string file;
};

std::optional<Wanted> FromEnvironment() {
  const char* value = std::getenv(kVariable);
  if (value == nullptr || *value == '\0') return std::nullopt;
  const std::string text = value;
  const size_t colon = text.find(':');
  Wanted wanted{0, colon == std::string::npos ? "" : text.substr(colon + 1)};
  const char* const end = text.data() + (colon == std::string::npos ? 0 : colon);
  const auto [parsed, error] = std::from_chars(text.data(), end, wanted.step);
  if (error != std::errc() || parsed != end || wanted.step < 1 || wanted.file.empty()) {
    throw ConfigError(std::string(kVariable) + " is '" + text + "', not STEP:FILE",
                      "set it to a step from 1 and a file, as in 3:trace.json, or unset it");
  }
  return wanted;
}

}  // namespace

StepProfile::StepProfile(int64_t step, bool on_gpu) {
  const auto wanted = FromEnvironment();
  if (!wanted || wanted->step != step) return;
  file_ = wanted->file;
  std::set<ActivityType> activities = {ActivityType::CPU};
  if (on_gpu) activities.insert(ActivityType::CUDA);
  const torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO);
  profiler::prepareProfiler(config, activities);
  profiler::enableProfiler(config, activities, {at::RecordScope::FUNCTION});
}

StepProfile::~StepProfile() {
  if (!file_.empty()) profiler::disableProfiler()->save(file_);
}

}  // namespace liger::trainer
