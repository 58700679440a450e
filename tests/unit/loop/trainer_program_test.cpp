// Starts the real liger-trainer, as an agent and as an engineer do.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/file_state.h"
#include "common/framing.h"
#include "tests/paths.h"
#include "tests/unit/loop/tiny_job.h"
#include "worker/trainer/loop/exit_code.h"

namespace liger::trainer {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using Event = liger::trainer::v1::Event;
namespace fs = std::filesystem;

const std::string kTrainer = BinDir() + "/liger-trainer";

// A running shell command line; killed at the end when it still runs.
class Process {
 public:
  // `inherit` stay open in the child.
  Process(const std::string& command, const std::vector<int>& inherit) {
    pid_ = fork();
    if (pid_ == 0) {
      for (int fd : inherit) fcntl(fd, F_SETFD, 0);
      execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
      _exit(127);
    }
  }
  ~Process() {
    if (!status_) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }
  // Exit code, or -signal; nullopt when it still runs at the limit.
  std::optional<int> Wait(absl::Duration limit) {
    const absl::Time end = absl::Now() + limit;
    int status = 0;
    while (waitpid(pid_, &status, WNOHANG) == 0) {
      if (absl::Now() > end) return std::nullopt;
      absl::SleepFor(absl::Milliseconds(10));
    }
    status_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    return status_;
  }

 private:
  pid_t pid_;
  std::optional<int> status_;
};

class TrainerProgramTest : public testing::Test {
 protected:
  // A test that wants one names its folder.
  TrainerProgramTest() { setenv("LIGER_DATA_CACHE", "off", 1); }

  // Runs to the end; the output is in output().
  int Execute(const std::string& arguments, const std::string& before = "",
              const std::string& program = kTrainer) {
    Process process(before + "exec " + program + " " + arguments + " >" + Log() + " 2>&1", {});
    return process.Wait(absl::Seconds(120)).value_or(-1000);
  }
  std::string Log() const { return job_.Path("log"); }
  std::string output() const { return ReadAll(Log()); }
  std::string WriteJob(const std::string& training) {
    job_.WriteFile("job.yaml",
                   "model: {name: " + job_.Path("model") +
                       ", random_init: true}\ndataset: {uri: " + job_.Path("sft.jsonl") +
                       ", eval_fraction: 0.25}\nsft: {}\ntraining: {max_length: 64, " + training +
                       "}\n");
    return "--spec " + job_.Path("job.yaml") + " --output " + job_.Path("out");
  }
  std::vector<std::string> Leftovers() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(job_.dir())) {
      const std::string name = entry.path().filename();
      if (name.starts_with("out")) names.push_back(name);
    }
    return names;
  }

  TinyJob job_;
};

TEST_F(TrainerProgramTest, JobFileToFolder) {
  EXPECT_EQ(Execute(WriteJob("max_steps: 3, learning_rate: 1e-2")), kExitOk) << output();
  EXPECT_THAT(output(), HasSubstr("step 3/3"));
  EXPECT_TRUE(fs::exists(job_.Path("out/model.safetensors")));
  EXPECT_THAT(Leftovers(), testing::ElementsAre("out"));
}

TEST_F(TrainerProgramTest, TokenisedRowsAreKeptForTheNextRun) {
  // Equal weights tell that rows are equal, but MKL's last bits depend on where memory lies.
  const std::string arguments =
      WriteJob("max_steps: 3, learning_rate: 1e-2, deterministic: true");
  const std::string cached = "export LIGER_DATA_CACHE=" + job_.Path("cache") + "; ";
  const auto weights_of_run = [&](const std::string& before) {
    fs::remove_all(job_.Path("out"));
    EXPECT_EQ(Execute(arguments, before), kExitOk) << output();
    return ReadAll(job_.Path("out/model.safetensors"));
  };
  const std::string without = weights_of_run("");
  EXPECT_THAT(output(), Not(HasSubstr("data cache")));
  EXPECT_EQ(weights_of_run(cached), without);
  EXPECT_THAT(output(), HasSubstr("data cache: miss for training rows"));
  EXPECT_EQ(weights_of_run(cached), without);
  EXPECT_THAT(output(), AllOf(HasSubstr("data cache: hit for training rows"),
                              HasSubstr("data cache: hit for evaluation rows")));
  // Another tokenizer, another key.
  const std::string tokenizer = ReadAll(job_.Path("model/tokenizer.json"));
  job_.WriteFile("model/tokenizer.json", tokenizer + "\n");
  EXPECT_EQ(weights_of_run(cached), without);
  EXPECT_THAT(output(), HasSubstr("data cache: miss for training rows"));
  fs::remove_all(job_.Path("out"));
  EXPECT_EQ(Execute(arguments, "export LIGER_DATA_CACHE_GB=lots; "), kExitInvalidInput);
  EXPECT_THAT(output(), HasSubstr("LIGER_DATA_CACHE_GB='lots'"));
}

