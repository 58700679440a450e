#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/spec/checks.h"
#include "common/spec/suggest.h"

namespace liger {
namespace {

constexpr Checks::Range kRanges[] = {
    {"dataset.max_samples", 0, false, Checks::kInfinity, true},
    {"dataset.eval_fraction", 0, false, 1, true},
    {"dataset.max_eval_samples", 0, false, Checks::kInfinity, true},
};

const std::vector<std::string> kRoles = {"system", "developer", "user", "assistant", "tool"};
// Every column that some format reads (worker/trainer/data/row_reader.h).
const std::vector<std::string> kColumns = {"instruction",  "input",         "output",
                                           "system",       "history",       "messages",
                                           "prompt",       "completion",    "chosen",
                                           "rejected",     "label",         "kto_tag",
                                           "text",         "tools",         "input_ids",
                                           "labels",       "prompt_ids",    "chosen_ids",
                                           "rejected_ids", "conversations", "chat_template_kwargs"};

void CheckNames(Checks& checks) {
  for (const auto& [name, in_file] : checks.spec().dataset().columns()) {
    if (std::find(kColumns.begin(), kColumns.end(), name) == kColumns.end()) {
      checks.Add(absl::StrCat("dataset.columns.", name),
                 absl::StrCat("'", name, "' is a column of no format", DidYouMean(name, kColumns),
                              "; write the format's name first, as in prompt: question"));
    }
    if (in_file.empty()) checks.Add(absl::StrCat("dataset.columns.", name), "names no column");
  }
  for (const auto& [in_file, role] : checks.spec().dataset().roles()) {
    checks.OneOf(absl::StrCat("dataset.roles.", in_file), role, kRoles);
  }
}

}  // namespace

void CheckDataset(Checks& checks) {
  const auto& dataset = checks.spec().dataset();
  if (dataset.eval_fraction() > 0 && !dataset.eval_uri().empty()) {
    checks.Add("dataset.eval_fraction", "cannot be given together with dataset.eval_uri; keep one");
  }
  CheckNames(checks);
  checks.InRanges(kRanges);
}

}  // namespace liger
