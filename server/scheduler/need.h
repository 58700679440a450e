#ifndef LIGER_SERVER_SCHEDULER_NEED_H_
#define LIGER_SERVER_SCHEDULER_NEED_H_

#include <algorithm>
#include <string>

#include "server/store/records.h"
#include "server/store/worker_files.h"

namespace liger::server {

// What a job needs, read once.
struct Need {
  explicit Need(const JobRow& job)
      : job(&job),
        kind(job.resolved_spec.resources().device_kind()),
        count(std::max(1, job.resolved_spec.resources().count())),
        mixed(job.resolved_spec.resources().allow_mixed_devices()),
        model_uri(job.resolved_spec.model().uri()),
        model_is_shape(NeedsNoModelFolder(job.resolved_spec)),
        dataset_uri(job.resolved_spec.dataset().uri()) {}

  const JobRow* job;
  liger::v1::DeviceKind kind;
  int count;
  bool mixed;
  std::string model_uri;
  bool model_is_shape;
  std::string dataset_uri;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_SCHEDULER_NEED_H_
