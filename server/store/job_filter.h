#ifndef LIGER_SERVER_STORE_JOB_FILTER_H_
#define LIGER_SERVER_STORE_JOB_FILTER_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "server/store/read_view.h"

namespace liger::server {

// Whether a job that is not deleted passes; what the SQL of the SQLite store
// says too. A label of the filter must be among the job's.
bool Matches(const JobFilter& filter, const JobRow& job);

// Where a page ended: jobs and experiments are listed by (created_us, uid), newest first.
struct PageToken {
  int64_t created_us = INT64_MAX;
  std::string uid;
};
// An empty token is the start. INVALID_ARGUMENT (field "page_token").
absl::StatusOr<PageToken> ParsePageToken(const std::string& token);
std::string FormatPageToken(const PageToken& last);

// Counts the bytes of a page of jobs.
class PageBudget {
 public:
  // Whether the job still goes onto the page; the first always does.
  bool Takes(const JobRow& job);

 private:
  size_t bytes_ = 0;
};

// Rows on a page: the default for 0, never more than 500.
// INVALID_ARGUMENT (field "page_size") when negative.
absl::StatusOr<int32_t> PageSize(int32_t asked);

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_JOB_FILTER_H_
