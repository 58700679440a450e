#include <filesystem>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/ids.h"
#include "common/output_place.h"
#include "common/spec/checks.h"
#include "common/spec/spec.h"

namespace liger {
namespace {

constexpr Checks::Range kRanges[] = {
    {"priority", 0, false, 0, false},
};

void CheckIdentity(Checks& checks) {
  const std::string& name = checks.spec().name();
  bool ok = name.size() <= 63 && (name.empty() || absl::ascii_isalnum(name.front()));
  for (char c : name) ok = ok && (absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-');
  if (!ok) {
    checks.Add("name", absl::StrCat("'", name,
                                    "' must be at most 63 lower-case letters, digits and "
                                    "'-', and start with a letter or digit"));
  }
  if (IsUuid(name)) {
    checks.Add("name", absl::StrCat("'", name,
                                    "' has the form of a uid, by which jobs are found too; "
                                    "choose another"));
  }
  if (checks.spec().labels_size() > 64)
    checks.Add("labels", "has more than 64 entries; remove some");
  for (const auto& [key, value] : checks.spec().labels()) {
    if (key.empty() || key.size() > 63 || value.size() > 255) {
      checks.Add(absl::StrCat("labels.", key),
                 "must have a key of 1 to 63 characters and a value of at most 255");
    }
  }
}

// A name that is a path stands for itself, so that a URI beside it is the same place.
void CheckOnePlace(Checks& checks, const std::string& section, const std::string& name,
                   const std::string& uri) {
  const auto place = [](absl::string_view path) {
    return absl::StripSuffix(absl::StripPrefix(path, "file://"), "/");
  };
  if (uri.empty() || !LooksLikePath(name) || place(name) == place(uri)) return;
  checks.Add(section + ".uri", absl::StrCat("names another place, '", uri, "', than ", section,
                                            ".name, '", name, "'; keep one"));
}

void CheckInputs(Checks& checks) {
  if (checks.spec().model().name().empty() && checks.spec().model().uri().empty()) {
    checks.Add("model", "is required: a catalog name, or the path of a Hugging Face folder");
  }
  CheckOnePlace(checks, "model", checks.spec().model().name(), checks.spec().model().uri());
  CheckOnePlace(checks, "dataset", checks.spec().dataset().name(), checks.spec().dataset().uri());
  for (const auto& [field, uri] :
       {std::pair<std::string, std::string>{"model.uri", checks.spec().model().uri()},
        {"dataset.uri", checks.spec().dataset().uri()},
        {"dataset.eval_uri", checks.spec().dataset().eval_uri()},
        {"training.resume_from_checkpoint", checks.spec().training().resume_from_checkpoint()},
        {"output.uri", checks.spec().output().uri()}}) {
    checks.Scheme(field, uri);
  }
}

// No file system takes others.
void CheckOutputNames(Checks& checks) {
  const std::filesystem::path path(
      std::string(absl::StripSuffix(checks.spec().output().uri(), "/")));
  for (auto name = path.begin(); name != path.end(); ++name) {
    const int64_t most = std::next(name) == path.end() ? kLongestOutputName : kLongestName;
    const int64_t bytes = std::ssize(name->native());
    if (bytes <= most) continue;
    checks.Add("output.uri", absl::StrCat("has a name of ", bytes, " bytes; use at most ", most));
  }
}

}  // namespace

std::vector<liger::v1::Violation> ValidateSpec(const liger::v1::JobSpec& spec) {
  Checks checks(spec);
  CheckIdentity(checks);
  CheckMethods(checks);
  CheckInputs(checks);
  CheckOutputNames(checks);
  CheckDataset(checks);
  CheckTraining(checks);
  CheckLora(checks);
  CheckRun(checks);
  CheckParallel(checks);
  checks.InRanges(kRanges);
  return checks.Take();
}

}  // namespace liger
