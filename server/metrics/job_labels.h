#ifndef LIGER_SERVER_METRICS_JOB_LABELS_H_
#define LIGER_SERVER_METRICS_JOB_LABELS_H_

#include <string>

#include "liger/v1/job.pb.h"
#include "prometheus/labels.h"

// What the series of jobs say of a job.
namespace liger::server {

// What a job is: the labels of liger_job_info.
prometheus::Labels InfoLabels(const liger::v1::Job& job);

// What failed it, "" unless it did: NAN, OOM_DEVICE, ...
std::string FailureLabel(const liger::v1::JobStatus& status);

}  // namespace liger::server

#endif  // LIGER_SERVER_METRICS_JOB_LABELS_H_
