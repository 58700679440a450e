#ifndef LIGER_COMMON_SPEC_SPEC_H_
#define LIGER_COMMON_SPEC_SPEC_H_

#include <string>
#include <string_view>
#include <vector>

#include "liger/v1/job.pb.h"
#include "liger/v1/job_spec.pb.h"

namespace liger {

// "sft", "dpo", "orpo", "kto", "cpo", or "" when no method is set.
std::string MethodName(const liger::v1::JobSpec& spec);

// What a dataset is called: its name, else its URI, else those of its sources.
std::string DatasetTitle(const liger::v1::DatasetSpec& dataset);

// Those that can be trained; the spec has names for others that come later.
inline constexpr const char* kTrainableMethods[] = {"sft", "dpo", "orpo", "kto", "cpo"};

// Whether a model's or a dataset's name can only be a path: it holds a slash,
// begins with "." or "~", ends as a file of data does, or has a wildcard.
bool LooksLikePath(std::string_view name);

// Everything that can be said about a spec without seeing weights, data or the
// fleet: required fields, ranges, exclusions, and features that are not there
// yet (refused by name). Empty: valid.
std::vector<liger::v1::Violation> ValidateSpec(const liger::v1::JobSpec& spec);

// What a valid spec asks for that will have no effect, or hardly the one that was meant,
// as warnings with code and field. The same before and after FillDefaults.
std::vector<liger::v1::Warning> SpecWarnings(const liger::v1::JobSpec& spec);
// Those of what does not fit into so many optimizer steps, where they hang on the data:
// SpecWarnings has them of max_steps.
std::vector<liger::v1::Warning> LengthWarnings(const liger::v1::JobSpec& spec, int64_t steps);

// Fills every default of job_spec.proto in place, once; idempotent. Left to the
// trainer: the kernel switches, whose defaults hang on the model's type, and
// sft.completion_only_loss, on the rows. The device kind should have been
// decided before (unspecified becomes CPU), and catalog names pinned.
// REQUIRES: ValidateSpec(*spec) is empty.
void FillDefaults(liger::v1::JobSpec* spec);

// The learning rate that FillDefaults gives a job that says none, by its method (TRL's).
double DefaultLearningRate(const liger::v1::JobSpec& spec);

// The rule by which SpecHash is made; stored beside it.
inline constexpr int kSpecHashVersion = 1;

// "sha256:<hex>" over the canonical JSON (sorted keys, no white space) of the
// spec without name, labels, priority and output.
std::string SpecHash(const liger::v1::JobSpec& resolved_spec);

}  // namespace liger

#endif  // LIGER_COMMON_SPEC_SPEC_H_