TEST_F(TrainerProgramTest, InvalidSpecExitsWithThree) {
  EXPECT_EQ(Execute(WriteJob("max_steps: -3")), kExitInvalidInput);
  EXPECT_THAT(output(), HasSubstr("training.max_steps"));
}

TEST_F(TrainerProgramTest, CheckPrintsViolationsAndExitsWithThree) {
  const std::string arguments = WriteJob("max_steps: 3") + " --check";
  EXPECT_EQ(Execute(arguments), kExitOk) << output();
  EXPECT_THAT(output(), testing::EndsWith("\ncheck passed\n"));
  job_.WriteFile("sft.jsonl", "{\"prompt\": 3}\n");
  EXPECT_EQ(Execute(arguments), kExitInvalidInput);
  EXPECT_THAT(output(), HasSubstr("error: dataset: " + job_.Path("sft.jsonl") + ": row 1"));
  EXPECT_THAT(output(), testing::EndsWith("\ncheck failed: 1 error\n"));
  EXPECT_TRUE(Leftovers().empty());
}

// Those of the spec, the model and the rows, which a coordinator would tell.
TEST_F(TrainerProgramTest, CheckPrintsWarnings) {
  job_.WriteFile("sft.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"" +
                                  std::string(80, 'p') + "\", \"completion\": \"b\"}\n" +
                                  "{\"prompt\": \"c\", \"completion\": \"d\"}\n");
  std::string arguments =
      WriteJob("gradient_checkpointing_every: 2, activation_offloading: true") + " --check";
  EXPECT_EQ(Execute(arguments), kExitOk) << output();
  EXPECT_THAT(output(), AllOf(HasSubstr("warning: training.gradient_checkpointing_every has no "
                                        "effect: gradient_checkpointing is off"),
                              HasSubstr("warning: training.activation_offloading has no effect: "),
                              HasSubstr("dropped (row 2)")));
}

TEST_F(TrainerProgramTest, NanExitsWithFiveAndLeavesNothing) {
  EXPECT_EQ(Execute(WriteJob("max_steps: 8, learning_rate: 1e30, max_grad_norm: 0")), kExitFailed);
  EXPECT_THAT(output(), HasSubstr("learning_rate"));
  EXPECT_TRUE(Leftovers().empty());
}

// The limit on a file's size stands for a full disk: the weights are the
// only file that does not fit.
TEST_F(TrainerProgramTest, DiskFullWhileSavingLeavesNothing) {
  const int code = Execute(WriteJob("max_steps: 2"), "trap '' XFSZ; ulimit -f 32; ");
  EXPECT_EQ(code, kExitFailed) << output();
  EXPECT_THAT(output(), HasSubstr("model.safetensors"));
  EXPECT_TRUE(Leftovers().empty());
}

TEST_F(TrainerProgramTest, VersionAndUsage) {
  EXPECT_EQ(Execute("--version"), kExitOk);
  EXPECT_THAT(output(), HasSubstr("liger-trainer"));
  EXPECT_EQ(Execute(""), kExitInvalidInput);
  EXPECT_EQ(Execute("--no-such-flag"), kExitInvalidInput);
}

TEST_F(TrainerProgramTest, TokenizeCommand) {
  EXPECT_EQ(Execute("tokenize --model " + job_.Path("model") + " <" +
                    [this] {
                      job_.WriteFile("in", "{\"text\": \"ab\"}\n");
                      return job_.Path("in");
                    }()),
            kExitOk);
  EXPECT_THAT(output(), HasSubstr("97"));
}

