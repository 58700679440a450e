#include "worker/trainer/objectives/objective.h"

#include "worker/trainer/error.h"
#include "worker/trainer/objectives/cpo.h"
#include "worker/trainer/objectives/dpo.h"
#include "worker/trainer/objectives/kto.h"
#include "worker/trainer/objectives/orpo.h"
#include "worker/trainer/objectives/sft.h"

namespace liger::trainer {
namespace {

using liger::v1::JobSpec;

std::unique_ptr<Objective> MakeSft(const JobSpec& spec) {
  return std::make_unique<SftObjective>(SftOptions::FromSpec(spec.sft()));
}

std::unique_ptr<Objective> MakeOrpo(const JobSpec& spec) {
  constexpr double kDefaultBeta = 0.1;  // as JobSpec says
  return std::make_unique<OrpoObjective>(spec.orpo().has_beta() ? spec.orpo().beta()
                                                                : kDefaultBeta);
}

std::unique_ptr<Objective> MakeDpo(const JobSpec& spec) {
  return std::make_unique<DpoObjective>(DpoOptions::FromSpec(spec.dpo()));
}

std::unique_ptr<Objective> MakeCpo(const JobSpec& spec) {
  return std::make_unique<CpoObjective>(CpoOptions::FromSpec(spec.cpo()));
}

std::unique_ptr<Objective> MakeKto(const JobSpec& spec) {
  return std::make_unique<KtoObjective>(KtoOptions::FromSpec(spec.kto()));
}

struct Method {
  JobSpec::MethodCase method;
  std::unique_ptr<Objective> (*make)(const JobSpec&);
};

// Every method of JobSpec. Each new objective is a file beside sft.cpp and its
// line here.
constexpr Method kMethods[] = {
    {JobSpec::kSft, MakeSft}, {JobSpec::kOrpo, MakeOrpo}, {JobSpec::kDpo, MakeDpo},
    {JobSpec::kKto, MakeKto}, {JobSpec::kCpo, MakeCpo},
};

}  // namespace

CausalLM& Objective::reference() const {
  TORCH_CHECK(reference_, "the objective compares with a reference, and none was set");
  return *reference_;
}

bool Objective::FusesHead(const CausalLM& model) const {
  return model.kernels().fused_linear_logprob;
}

at::Tensor Objective::ReferenceLogps(CausalLM&, const Batch&) const {
  TORCH_CHECK(false, "the objective compares with no reference");
}

std::unique_ptr<Objective> MakeObjective(const JobSpec& resolved_spec) {
  for (const Method& method : kMethods) {
    if (method.method != resolved_spec.method_case()) continue;
    return method.make(resolved_spec);
  }
  throw ConfigError("the job names no method", "Set one of sft, dpo, orpo, kto, cpo.")
      .Field("method");
}

}  // namespace liger::trainer
