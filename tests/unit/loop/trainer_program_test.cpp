// Starts the real liger-trainer as an engineer does.
#include "tests/unit/loop/trainer_program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/paths.h"
#include "worker/trainer/loop/exit_code.h"

namespace liger::trainer {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
namespace fs = std::filesystem;

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
  EXPECT_THAT(output(), HasSubstr("an epoch takes 1 row of " + job_.Path("b.jsonl") +
                                  ", which has 2 (0.5 times each)"));
  EXPECT_THAT(output(), HasSubstr("format PROMPT_COMPLETION of " + job_.Path("a.jsonl") +
                                  "\nformat TEXT of " + job_.Path("b.jsonl") + "\n"));
  ASSERT_EQ(Execute("--check --set model.random_init=true --spec " + job_.Path("mix.yaml")),
            kExitOk)
      << output();
  EXPECT_THAT(output(), HasSubstr("an epoch takes 1 row of " + job_.Path("b.jsonl") +
                                  ", which has 2 (0.5 times each)"));
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

}  // namespace
}  // namespace liger::trainer
