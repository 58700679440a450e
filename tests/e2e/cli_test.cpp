// liger-cli as people and scripts use it: `up` on free ports, then every verb
// against it, in every output.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "client/format.h"
#include "common/file.h"
#include "common/model_shapes/model_families.h"
#include "common/unique_fd.h"
#include "tests/e2e/child_process.h"
#include "tests/e2e/cluster.h"
#include "tests/e2e/tiny_model.h"
#include "tests/paths.h"

namespace liger::e2e {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

constexpr char kMark[] = "LIGER_E2E_CLI";

std::string Program(const std::string& name) { return absl::StrCat(BinDir(), "/", name); }

struct Result {
  int code = -1;
  std::string out;
  std::string error;
};

// A command line of the shell, with its two outputs apart.
Result Shell(const std::string& command, const std::string& error_file) {
  Result result;
  FILE* pipe = popen(absl::StrCat(command, " 2>", error_file).c_str(), "r");
  std::array<char, 4096> piece;
  while (size_t n = fread(piece.data(), 1, piece.size(), pipe)) result.out.append(piece.data(), n);
  result.code = WEXITSTATUS(pclose(pipe));
  result.error = ReadFile(error_file).value_or("");
  return result;
}

class CliTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    std::string pattern = (fs::temp_directory_path() / "liger-cli-XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
    WriteTinyModel(model());
    ASSERT_TRUE(MakeFolders(dir_ + "/home").ok());
    WriteTinyDataset(dataset(), 64);
    WriteTinyDataset(dir_ + "/home/bad.jsonl", 20, /*bad_row=*/17);
    up_ = StartUp(dir_ + "/data", "127.0.0.1:0", "up.log");
    const absl::Time deadline = absl::Now() + absl::Minutes(1);
    while (api_.empty()) {
      ASSERT_TRUE(up_->Running() && absl::Now() < deadline) << Log("up.log");
      absl::SleepFor(absl::Milliseconds(50));
      const std::string log = Log("up.log");
      const size_t at = log.find("api:");
      // The last line: all of it is there.
      if (!absl::StrContains(log, "Ctrl-C")) continue;
      api_ =
          std::string(absl::StripAsciiWhitespace(log.substr(at + 4, log.find('\n', at) - at - 4)));
    }
  }

  static void TearDownTestSuite() {
    const int status = up_->Terminate();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status << Log("up.log");
    for (pid_t pid : ProcessesWith(absl::StrCat(kMark, "=", dir_))) {
      ADD_FAILURE() << "process " << pid << " is left: " << CommandLine(pid);
      kill(pid, SIGKILL);
    }
    std::error_code error;
    fs::remove_all(dir_, error);
  }

  static std::unique_ptr<ChildProcess> StartUp(const std::string& data_dir,
                                               const std::string& listen, const std::string& log) {
    const std::string any = "127.0.0.1:0";
    return std::make_unique<ChildProcess>(
        std::vector<std::string>{Program("liger-cli"), "up", "--data-dir", data_dir, "--listen",
                                 listen, "--worker-listen", any, "--metrics-listen", any,
                                 "--worker-metrics-listen", any, "--allow-path", dir_ + "/home"},
        dir_ + "/" + log,
        std::map<std::string, std::string>{
            {kMark, dir_}, {"HOME", dir_ + "/home"}, {"OMP_NUM_THREADS", "1"}});
  }

  static std::string Log(const std::string& name) {
    return ReadFile(dir_ + "/" + name).value_or("");
  }
  static std::string model() { return dir_ + "/data/models/tiny"; }
  // Below --allow-path, not below the worker's dataset root.
  static std::string dataset() { return dir_ + "/home/rows.jsonl"; }

  static std::string Environment() {
    return absl::StrCat("LIGER_CONFIG=/nonexistent LIGER_ADDRESS=", api_, " ");
  }
  static Result Run(const std::string& arguments) {
    return Shell(absl::StrCat(Environment(), Program("liger-cli"), " ", arguments),
                 dir_ + "/stderr");
  }

  static std::string TinyJob(const std::string& name, int64_t steps) {
    return absl::StrCat("submit --trainer sft --device cpu --name ", name, " --model ", model(),
                        " --dataset ", dataset(),
                        " --set model.random_init=true --set training.max_length=64"
                        " --set training.per_device_train_batch_size=2"
                        " --set dataset.eval_fraction=0.1 --set training.max_steps=",
                        steps);
  }

