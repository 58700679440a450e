#include "worker/trainer/objectives/objective.h"

#include "worker/trainer/error.h"
#include "worker/trainer/objectives/orpo.h"
#include "worker/trainer/objectives/sft.h"

namespace liger::trainer {
namespace {

using liger::v1::JobSpec;

std::unique_ptr<Objective> MakeSft(const JobSpec&) { return std::make_unique<SftObjective>(); }

std::unique_ptr<Objective> MakeOrpo(const JobSpec& spec) {
  constexpr double kDefaultBeta = 0.1;  // as JobSpec says
  return std::make_unique<OrpoObjective>(spec.orpo().has_beta() ? spec.orpo().beta()
                                                                : kDefaultBeta);
}

struct Method {
  JobSpec::MethodCase method;
  const char* field;
  // nullptr: not available yet.
  std::unique_ptr<Objective> (*make)(const JobSpec&);
};

// Every method of JobSpec. Each new objective is a file beside sft.cpp and its
// line here.
constexpr Method kMethods[] = {
    {JobSpec::kSft, "sft", MakeSft},
    {JobSpec::kOrpo, "orpo", MakeOrpo},
    {JobSpec::kDpo, "dpo", nullptr},
    {JobSpec::kKto, "kto", nullptr},
};

}  // namespace

std::unique_ptr<Objective> MakeObjective(const JobSpec& resolved_spec) {
  for (const Method& method : kMethods) {
    if (method.method != resolved_spec.method_case()) continue;
    if (method.make) return method.make(resolved_spec);
    throw ConfigError(std::string(method.field) + " is not available yet", "Use sft or orpo.")
        .Field(method.field);
  }
  throw ConfigError("the job names no method", "Set one of sft, orpo.").Field("method");
}

}  // namespace liger::trainer
