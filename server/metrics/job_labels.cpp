#include "server/metrics/job_labels.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/spec/spec.h"

namespace liger::server {
namespace {

std::string LabelOr(const liger::v1::JobSpec& spec, const char* key, const std::string& otherwise) {
  const auto label = spec.labels().find(key);
  return label == spec.labels().end() ? otherwise : label->second;
}

}  // namespace

prometheus::Labels InfoLabels(const liger::v1::Job& job) {
  const liger::v1::JobSpec& spec = job.has_resolved_spec() ? job.resolved_spec() : job.spec();
  const std::string batch_size = absl::StrCat(spec.training().per_device_train_batch_size());
  const std::string kernels = liger::v1::KernelMode_Name(spec.kernels().mode());
  return {{"job_name", job.name()},
          {"job_uid", job.uid()},
          {"model", spec.model().name().empty() ? spec.model().uri() : spec.model().name()},
          {"trainer", MethodName(spec)},
          {"batch_size", batch_size},
          {"kernels", std::string(absl::StripPrefix(kernels, "KERNEL_MODE_"))},
          {"dataset", DatasetTitle(spec.dataset())},
          {"experiment", LabelOr(spec, "experiment", "")},
          // A name may be another experiment's by now.
          {"experiment_uid", LabelOr(spec, "experiment_uid", "")},
          // What sets it apart from other jobs of one experiment, kernels aside.
          {"point", LabelOr(spec, "point", "batch size " + batch_size)}};
}

std::string FailureLabel(const liger::v1::JobStatus& status) {
  if (status.state() != liger::v1::JobStatus::FAILED) return "";
  const std::string name = liger::v1::FailureClass_Name(status.failure().class_());
  return std::string(absl::StripPrefix(name, "FAILURE_CLASS_"));
}

}  // namespace liger::server