  static inline std::string dir_;
  static inline std::string api_;
  static inline std::unique_ptr<ChildProcess> up_;
};

std::set<std::string> Keys(const json& object) {
  std::set<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.insert(key);
  return keys;
}

std::set<std::string> Keys(const YAML::Node& map) {
  std::set<std::string> keys;
  for (const auto& entry : map) keys.insert(entry.first.as<std::string>());
  return keys;
}

TEST_F(CliTest, UpSaysWhatWorks) {
  const std::string log = Log("up.log");
  EXPECT_THAT(log, HasSubstr(absl::StrCat("  liger-cli --address ", api_, " submit --model ",
                                          model(), " --trainer sft\n")));
  EXPECT_TRUE(fs::exists(dir_ + "/data/datasets/alpaca_en_demo.json"));
}

// Another's port or data folder is not taken for one's own.
TEST_F(CliTest, UpDoesNotTakeAStrangerForItsOwn) {
  const std::pair<std::string, std::string> cases[] = {{dir_ + "/other", "cannot listen on"},
                                                       {dir_ + "/data", "uses the data folder"}};
  for (const auto& [data_dir, error] : cases) {
    fs::remove(dir_ + "/second.log");
    const auto second = StartUp(data_dir, api_, "second.log");
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (second->Running() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(20));
    const int status = second->Terminate();
    EXPECT_EQ(WEXITSTATUS(status), 3) << Log("second.log");
    EXPECT_THAT(Log("second.log"), HasSubstr(error));
    EXPECT_THAT(Log("second.log"), Not(HasSubstr("liger is up")));
  }
  EXPECT_EQ(Run("workers").code, 0) << "the first still serves";
}