TEST_F(TrainerProgramTest, InspectCommand) {
  job_.WriteFile("rows.jsonl",
                 "{\"prompt\": \"ab\", \"completion\": \"cde\"}\n"
                 "{\"prompt\": \"ab\", \"completion\": \"\\u001b[2Jfghijklmnopqrstuvwxyz\"}\n"
                 "{\"prompt\": \"abcdefghijklmnopqrstuvwxyz\", \"completion\": \"c\"}\n");
  const std::string inspect = "inspect --model " + job_.Path("model") + " --dataset " +
                              job_.Path("rows.jsonl") +
                              " --trainer sft --set training.max_length=16";
  ASSERT_EQ(Execute(inspect), kExitOk) << output();
  EXPECT_THAT(output(), HasSubstr("training: 3 rows, 1 dropped, 1 cut to max_length"));
  EXPECT_THAT(output(), HasSubstr("row 1 of those to train on, trained"));
  EXPECT_THAT(output(), HasSubstr("ab«cde"));
  EXPECT_THAT(output(), testing::Not(HasSubstr("\x1b")));
  ASSERT_EQ(Execute(inspect + " --row 2 --color"), kExitOk);
  EXPECT_THAT(output(), HasSubstr("ab\x1b[32m\\x1b[2Jfghi"));
  ASSERT_EQ(Execute(inspect + " --json"), kExitOk);
  const auto report = nlohmann::json::parse(output());
  EXPECT_EQ(report["format"], "PROMPT_COMPLETION");
  EXPECT_EQ(report["train"]["rows"], 3);
  EXPECT_EQ(report["train"]["lengths"]["max"], 28);
  EXPECT_EQ(report["sample"][0]["spans"][0]["text"], "ab");
  EXPECT_EQ(report["sample"][0]["spans"][1]["trained"], true);
  EXPECT_EQ(Execute(inspect + " --row 3"), kExitInvalidInput);
  EXPECT_THAT(output(), HasSubstr("--row 3: there are 2 rows"));
}

TEST_F(TrainerProgramTest, InspectSaysWhatAnEpochTakesOfWeightedSources) {
  const std::string row = "{\"prompt\": \"ab\", \"completion\": \"cde\"}\n";
  const std::string text = "{\"text\": \"abcde\"}\n";
  job_.WriteFile("a.jsonl", row + row);
  job_.WriteFile("b.jsonl", text + text);
  job_.WriteFile("mix.yaml", "model: " + job_.Path("model") + "\nsft:\ndataset: {sources: [{uri: " +
                                 job_.Path("a.jsonl") + ", weight: 0.75}, {uri: " +
                                 job_.Path("b.jsonl") + ", weight: 0.25}]}\n");
  ASSERT_EQ(Execute("inspect --spec " + job_.Path("mix.yaml")), kExitOk) << output();
  EXPECT_THAT(output(), HasSubstr("an epoch takes 3 rows of " + job_.Path("a.jsonl") +
                                  ", which has 2 (1.5 times each)"));
  EXPECT_THAT(output(), HasSubstr("an epoch takes 1 rows of " + job_.Path("b.jsonl") +
                                  ", which has 2 (0.5 times each)"));
  EXPECT_THAT(output(), HasSubstr("format PROMPT_COMPLETION of " + job_.Path("a.jsonl") +
                                  "\nformat TEXT of " + job_.Path("b.jsonl") + "\n"));
  ASSERT_EQ(Execute("inspect --spec " + job_.Path("mix.yaml") + " --json"), kExitOk);
  const auto report = nlohmann::json::parse(output());
  EXPECT_EQ(report["epoch"][0]["rows_an_epoch"], 3);
  EXPECT_EQ(report["epoch"][1]["rows"], 2);
  EXPECT_EQ(report["formats"][1]["format"], "TEXT");
  EXPECT_EQ(report["formats"][1]["source"], job_.Path("b.jsonl"));
}

