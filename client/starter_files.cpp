#include "client/starter_files.h"

#include <filesystem>
#include <set>

#include "absl/strings/str_cat.h"
#include "client/connection.h"
#include "client/errors.h"
#include "client/process.h"

namespace liger::client {
namespace {

namespace fs = std::filesystem;

// A name of the catalog, and the smallest model of it.
constexpr char kSmallModel[] = "smollm2-135m";

// Beside the programs, in a build tree and in an installed one.
fs::path SampleDatasets() {
  return (fs::path(ProgramFolder()) / "../share/liger/datasets").lexically_normal();
}

// How to get the samples, one of which is what `submit` takes where it is given none; "" where
// they are there.
std::string WithoutSamples(const std::string& datasets) {
  std::error_code error;
  if (fs::exists(fs::path(datasets) / "alpaca_en_demo.json", error)) return "";
  return absl::StrCat("the sample datasets are not below datasets: name a file of yours (--dataset "
                      "FILE), or copy them:\n  cp ", SampleDatasets().string(), "/* ", datasets,
                      "/\n");
}

// Hugging Face folders below `root`, by name.
std::set<std::string> ModelsBelow(const std::string& root) {
  std::set<std::string> names;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(root, error)) {
    if (!fs::exists(entry.path() / "config.json", error)) continue;
    names.insert(entry.path().filename().string());
  }
  return names;
}

}  // namespace

void CopySampleDatasets(const std::string& folder) {
  const fs::path samples = SampleDatasets();
  std::error_code error;
  if (!fs::is_empty(folder, error) || error || !fs::is_directory(samples, error)) return;
  fs::copy(samples, folder, error);
  if (error) {
    throw CliError(
        kError, absl::StrCat("cannot copy the sample datasets to ", folder, ": ", error.message()));
  }
}

std::string FirstSteps(const std::string& models, const std::string& datasets,
                       const std::string& address) {
  const std::string samples = WithoutSamples(datasets);
  const std::set<std::string> present = ModelsBelow(models);
  const std::string liger_cli =
      address == kDefaultAddress ? "liger-cli" : absl::StrCat("liger-cli --address ", address);
  if (present.empty()) {
    return absl::StrCat(
        "put a Hugging Face folder below models, such as (hf: pip install huggingface_hub)\n",
        "  hf download HuggingFaceTB/SmolLM2-135M-Instruct --local-dir ", models, "/", kSmallModel,
        "\nthen submit a job from another terminal:\n  ", liger_cli,
        " submit --model ", kSmallModel, " --trainer sft\n", samples);
  }
  const bool named = present.contains(kSmallModel);
  return absl::StrCat("submit a job from another terminal:\n  ", liger_cli, " submit --model ",
                      named ? kSmallModel : absl::StrCat(models, "/", *present.begin()),
                      " --trainer sft\n", samples);
}

}  // namespace liger::client
