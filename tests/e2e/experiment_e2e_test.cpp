// A small experiment through the service with real processes, its report, and what
// comes between: a coordinator that dies, a second submission, a deletion.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "common/file.h"
#include "nlohmann/json.hpp"
#include "tests/e2e/expectations.h"

namespace liger::e2e {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

constexpr char kGrid[] = R"(
name: %s
grid:
  - {field: training.per_device_train_batch_size, values: [1, 2]}
runs: %d
job:
  model: {uri: tiny, random_init: true}
  dataset: {uri: tiny.jsonl}
  sft:
  training: {max_length: 64, max_steps: %d, learning_rate: 1e-3}
  resources: {device_kind: CPU}
)";

class ExperimentE2e : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    fs::remove_all(LIGER_REPORT_DIR);
    fs::create_directories(LIGER_REPORT_DIR);
  }
  CliResult Cli(const std::string& words) const { return RunCli(cluster_, words); }
  std::string GridFile(const std::string& name, int runs, int steps) const {
    const std::string path = absl::StrCat(LIGER_REPORT_DIR, "/", name, ".yaml");
    std::array<char, 1024> text;
    snprintf(text.data(), text.size(), kGrid, name.c_str(), runs, steps);
    std::ofstream(path) << text.data();
    return path;
  }
  json Get(const std::string& name) const {
    return json::parse(Cli(absl::StrCat("experiment get ", name, " -o json")).out);
  }
  int Count(const std::string& name, const std::string& what) const {
    const json counts = Get(name)["counts"];
    return counts.value(what, 0);
  }
  // Until so many jobs have an outcome, or more.
  void WaitForDone(const std::string& name, int done) const {
    const absl::Time deadline = absl::Now() + absl::Minutes(2);
    while (Count(name, "succeeded") < done && absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(100));
    }
  }

  static bool WaitForNoFile(const std::string& path) {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (fs::exists(path) && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(100));
    return !fs::exists(path);
  }

  // Another letter in the first row; inode, size and time of the last write stay.
  static void EditInPlace(const std::string& path) {
    const auto written = fs::last_write_time(path);
    const size_t letter = ReadFile(path)->find("What");
    ASSERT_NE(letter, std::string::npos);
    std::fstream file(path, std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(letter));
    file << '#';
    file.close();
    fs::last_write_time(path, written);
    EXPECT_EQ(ReadFile(path)->at(letter), '#');
  }

  Cluster cluster_{{.cpu_slots = 2}};
};

TEST_F(ExperimentE2e, RunsReportsAndDoesNotRunAgain) {
  const std::string file = GridFile("small", 2, 6);
  const CliResult dry = Cli(absl::StrCat("experiment submit --dry-run -f ", file));
  EXPECT_EQ(dry.code, 0) << dry.out;
  EXPECT_THAT(dry.out, HasSubstr("2 points, 8 jobs, in this order"));
  EXPECT_THAT(dry.out, HasSubstr("checked: model"));
  ASSERT_EQ(Cli(absl::StrCat("experiment submit -f ", file)).code, 0);

  // A coordinator that dies in the middle of it costs nothing.
  WaitForDone("small", 2);
  cluster_.coordinator().Kill();
  cluster_.StartCoordinator();
  const CliResult watched = Cli("experiment watch small --timeout 240");
  ASSERT_EQ(watched.code, 0) << watched.out;
  const json experiment = Get("small");
  EXPECT_EQ(experiment["state"], "SUCCEEDED");
  EXPECT_EQ(Count("small", "succeeded"), 8);
  EXPECT_EQ(Count("small", "cached"), 0);

  // The two settings of a point and run used one device, each job of its own.
  std::map<std::pair<int, int>, std::set<std::string>> devices;
  std::set<std::string> uids;
  for (const json& job : experiment["jobs"]) {
    const v1::Job ran = cluster_.client().Get(job["job_uid"].get<std::string>());
    EXPECT_TRUE(uids.insert(ran.uid()).second);
    EXPECT_EQ(ran.spec().labels().at("experiment"), "small");
    EXPECT_EQ(ran.spec().labels().at("experiment_uid"), experiment["uid"]);
    EXPECT_TRUE(WaitForNoFile(cluster_.output(ran.name()))) << "outputs are not kept";
    devices[{job.value("point", 0), job.value("run", 0)}].insert(
        ran.status().attempts(0).device_uuids(0));
  }
  for (const auto& [place, used] : devices) EXPECT_EQ(used.size(), 1u);

  const std::string folder = LIGER_REPORT_DIR;
  const CliResult report = Cli(absl::StrCat("experiment report small --out ", folder, "/small"));
  ASSERT_EQ(report.code, 0) << report.out;
  EXPECT_THAT(report.out, HasSubstr("RATIO (95 %)"));
  const json data = json::parse(*ReadFile(folder + "/small/report.json"));
  ASSERT_EQ(data["runs"].size(), 8u);
  for (const json& run : data["runs"]) {
    EXPECT_EQ(run["steps"].size(), 6u);
    EXPECT_GT(run["tokens_per_second"].get<double>(), 0);
    EXPECT_GT(run["peak_memory_bytes"]["rss"].get<int64_t>(), 0);
    EXPECT_NE(run["environment"]["device"], "");
    EXPECT_THAT(run["environment"]["build"].get<std::string>(), HasSubstr("+"));
    EXPECT_NE(run["environment"]["versions"]["torch"], "");
    for (const char* input : {"code", "model files", "dataset file"}) {
      EXPECT_THAT(run["environment"]["versions"].value(input, ""), testing::StartsWith("sha256:"));
    }
    const std::string path = run["kernels_ran"]["rms_norm"];
    EXPECT_EQ(path, run["series"] == "LIGER" ? "cpu" : "baseline");
  }
  for (const json& point : data["points"]) {
    EXPECT_GT(point["speed_ratio"]["ratio"].get<double>(), 0);
    EXPECT_LT(point["largest_loss_difference"]["relative"].get<double>(), 1e-3);
  }

  // Another experiment of the same jobs takes their results.
  ASSERT_EQ(Cli(absl::StrCat("experiment submit --wait -f ", GridFile("again", 2, 6))).code, 0);
  EXPECT_EQ(Count("again", "cached"), 8);
  // Not those of a file that was edited since, though the next scan is seconds away.
  EditInPlace(cluster_.datasets() + "/tiny.jsonl");
  ASSERT_EQ(Cli(absl::StrCat("experiment submit --wait -f ", GridFile("edited", 1, 6))).code, 0);
  EXPECT_EQ(Count("edited", "cached"), 0);
  // One that may not, and one of more runs, run what they have to.
  ASSERT_EQ(Cli(absl::StrCat("experiment submit --wait --set reuse_results=false --runs 1 -f ",
                             GridFile("anew", 1, 6)))
                .code,
            0);
  EXPECT_EQ(Count("anew", "cached"), 0);
  ASSERT_EQ(Cli(absl::StrCat("experiment report again --out ", folder, "/again")).code, 0);

  const CliResult compared =
      Cli(absl::StrCat("compare ", *uids.begin(), " ", *uids.rbegin(), " --out ", folder, "/pair"));
  EXPECT_EQ(compared.code, 0) << compared.out;
  EXPECT_THAT(Cli(absl::StrCat("compare ", *uids.begin(), " ", *uids.begin())).out,
              HasSubstr("are the same job"));
}