// The client becomes the trainer's command.
TEST_F(TrainerProgramTest, ClientInspects) {
  const auto inspect = [this](const std::string& arguments) {
    return Execute("datasets inspect " + arguments, "HOME=" + job_.dir() + " ",
                   BinDir() + "/liger-cli");
  };
  const std::string file = job_.Path("sft.jsonl") + " --trainer sft --model ";
  ASSERT_EQ(inspect(file + job_.Path("model")), kExitOk) << output();
  EXPECT_THAT(output(), HasSubstr("trained tokens between « and »"));
  ASSERT_EQ(inspect(file + "model --model-root " + job_.dir() + " -o json"), kExitOk) << output();
  EXPECT_GT(nlohmann::json::parse(output())["train"]["rows"], 0);
  EXPECT_EQ(inspect(file + "model"), kExitInvalidInput);
  EXPECT_THAT(output(), HasSubstr("model.name: 'model' is neither here nor below " + job_.dir()));
  EXPECT_EQ(inspect(file + job_.Path("model") + " -o yaml"), kExitInvalidInput);
  EXPECT_EQ(inspect(job_.Path("sft.jsonl")), kExitInvalidInput);
  EXPECT_THAT(output(), HasSubstr("needs a file, --model and --trainer"));
  EXPECT_EQ(inspect(job_.Path("none.jsonl") + " --trainer sft --model " + job_.Path("model")),
            kExitInvalidInput);
  EXPECT_THAT(output(), HasSubstr("none.jsonl"));
  // A job file's names lie below the roots, as on a worker.
  job_.WriteFile("named.yaml", "model: model\ndataset: sft.jsonl\nsft:\n");
  const std::string roots = " --model-root " + job_.dir() + " --dataset-root " + job_.dir();
  ASSERT_EQ(inspect("-f " + job_.Path("named.yaml") + roots), kExitOk) << output();
  EXPECT_THAT(output(), HasSubstr("trained tokens between « and »"));
  job_.WriteFile("lacking.yaml",
                 "model: model\nsft:\ndataset: {sources: [{uri: sft.jsonl}, {uri: "
                 "none.jsonl}]}\n");
  EXPECT_EQ(inspect("-f " + job_.Path("lacking.yaml") + roots), kExitInvalidInput);
  EXPECT_THAT(output(), HasSubstr("dataset.sources[1].uri: 'none.jsonl' is neither here nor"));
  // An earlier job's output, as a model by name and by place.
  job_.WriteFile("chained.yaml", "model: {uri: model}\ndataset: {uri: sft.jsonl}\nsft:\n");
  const std::string outputs = " --output-root " + job_.dir();
  ASSERT_EQ(inspect("-f " + job_.Path("chained.yaml") + outputs), kExitOk) << output();
  ASSERT_EQ(inspect(file + "model" + outputs), kExitOk) << output();
  EXPECT_EQ(inspect("-f " + job_.Path("chained.yaml")), kExitInvalidInput);
  EXPECT_THAT(output(), HasSubstr("model.uri: 'model' is neither here nor below " + job_.dir()));
}

// As the agent does: Launch file, events file, command pipe.
class LaunchTest : public TrainerProgramTest {
 protected:
  void SetUp() override {
    events_fd_ = open(job_.Path("events").c_str(), O_CREAT | O_RDWR | O_APPEND | O_CLOEXEC, 0600);
    ASSERT_EQ(pipe2(commands_, O_CLOEXEC), 0);
  }
  void TearDown() override {
    close(events_fd_);
    close(commands_[0]);
    if (commands_[1] >= 0) close(commands_[1]);
  }
  std::unique_ptr<Process> Start(const Request& request, const std::string& program = kTrainer) {
    job_.WriteFile("launch", request.launch.SerializeAsString());
    return std::make_unique<Process>("LIGER_EVENTS_FD=" + std::to_string(events_fd_) +
                                         " LIGER_COMMANDS_FD=" + std::to_string(commands_[0]) +
                                         " exec " + program + " --launch " + job_.Path("launch") +
                                         " >" + Log() + " 2>&1",
                                     std::vector<int>{events_fd_, commands_[0]});
  }
  RecordingSink Events() const {
    RecordingSink sink;
    FrameReader reader;
    reader.Append(ReadAll(job_.Path("events")));
    std::string payload;
    while (reader.Next(&payload) == FrameReader::Result::kFrame) {
      Event event;
      event.ParseFromString(payload);
      sink.Emit(event);
    }
    return sink;
  }
  // A job that would run for minutes, once it has trained a step.
  std::unique_ptr<Process> StartLong() {
    Request request = job_.Sft();
    request.launch.mutable_resolved_spec()->mutable_training()->set_max_steps(1000000);
    auto process = Start(request);
    AwaitStep();
    return process;
  }
  void AwaitStep() {
    const absl::Time end = absl::Now() + absl::Seconds(60);
    while (Events().All(Event::kStep).empty() && absl::Now() < end) {
      absl::SleepFor(absl::Milliseconds(20));
    }
    EXPECT_FALSE(Events().All(Event::kStep).empty()) << output();
  }

