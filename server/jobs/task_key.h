#ifndef LIGER_SERVER_JOBS_TASK_KEY_H_
#define LIGER_SERVER_JOBS_TASK_KEY_H_

#include <string>

#include "absl/strings/str_cat.h"
#include "liger/trainer/v1/trainer.pb.h"

namespace liger::server {

// A task id alone need not be unique among jobs.
inline std::string KeyOf(const liger::trainer::v1::Ref& ref) {
  return absl::StrCat(ref.job_uid(), "/", ref.epoch(), "/", ref.task_id());
}

}  // namespace liger::server

#endif  // LIGER_SERVER_JOBS_TASK_KEY_H_