TEST_F(ExperimentE2e, DeletedWhileItRuns) {
  ASSERT_EQ(Cli(absl::StrCat("experiment submit -f ", GridFile("long", 1, 1'000'000))).code, 0);
  std::string job;
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  while (job.empty() && absl::Now() < deadline) {
    job = Get("long")["jobs"][0].value("job_uid", "");
  }
  cluster_.client().WaitForStep(job, 2);
  // Its devices are asked for by nobody else's pair: one job at a time.
  EXPECT_EQ(Count("long", "active"), 1);
  const CliResult report =
      Cli(absl::StrCat("experiment report long --out ", LIGER_REPORT_DIR, "/unfinished"));
  EXPECT_EQ(report.code, 0) << report.out;
  EXPECT_THAT(report.out, HasSubstr("is not over"));
  const CliResult deleted = Cli("experiment delete long");
  EXPECT_EQ(deleted.code, 0);
  EXPECT_THAT(deleted.out, HasSubstr("being cancelled"));
  EXPECT_EQ(cluster_.client().WaitForEnd(job).status().state(), v1::JobStatus::CANCELLED);
  const CliResult gone = Cli("experiment get long");
  EXPECT_EQ(gone.code, 3);
  EXPECT_THAT(gone.out, HasSubstr("no experiment 'long'"));
  cluster_.ExpectIdle();
}

TEST_F(ExperimentE2e, BadGridsAreRefusedByName) {
  const std::string file = GridFile("bad", 1, 2);
  const auto refused = [&](const std::string& flags, const std::string& what) {
    const CliResult result = Cli(absl::StrCat("experiment submit --dry-run -f ", file, " ", flags));
    EXPECT_EQ(result.code, 3) << result.out;
    EXPECT_THAT(result.out, HasSubstr(what));
  };
  EXPECT_THAT(Cli("experiment").out, HasSubstr("name a verb of experiment: submit, get"));
  EXPECT_THAT(Cli("experiment submitt").out, HasSubstr("did you mean 'submit'?"));
  refused("--grid training.batch=1,2", "training.batch");
  refused("--grid training.max_length=1", "grid[1].values");
  refused("--runs 2000", "at most 2048");
  refused("--set job.name=x", "job.name");
  refused("--grid kernels.mode=LIGER", "kernels");
  refused("--set job.dataset.uri=missing.jsonl", "dataset");
  cluster_.ExpectIdle();  // the other points' checks end, too
}

}  // namespace
}  // namespace liger::e2e
