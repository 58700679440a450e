#include <algorithm>
#include <cmath>

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

const std::vector<std::string> kRoles = {"system",    "developer", "user",
                                         "assistant", "tool",      "function_call"};
// Every column that some format reads (worker/trainer/data/row_reader.h).
const std::vector<std::string> kColumns = {"instruction",  "input",         "output",
                                           "system",       "history",       "messages",
                                           "prompt",       "completion",    "chosen",
                                           "rejected",     "label",         "kto_tag",
                                           "text",         "tools",         "input_ids",
                                           "labels",       "prompt_ids",    "chosen_ids",
                                           "rejected_ids", "conversations", "chat_template_kwargs"};

template <typename Message>
void CheckNames(Checks& checks, const std::string& where, const Message& message) {
  for (const auto& [name, in_file] : message.columns()) {
    const std::string field = absl::StrCat(where, ".columns.", name);
    if (std::find(kColumns.begin(), kColumns.end(), name) == kColumns.end()) {
      checks.Add(field,
                 absl::StrCat("'", name, "' is a column of no format", DidYouMean(name, kColumns),
                              "; write the format's name first, as in prompt: question"));
    }
    if (in_file.empty()) checks.Add(field, "names no column");
  }
  for (const auto& [in_file, role] : message.roles()) {
    checks.OneOf(absl::StrCat(where, ".roles.", in_file), role, kRoles);
  }
}

void CheckSource(Checks& checks, const std::string& where, const liger::v1::DatasetSource& source) {
  if (source.uri().empty()) checks.Add(absl::StrCat(where, ".uri"), "is missing");
  checks.Scheme(absl::StrCat(where, ".uri"), source.uri());
  if (source.max_samples() < 0) {
    checks.Add(absl::StrCat(where, ".max_samples"), "must be at least 0");
  }
  if (source.has_weight() && !(std::isfinite(source.weight()) && source.weight() > 0)) {
    checks.Add(absl::StrCat(where, ".weight"), "must be a finite number above 0");
  }
  CheckNames(checks, where, source);
}

void CheckSources(Checks& checks) {
  const auto& dataset = checks.spec().dataset();
  if (dataset.sources().empty()) return;
  constexpr char kInstead[] = "cannot be given together with dataset.sources; ";
  if (!dataset.name().empty() || !dataset.uri().empty()) {
    checks.Add(dataset.name().empty() ? "dataset.uri" : "dataset.name",
               absl::StrCat(kInstead, "make it one of them"));
  }
  if (!dataset.digest().empty()) {
    checks.Add("dataset.digest", absl::StrCat(kInstead, "give each source its own"));
  }
  if (dataset.max_samples() > 0) {
    checks.Add("dataset.max_samples", absl::StrCat(kInstead, "give each source its own"));
  }
  const auto& sources = dataset.sources();
  const auto weighted = std::count_if(sources.begin(), sources.end(),
                                      [](const auto& source) { return source.has_weight(); });
  for (int i = 0; i < sources.size(); ++i) {
    const std::string where = absl::StrCat("dataset.sources[", i, "]");
    CheckSource(checks, where, sources[i]);
    if (weighted > 0 && !sources[i].has_weight()) {
      checks.Add(absl::StrCat(where, ".weight"),
                 "is missing, and other sources have one; give every source a weight, or none");
    }
  }
}

}  // namespace

void CheckDataset(Checks& checks) {
  const auto& dataset = checks.spec().dataset();
  if (dataset.eval_fraction() > 0 && !dataset.eval_uri().empty()) {
    checks.Add("dataset.eval_fraction", "cannot be given together with dataset.eval_uri; keep one");
  }
  CheckNames(checks, "dataset", dataset);
  CheckSources(checks);
  checks.InRanges(kRanges);
}

}  // namespace liger
