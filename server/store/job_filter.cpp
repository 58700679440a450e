#include "server/store/job_filter.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/errors/errors.h"

namespace liger::server {
namespace {

constexpr int32_t kDefaultPageSize = 50;
constexpr int32_t kMaxPageSize = 500;

absl::Status BadTerm(absl::string_view term, absl::string_view why) {
  return InvalidArgument(
      "filter", absl::StrCat("'", term, "': ", why,
                             "; terms are state=RUNNING, trainer=orpo, model=NAME, name=NAME or "
                             "name=PREFIX*, label.KEY=VALUE, joined by ' AND ' or ','"));
}

absl::Status AddTerm(absl::string_view term, JobFilter* filter) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(term, absl::MaxSplits('=', 1));
  const absl::string_view key = absl::StripAsciiWhitespace(parts.first);
  absl::string_view value = absl::StripAsciiWhitespace(parts.second);
  if (!absl::StrContains(term, "=") || value.empty()) return BadTerm(term, "no value");
  if (key == "state") {
    JobState state;
    if (!liger::v1::JobStatus::State_Parse(absl::AsciiStrToUpper(value), &state) || state == 0) {
      return BadTerm(term, "unknown state");
    }
    filter->state = state;
  } else if (key == "trainer") {
    filter->method = absl::AsciiStrToLower(value);
  } else if (key == "model") {
    filter->model = std::string(value);
  } else if (key == "name") {
    filter->name_is_prefix = absl::ConsumeSuffix(&value, "*");
    filter->name = std::string(value);
  } else if (absl::StartsWith(key, "label.") && key.size() > 6) {
    filter->labels.emplace_back(key.substr(6), value);
  } else {
    return BadTerm(term, "unknown key");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<JobFilter> ParseJobFilter(const std::string& filter) {
  JobFilter parsed;
  const std::string terms = absl::StrReplaceAll(filter, {{" AND ", ","}, {" and ", ","}});
  for (absl::string_view term : absl::StrSplit(terms, ',')) {
    term = absl::StripAsciiWhitespace(term);
    if (term.empty()) continue;
    const absl::Status added = AddTerm(term, &parsed);
    if (!added.ok()) return added;
  }
  return parsed;
}

bool Matches(const JobFilter& filter, const JobRow& job) {
  if (filter.state.has_value() && job.state != *filter.state) return false;
  if (!filter.method.empty() && job.method != filter.method) return false;
  if (!filter.model.empty() && job.model != filter.model) return false;
  if (filter.name_is_prefix ? !absl::StartsWith(job.name, filter.name)
                            : !filter.name.empty() && job.name != filter.name) {
    return false;
  }
  return std::all_of(filter.labels.begin(), filter.labels.end(), [&job](const auto& label) {
    const auto found = job.spec.labels().find(label.first);
    return found != job.spec.labels().end() && found->second == label.second;
  });
}

absl::StatusOr<PageToken> ParsePageToken(const std::string& token) {
  PageToken parsed;
  if (token.empty()) return parsed;
  const std::vector<std::string> parts = absl::StrSplit(token, absl::MaxSplits('.', 1));
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &parsed.created_us)) {
    return InvalidArgument("page_token", "not a token that this method returned");
  }
  parsed.uid = parts[1];
  return parsed;
}

std::string FormatPageToken(const PageToken& last) {
  return absl::StrCat(last.created_us, ".", last.uid);
}

bool PageBudget::Takes(const JobRow& job) {
  // A message of gRPC holds 4 MiB unless both ends say otherwise.
  constexpr size_t kPageBytes = 2 << 20;
  const bool first = bytes_ == 0;
  bytes_ += job.spec.ByteSizeLong() + job.resolved_spec.ByteSizeLong() +
            job.status.ByteSizeLong() + sizeof(JobRow);
  return first || bytes_ <= kPageBytes;
}

absl::StatusOr<int32_t> PageSize(int32_t asked) {
  if (asked < 0) return InvalidArgument("page_size", "must not be negative");
  return asked == 0 ? kDefaultPageSize : std::min(asked, kMaxPageSize);
}

}  // namespace liger::server