  int events_fd_ = -1;
  int commands_[2] = {-1, -1};
};

TEST_F(LaunchTest, EventsEndWithSavedAndDone) {
  auto process = Start(job_.Sft());
  EXPECT_EQ(process->Wait(absl::Seconds(120)), kExitOk) << output();
  const RecordingSink sink = Events();
  ASSERT_GT(sink.events.size(), 4u);
  EXPECT_TRUE(sink.events.back().has_done());
  const auto saved = sink.Last(Event::kSaved).saved();
  EXPECT_TRUE(fs::exists(fs::path(saved.dir()) / "model.safetensors"));
  EXPECT_GT(saved.bytes(), 0);
}

TEST_F(LaunchTest, SaysWhatCodeItRanAsTheAgentIsTold) {
  ASSERT_EQ(Execute("--list-code"), kExitOk) << output();
  std::vector<std::string> files = absl::StrSplit(output(), '\n', absl::SkipEmpty());
  ASSERT_EQ(files.back(), "end");
  files.pop_back();
  EXPECT_THAT(files, testing::Contains(HasSubstr("/liger_arrow.so")));
  auto process = Start(job_.Sft());
  ASSERT_EQ(process->Wait(absl::Seconds(120)), kExitOk) << output();
  EXPECT_EQ(Events().Last(Event::kInputs).inputs().digests().at("code"), FileStatesDigest(files));
}

TEST_F(LaunchTest, AProgramThatIsReplacedWhileItRunsIsNotTheOneThatIsThere) {
  const std::string program = job_.Path("liger-trainer");
  fs::copy_file(kTrainer, program);
  Request request = job_.Sft();
  request.launch.mutable_resolved_spec()->mutable_training()->set_max_steps(1000000);
  auto process = Start(request, program);
  AwaitStep();
  fs::copy_file(kTrainer, program + ".new");
  fs::rename(program + ".new", program);
  liger::trainer::v1::Command command;
  command.set_command_id("c1");
  command.mutable_pause();
  ASSERT_TRUE(WriteFrame(commands_[1], command).ok());
  ASSERT_EQ(process->Wait(absl::Seconds(120)), kExitPaused) << output();
  const auto digests = Events().Last(Event::kInputs).inputs().digests();
  EXPECT_FALSE(digests.contains("code"));
  EXPECT_TRUE(digests.contains("dataset file"));
}

TEST_F(LaunchTest, CheckResultIsAnEvent) {
  Request request = job_.Sft();
  request.launch.set_task_kind(liger::trainer::v1::TASK_KIND_CHECK);
  request.launch.mutable_resolved_spec()->mutable_dataset()->set_uri("/no/such/file");
  auto process = Start(request);
  EXPECT_EQ(process->Wait(absl::Seconds(60)), kExitInvalidInput) << output();
  EXPECT_EQ(Events().Last(Event::kCheckResult).check_result().violations_size(), 1);
}

TEST_F(LaunchTest, StopCommandEndsTheTaskInTime) {
  auto process = StartLong();
  liger::trainer::v1::Command command;
  command.set_command_id("c7");
  command.mutable_stop()->set_grace_seconds(5);
  ASSERT_TRUE(WriteFrame(commands_[1], command).ok());
  EXPECT_EQ(process->Wait(absl::Seconds(8)), kExitStopped);
  EXPECT_EQ(Events().Last(Event::kCommandDone).command_done().command_id(), "c7");
  EXPECT_FALSE(fs::exists(job_.Path("attempt/model")));
}

TEST_F(LaunchTest, EndOfTheCommandPipeEndsTheTaskInFiveSeconds) {
  auto process = StartLong();
  close(commands_[0]);
  close(commands_[1]);
  commands_[1] = -1;
  EXPECT_EQ(process->Wait(absl::Seconds(5)), kExitStopped);
  commands_[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

}  // namespace
}  // namespace liger::trainer