// It may still ship to the coordinator that was killed with its `up`.
TEST_F(CliTest, UpWaitsForTheWorkerOfOneThatWasKilled) {
  const std::string data_dir = dir_ + "/again";
  ASSERT_TRUE(MakeFolders(data_dir + "/worker").ok());
  const std::string left = data_dir + "/ports.2147483647.json";
  ASSERT_TRUE(WriteFileAtomically(left, "{}").ok());
  UniqueFd lock(open((data_dir + "/worker/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(flock(lock.get(), LOCK_EX | LOCK_NB), 0);
  const auto up = StartUp(data_dir, "127.0.0.1:0", "again.log");
  const auto await = [](const auto& holds) {
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (!holds() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(20));
    return holds();
  };
  EXPECT_TRUE(await([&] {
    return absl::StrContains(ReadFile(data_dir + "/logs/worker.log").value_or(""), "is in use by");
  }));
  EXPECT_TRUE(up->Running()) << Log("again.log");
  lock.reset();
  EXPECT_TRUE(await([&] { return absl::StrContains(Log("again.log"), "Ctrl-C"); }))
      << Log("again.log");
  EXPECT_FALSE(fs::exists(left));
  EXPECT_EQ(WEXITSTATUS(up->Terminate()), 0);
}

TEST_F(CliTest, ServersTellBadFlagsByTheirExitCode) {
  for (const char* command :
       {"liger-coordinator --no-such-flag", "liger-coordinator --data-dir /dev/null/x",
        "liger-worker --no-such-flag", "liger-worker --coordinator 10.0.0.1:1 --data-dir DIR"}) {
    const std::string line = absl::StrReplaceAll(command, {{"DIR", dir_ + "/worker-2"}});
    EXPECT_EQ(Shell(Program(line), dir_ + "/stderr").code, 3) << line;
  }
  EXPECT_EQ(Shell(Program("liger-coordinator --help"), dir_ + "/stderr").code, 0);
}

TEST_F(CliTest, EveryVerbInEveryOutput) {
  const Result wait = Run(TinyJob("one", 4) + " --wait -o json");
  ASSERT_EQ(wait.code, 0) << wait.out << wait.error;
  EXPECT_EQ(json::parse(wait.out)["job"]["status"]["state"], "SUCCEEDED");

  const std::string dry_run = TinyJob("dry", 4) + " --dry-run";
  const std::pair<std::string, const char*> verbs[] = {{"get one", "status"},
                                                       {"get one --spec", "training"},
                                                       {"list", "jobs"},
                                                       {"list --filter name=x", "jobs"},
                                                       {"events one", "events"},
                                                       {"metrics one", "points"},
                                                       {"artifacts one", "artifacts"},
                                                       {"workers", "workers"},
                                                       {"models", "models"},
                                                       {"models", "families"},
                                                       {"datasets", "datasets"},
                                                       {"watch one", "status"},
                                                       {"version", "version"},
                                                       {dry_run, "checks_run"}};
  for (const auto& [verb, key] : verbs) {
    EXPECT_EQ(Run(verb).code, 0) << verb;
    const Result as_json = Run(verb + " -o json");
    const Result as_yaml = Run(verb + " -o yaml");
    EXPECT_EQ(as_json.code, 0) << verb << as_json.error;
    EXPECT_EQ(as_yaml.code, 0) << verb << as_yaml.error;
    const json object = json::parse(as_json.out, nullptr, /*allow_exceptions=*/false);
    ASSERT_TRUE(object.is_object()) << verb << "\n" << as_json.out;
    EXPECT_TRUE(object.contains(key)) << verb << "\n" << as_json.out;
    EXPECT_EQ(Keys(YAML::Load(as_yaml.out)), Keys(object)) << verb;
    EXPECT_EQ(Run(verb + " -o xml").code, 3) << verb;
  }
  const json job = json::parse(Run("get one -o json").out);
  const YAML::Node same = YAML::Load(Run("get one -o yaml").out);
  EXPECT_EQ(same["create_time"].as<std::string>(), job["create_time"]);
  EXPECT_EQ(same["resolved_spec"]["kernels"]["mode"].as<std::string>(),
            job["resolved_spec"]["kernels"]["mode"]);

  EXPECT_EQ(Run("get one -o name").out, "one\n");
  EXPECT_THAT(Run("list -o name").out, HasSubstr("one\n"));
  EXPECT_THAT(Run("artifacts one -o name").out, HasSubstr(dir_ + "/data/outputs/one\n"));
  const json families = json::parse(Run("models -o json").out).at("families");
  ASSERT_EQ(families.size(), std::size(kModelFamilies));
  EXPECT_EQ(families[0].at("model_type").get<std::string>(), kModelFamilies[0].model_type);
  EXPECT_EQ(families[0].at("features").get<std::string>(), kModelFamilies[0].features);
  EXPECT_EQ(YAML::Load(Run("models -o yaml").out)["families"].size(), families.size());
  EXPECT_THAT(Run("datasets -o name").out, HasSubstr("alpaca-en-demo\n"));
  for (const char* verb : {"events one", "metrics one"}) {
    EXPECT_EQ(Run(absl::StrCat(verb, " -o name")).code, 3) << verb;
  }
  const Result logs = Run("logs one");
  EXPECT_EQ(logs.code, 0);
  EXPECT_THAT(logs.out, HasSubstr("data cache: "));
  EXPECT_FALSE(std::filesystem::is_empty(dir_ + "/data/worker/cache/tokenized"));
  EXPECT_EQ(Run("logs -f one").code, 0);
}

TEST_F(CliTest, AJobThatIsStoppedTellsByExitCodes) {
  const Result submitted = Run(TinyJob("long", 1000000) + " -o name");
  ASSERT_EQ(submitted.code, 0) << submitted.error;
  EXPECT_EQ(submitted.out, "long\n");
  EXPECT_EQ(Run("watch long --timeout 0.5").code, 6);
  EXPECT_EQ(Run("delete long").code, 3) << "it is not over";
  const Result cancelled = Run("cancel long --wait -o json");
  EXPECT_EQ(cancelled.code, 0) << cancelled.error;
  EXPECT_EQ(json::parse(cancelled.out)["status"]["state"], "CANCELLED");
  EXPECT_EQ(Run("watch long").code, 2);
  EXPECT_EQ(Run("cancel long -o name").out, "long\n");
  EXPECT_EQ(Run("delete long -o json").code, 3) << "there is nothing to print";
  EXPECT_EQ(Run("delete long -o name").out, "long\n");
  EXPECT_EQ(Run("get long").code, 3);
}

TEST_F(CliTest, BadInputIsCode3AndAFailedJob5) {
  EXPECT_EQ(Run("get no-such-job").code, 3);
  EXPECT_EQ(Run("submit --model no-such-model --trainer sft").code, 3);
  EXPECT_EQ(Run("submit -f " + dir_).code, 3);
  EXPECT_EQ(Run("submit --trainer sft --set orpo.beta=0.2 --model m").code, 3);
  const Result failed = Run(absl::StrReplaceAll(TinyJob("bad", 4), {{"rows.jsonl", "bad.jsonl"}}) +
                            " --set dataset.strict=true --wait");
  EXPECT_EQ(failed.code, 5) << failed.out << failed.error;
  EXPECT_THAT(failed.out, HasSubstr("17"));
  EXPECT_THAT(failed.out, HasSubstr("action:"));
}

TEST_F(CliTest, CompletionAndInitPrintWhatOthersRead) {
  const std::string script = dir_ + "/completion.bash";
  EXPECT_EQ(Run("completion bash >" + script).code, 0);
  const Result parsed = Shell("bash -n " + script, dir_ + "/stderr");
  EXPECT_EQ(parsed.code, 0) << parsed.error;
  EXPECT_EQ(Run("completion tcsh").code, 3);

  EXPECT_TRUE(YAML::Load(Run("init --trainer orpo --file -").out).IsMap());
  const std::string file = dir_ + "/job.yaml";
  EXPECT_EQ(Run("init --file " + file).code, 0);
  EXPECT_EQ(Run("init --file " + file).code, 3) << "it exists";
  // The template's dataset is one of the samples that `up` has put there.
  const Result checked = Run(absl::StrCat("submit --dry-run -f ", file, " --model ", model(),
                                          " --set model.random_init=true --device cpu"));
  EXPECT_EQ(checked.code, 0) << checked.out << checked.error;
}

// All that a program writes to a terminal of 80 columns.
std::string OnATerminal(const std::vector<std::string>& command) {
  winsize size = {.ws_row = 24, .ws_col = 80};
  int terminal = -1;
  const pid_t pid = forkpty(&terminal, nullptr, nullptr, &size);
  if (pid == 0) {
    std::vector<char*> arguments;
    for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  std::string output;
  std::array<char, 4096> piece;
  ssize_t n;
  while ((n = read(terminal, piece.data(), piece.size())) > 0) {
    output.append(piece.data(), static_cast<size_t>(n));
  }
  close(terminal);
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0) << output;
  return output;
}

TEST_F(CliTest, WatchStaysWithinATerminalsWidth) {
  ASSERT_EQ(Run(TinyJob("watched", 60)).code, 0);
  const std::string output =
      OnATerminal({Program("liger-cli"), "--address", api_, "watch", "watched"});
  EXPECT_THAT(output, HasSubstr("\033[K\r["));
  EXPECT_THAT(output, HasSubstr("watched: SUCCEEDED"));
  for (const auto line : absl::StrSplit(output, absl::ByAnyChar("\r\n"))) {
    const std::string text = absl::StrReplaceAll(line, {{"\033[K", ""}});
    EXPECT_LE(client::Width(text), 80u) << text;
  }
}

// Each of them tries again while the old coordinator still takes its leave.
TEST(FollowersTest, GoOnOverARestartOfTheCoordinator) {
  Cluster cluster({});
  cluster.client().Create(cluster.TinyJob("followed", 1000000));
  const std::string cli =
      absl::StrCat(Program("liger-cli"), " --address ", cluster.api_address(), " ");
  const std::vector<std::string> verbs = {"watch followed", "logs -f followed"};
  std::vector<std::unique_ptr<ChildProcess>> followers;
  const auto log = [&](size_t i) { return cluster.output(absl::StrCat("log.", i)); };
  const auto await = [&](size_t i, const std::string& text) {
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (absl::Now() < deadline) {
      if (absl::StrContains(ReadFile(log(i)).value_or(""), text)) return;
      absl::SleepFor(absl::Milliseconds(20));
    }
    ADD_FAILURE() << verbs[i] << " does not say '" << text
                  << "': " << ReadFile(log(i)).value_or("nothing");
  };
  for (const std::string& verb : verbs) {
    followers.push_back(std::make_unique<ChildProcess>(
        std::vector<std::string>{"/bin/sh", "-c", absl::StrCat(cli, verb, "; echo exit=$?")},
        log(followers.size()), std::map<std::string, std::string>{}));
  }
  await(0, "loss");
  await(1, "step");
  for (int restart = 0; restart < 2; ++restart) {
    cluster.coordinator().Terminate();
    cluster.StartCoordinator();
    absl::SleepFor(absl::Seconds(1));
    for (size_t i = 0; i < verbs.size(); ++i) {
      EXPECT_TRUE(followers[i]->Running()) << verbs[i] << ReadFile(log(i)).value_or("");
    }
  }
  ASSERT_EQ(Shell(cli + "cancel followed --wait", log(9)).code, 0);
  await(0, "exit=2");
  await(1, "exit=0");
  cluster.ExpectIdle();
}

}  // namespace
}  // namespace liger::e2e
