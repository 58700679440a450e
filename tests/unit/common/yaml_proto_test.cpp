#include "common/spec/yaml_proto.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "common/spec/violations.h"
#include "liger/v1/job.pb.h"
#include "liger/v1/job_spec.pb.h"

namespace liger {
namespace {

using liger::v1::JobSpec;
using testing::AllOf;
using testing::HasSubstr;

std::vector<std::string> Mistakes(const std::string& text) {
  JobSpec spec;
  std::vector<std::string> formatted;
  for (const auto& violation : ParseYaml(text, "job.yaml", &spec)) {
    formatted.push_back(FormatViolation(violation));
  }
  return formatted;
}

JobSpec Parse(const std::string& text) {
  JobSpec spec;
  const auto violations = ParseYaml(text, "job.yaml", &spec);
  for (const auto& violation : violations) ADD_FAILURE() << FormatViolation(violation);
  return spec;
}

TEST(YamlProtoTest, ReadsScalarsEnumsListsMapsAndShorthands) {
  const JobSpec spec = Parse(R"(
model: smollm2-135m
dataset: {uri: data.jsonl, format: alpaca, shuffle: no}
orpo:
kernels: baseline
labels: {team: nlp}
training:
  learning_rate: 1e-5
  maxSteps: 20
  sample_prompts: ["Hi", "What is 2+2?"]
)");
  EXPECT_EQ(spec.model().name(), "smollm2-135m");
  EXPECT_EQ(spec.dataset().format(), liger::v1::DATASET_FORMAT_ALPACA);
  EXPECT_TRUE(spec.dataset().has_shuffle());
  EXPECT_FALSE(spec.dataset().shuffle());
  EXPECT_TRUE(spec.has_orpo());
  EXPECT_EQ(spec.kernels().mode(), liger::v1::KERNEL_MODE_BASELINE);
  EXPECT_EQ(spec.labels().at("team"), "nlp");
  EXPECT_EQ(spec.training().learning_rate(), 1e-5);
  EXPECT_EQ(spec.training().max_steps(), 20);
  EXPECT_EQ(spec.training().sample_prompts_size(), 2);
}

TEST(YamlProtoTest, EachMistakeNamesFieldAndLine) {
  EXPECT_THAT(Mistakes("model: m\ntraining:\n  lerning_rate: 1\n"),
              testing::ElementsAre("job.yaml:3: training.lerning_rate: is not a field; did you "
                                   "mean 'learning_rate'?"));
  EXPECT_THAT(Mistakes("training:\n  max_steps: many\n"),
              testing::ElementsAre(HasSubstr("job.yaml:2: training.max_steps: must be a whole")));
  EXPECT_THAT(Mistakes("training: {max_length: 99999999999}"),
              testing::ElementsAre(HasSubstr("at most 32 bits")));
  EXPECT_THAT(Mistakes("kernels: {mode: turbo}"),
              testing::ElementsAre(HasSubstr("'turbo' is not one of LIGER, BASELINE, CUSTOM")));
  EXPECT_THAT(
      Mistakes("sft:\norpo:\n"),
      testing::ElementsAre(HasSubstr("job.yaml:2: orpo: cannot be given together with 'sft'")));
  EXPECT_THAT(Mistakes("name: a\nname: b\n"),
              testing::ElementsAre(HasSubstr("job.yaml:2: name: is given twice")));
  EXPECT_THAT(Mistakes("model: [1]"), testing::ElementsAre(HasSubstr("must be a mapping")));
  EXPECT_THAT(Mistakes("dataset: {shuffle: perhaps}"),
              testing::ElementsAre(HasSubstr("must be true or false")));
  EXPECT_THAT(Mistakes("training: {sample_prompts: {a: hi}}"),
              testing::ElementsAre(HasSubstr("must be a list")));
}

TEST(YamlProtoTest, AllMistakesAreReportedAtOnce) {
  EXPECT_EQ(Mistakes("modle: x\nname: [1]\ntraining: {max_steps: a, seed: b}").size(), 4u);
}

TEST(YamlProtoTest, SyntaxErrorsAndHostileInputAreErrors) {
  EXPECT_THAT(Mistakes("model: [\n"), testing::ElementsAre(HasSubstr("is not valid YAML")));
  EXPECT_THAT(Mistakes("just text"), testing::ElementsAre(HasSubstr("must be a mapping")));
  EXPECT_EQ(Mistakes("model: {name: *nowhere}").size(), 1u);
}

TEST(YamlProtoTest, TabsThatIndentAreNamed) {
  const std::string wrong = ": is indented with a tab, which YAML does not allow; use spaces";
  EXPECT_THAT(Mistakes("model: m\nsft:\n\tpacking: true\n"),
              testing::ElementsAre("job.yaml:3" + wrong));
  EXPECT_THAT(Mistakes("training:\n  seed: 1\n \tmax_steps: 2\nmodel: m\n"),
              testing::ElementsAre("job.yaml:3" + wrong));
  // Elsewhere they are no mistake, or not the one.
  EXPECT_THAT(Mistakes("model:\tm\t# a comment\n\t# another\nsft:\n"), testing::IsEmpty());
  EXPECT_THAT(Mistakes("model: [\n\tm"),
              testing::ElementsAre(HasSubstr("job.yaml:2: is not valid YAML: end of sequence")));
  EXPECT_THAT(
      Mistakes("sft:\n  response_template: |\n    foo\n    \tbar\ntraining: {max_steps: 5\n"),
      testing::ElementsAre(HasSubstr("job.yaml:6: is not valid YAML: end of map")));
  EXPECT_THAT(Mistakes("model: [a\tb\n"), testing::ElementsAre(HasSubstr("is not valid YAML")));
}

TEST(YamlProtoTest, LikelyCausesOfSyntaxErrorsAreSaid) {
  EXPECT_THAT(Mistakes("sft:\n  packing: true\n seed: 1\n"),
              testing::ElementsAre(AllOf(HasSubstr("job.yaml:3: "), HasSubstr("indented"))));
  EXPECT_THAT(Mistakes("name: a: b\n"), testing::ElementsAre(HasSubstr("in quotes")));
  for (const char* text : {"@user", "`x`", "%x"}) {
    EXPECT_THAT(Mistakes(absl::StrCat("sft:\n  response_template: ", text, "\n")),
                testing::ElementsAre(testing::EndsWith(absl::StrCat(
                    "; put a text that begins with ", std::string(text, 1), " in quotes"))));
  }
  for (const char* prompts : {"[What is 2+2?]", "[Why? Because, Hi]", "[a, b"}) {
    EXPECT_THAT(Mistakes(absl::StrCat("training:\n  sample_prompts: ", prompts, "\n")),
                testing::ElementsAre(HasSubstr("holds one of ? , [ ] { } in quotes")));
  }
}

TEST(YamlProtoTest, NamesInCapitalsAndShortFormsAreKnown) {
  EXPECT_THAT(Mistakes("SFT:\n"), testing::ElementsAre(HasSubstr("did you mean 'sft'?")));
  EXPECT_THAT(Mistakes("training: {num_epochs: 3}"),
              testing::ElementsAre(HasSubstr("did you mean 'training.num_train_epochs'?")));
  EXPECT_THAT(Mistakes("training: {batch_size: 3}"),
              testing::ElementsAre(HasSubstr("did you mean 'per_device_train_batch_size'?")));
  EXPECT_THAT(Mistakes("training: {size_batch: 3}"),
              testing::ElementsAre(testing::EndsWith("is not a field")));
}

TEST(YamlProtoTest, NamesOfOtherSectionsAndProgramsAreKnown) {
  for (const auto& [text, meant] : std::vector<std::pair<std::string, std::string>>{
           {"training: {lr: 1}", "'training.learning_rate'?"},
           {"lr: 1", "'training.learning_rate'?"},
           {"training: {per_device_batch_size: 1}", "'training.per_device_train_batch_size'?"},
           {"sft: {max_length: 1}", "'training.max_length'?"},
           {"sft: {max_seq_length: 1}", "'training.max_length'?"},
           {"training: {packing: true}", "'sft.packing'?"},
           {"dpo_beta: 1", "'dpo.beta'?"},
           {"training: {lora_r: 1}", "'lora.r'?"},
           {"training: {epochs: 1}", "'training.num_train_epochs'?"},
           {"training: {num_train_steps: 1}", "'training.max_steps'?"},
           {"dataset: {max_train_samples: 1}", "'dataset.max_samples'?"},
           {"lora: {alpha: 1}", "'lora.lora_alpha'?"},
           {"lora: {rank: 1}", "'lora.r'?"},
           {"lora: {dora: true}", "'lora.use_dora'?"},
           {"model: {torch_dtype: bf16}", "'training.precision'?"},
           {"training: {labels: {a: b}}", "'labels'?"},
           {"training: {name: x}", "'name' or 'model.name' or 'dataset.name'?"},
           {"sft: {label_smoothing: 1}", "'label_smoothing_factor'?"},
           {"lora: {uri: x}", "'model.uri' or 'dataset.uri' or 'output.uri'?"},
           {"dpo: {}\ntraining: {beta: 1}", "'dpo.beta'?"},
           {"training: {beta: 1}\ndpo: {}", "'dpo.beta'?"}}) {
    EXPECT_THAT(Mistakes(text),
                testing::ElementsAre(testing::EndsWith(": is not a field; did you mean " + meant)));
  }
  EXPECT_THAT(Mistakes("training: {max_prompt_length: 1}"),
              testing::ElementsAre(testing::EndsWith(
                  "; 'training.max_length' bounds a prompt and its answer together, and "
                  "truncation_mode says which end is cut")));
  for (const auto& [text, instead] : std::vector<std::pair<std::string, std::string>>{
           {"model: {load_in_4bit: true}", "; models are not quantised (no QLoRA): "},
           {"training: {report_to: wandb}", "; metrics go to Prometheus and metrics.jsonl"},
           {"training: {deepspeed: ds.json}", "; 'resources.count' says on how many devices"},
           {"model: {attn_implementation: x}", "; the trainer takes the fastest exact attention"},
           {"dpo: {rpo_alpha: 1}", "; a share of the chosen answers' own loss is dpo.loss_type"},
           {"training: {evaluation_strategy: steps}", "; 'training.eval_steps' says after how"},
           {"dataset: {sources: [{name: x}]}", "; did you mean 'uri'?"},
           {"dataset: {sources: [{uri: x, ratio: 1}]}", "; did you mean 'weight'?"},
           {"model: {template: x}", "; the chat template is the model folder's"},
           {"lora: {use_galore: true}", "; adapters are LoRA's"},
           {"finetuning_type: lora", "; an adapter is trained where there is a section 'lora:'"},
           {"training: {fp16: true}", "; 'training.precision' says in what: bf16_mixed"}}) {
    EXPECT_THAT(Mistakes(text), testing::ElementsAre(HasSubstr(": is not a field" + instead)));
  }
  EXPECT_THAT(
      Mistakes("dataset: {name: [a, b]}"),
      testing::ElementsAre(testing::EndsWith("; several are dataset.sources, each with uri")));
  EXPECT_THAT(Mistakes("orpo: {loss_type: ipo}"),
              testing::ElementsAre(testing::EndsWith(
                  "; this job's trainer has none, others have 'dpo.loss_type', 'kto.loss_type', "
                  "'cpo.loss_type'")));
  EXPECT_THAT(Mistakes("dpo_beta: 1\nsft: {}"),
              testing::ElementsAre(
                  testing::EndsWith("; this job's trainer has none, others have 'dpo.beta'")));
  JobSpec spec;
  spec.mutable_orpo();
  EXPECT_THAT(std::string(SetField(&spec, "training.lr", "1").message()),
              testing::EndsWith("did you mean 'training.learning_rate'?"));
  EXPECT_THAT(std::string(SetField(&spec, "orpo.max_length", "1").message()),
              testing::EndsWith("did you mean 'training.max_length'?"));
}

TEST(YamlProtoTest, TheTrainersSectionIsNamed) {
  for (const std::string key : {"trainer", "method"}) {
    EXPECT_THAT(Mistakes("model: m\n" + key + ": sft\n"),
                testing::ElementsAre("job.yaml:2: " + key +
                                     ": is not a field; a trainer is named by its own section, "
                                     "sft:, dpo:, orpo:, kto:, cpo: ('sft:' in place of '" +
                                     key + ": sft'), or by --trainer"));
  }
  EXPECT_THAT(Mistakes("training: {trainer: sft}"),
              testing::ElementsAre(testing::EndsWith("is not a field")));
}

TEST(YamlProtoTest, SetFieldTakesDottedPaths) {
  JobSpec spec;
  ASSERT_TRUE(SetField(&spec, "training.learning_rate", "1e-5").ok());
  ASSERT_TRUE(SetField(&spec, "labels.a.b", "c").ok());
  ASSERT_TRUE(SetField(&spec, "training.sample_prompts", "[x, y]").ok());
  ASSERT_TRUE(SetField(&spec, "training.sample_prompts", "[z]").ok());
  EXPECT_EQ(spec.training().learning_rate(), 1e-5);
  EXPECT_EQ(spec.labels().at("a.b"), "c");
  EXPECT_EQ(spec.training().sample_prompts_size(), 1);
  EXPECT_THAT(std::string(SetField(&spec, "training.warmup", "1").message()),
              HasSubstr("training.warmup: is not a field"));
  const auto message = [&spec](const char* path) {
    return std::string(SetField(&spec, path, "1").message());
  };
  EXPECT_THAT(message("training.max_step"), HasSubstr("did you mean 'training.max_steps'?"));
  EXPECT_THAT(message("learning_rate"), HasSubstr("did you mean 'training.learning_rate'?"));
  EXPECT_THAT(message("lora.alpah"), testing::EndsWith("did you mean 'lora.lora_alpha'?"));
  EXPECT_THAT(message("lora.beta"), testing::Not(HasSubstr("lora_")));
  // Of a path no more may be wrong than of its last name alone.
  for (const char* path : {"dataset.split", "training.stage", "kernels.foo"}) {
    EXPECT_THAT(message(path), testing::EndsWith("is not a field")) << path;
  }
  EXPECT_THAT(message("beta"), HasSubstr("'orpo.beta'"));
  spec.mutable_dpo();
  EXPECT_THAT(message("beta"), testing::EndsWith("did you mean 'dpo.beta'?"));
  EXPECT_THAT(Mistakes("learning_rate: 1"),
              testing::ElementsAre(HasSubstr("training.learning_rate")));
  EXPECT_FALSE(SetField(&spec, "name.x", "1").ok());
  EXPECT_FALSE(SetField(&spec, "training.max_steps", "x").ok());
}

TEST(YamlProtoTest, SetFieldTakesTextsThatYamlWouldTakeForSomethingElse) {
  JobSpec spec;
  for (const std::string text : {"### Response:", "Answer: yes", "a # b", "[INST", "- x", "@y",
                                 "### Response:\n", "{% x %}", "1.50"}) {
    ASSERT_TRUE(SetField(&spec, "sft.response_template", text).ok()) << text;
    EXPECT_EQ(spec.sft().response_template(), text);
  }
  for (const auto& [yaml, text] :
       {std::pair<std::string, std::string>(R"("\n### R:\n")", "\n### R:\n"),
        {"'# it''s'", "# it's"},
        {" plain ", "plain"}}) {
    ASSERT_TRUE(SetField(&spec, "sft.response_template", yaml).ok()) << yaml;
    EXPECT_EQ(spec.sft().response_template(), text);
  }
  EXPECT_FALSE(SetField(&spec, "sft.response_template", "\"open").ok());
  EXPECT_FALSE(SetField(&spec, "training.max_steps", "# 3").ok()) << "no text";
}

TEST(YamlProtoTest, SetFieldTakesListsAsYamlDoes) {
  JobSpec spec;
  const auto prompts = [&spec](const std::string& value) {
    const absl::Status status = SetField(&spec, "training.sample_prompts", value);
    const auto& texts = spec.training().sample_prompts();
    return status.ok() ? std::vector<std::string>(texts.begin(), texts.end())
                       : std::vector<std::string>{std::string(status.message())};
  };
  using testing::ElementsAre;
  EXPECT_THAT(prompts("[q_proj,v_proj]"), ElementsAre("q_proj", "v_proj"));
  EXPECT_THAT(prompts(" [ 'a, b', \"c\" ]"), ElementsAre("a, b", "c"));
  EXPECT_THAT(prompts("- a\n- b"), ElementsAre("a", "b"));
  for (const std::string text : {"Hello, you", "Answer: yes", "# Title", "[INST] hi [/INST]",
                                 "[system] You are: kind, quick", "[x] %y"}) {
    EXPECT_THAT(prompts(text), ElementsAre(text));
  }
  EXPECT_THAT(prompts(""), testing::IsEmpty());
  // What a shell leaves of [a, b] without quotes.
  EXPECT_THAT(prompts("[a,"), ElementsAre(AllOf(HasSubstr("training.sample_prompts: is no list: "),
                                                HasSubstr("write it as '[a, b]', in quotes"))));
  for (const std::string text : {"[a], b", "[a],[b]", "[a, b],", "[a] , "}) {
    EXPECT_THAT(prompts(text), ElementsAre(HasSubstr("is no list: a comma is left over;"))) << text;
  }
  spec.mutable_dpo();
  ASSERT_TRUE(SetField(&spec, "dpo.loss_weights", "[1, 0.5]").ok());
  EXPECT_THAT(spec.dpo().loss_weights(), ElementsAre(1, 0.5));
  EXPECT_THAT(std::string(SetField(&spec, "dpo.loss_weights", "1,0.5").message()),
              testing::EndsWith("not '1,0.5'; several are written as a list: [1, 0.5]"));
}

TEST(YamlProtoTest, AFileIsOneDocument) {
  const auto problem = [](const std::string& text) {
    JobSpec spec;
    const auto found = ParseYaml(text, "job.yaml", &spec);
    return found.empty() ? spec.name() : found[0].message();
  };
  EXPECT_EQ(problem("name: a"), "a");
  EXPECT_EQ(problem("---\nname: a\n...\n"), "a");
  EXPECT_EQ(problem("# nothing"), "");
  EXPECT_THAT(problem("name: a\n---\nname: b"), HasSubstr("a second document begins here"));
  // Behind which yaml-cpp finds documents without end.
  for (const std::string mark : {"", "\xEF\xBB\xBF"}) {
    EXPECT_THAT(problem(mark + R"({"name": "t"},)"), HasSubstr("a comma is left over"));
    EXPECT_THAT(problem(mark + R"("name", "t")"), HasSubstr("a comma is left over"));
  }
}

TEST(YamlProtoTest, SetFieldDoesNotSwitchTheMemberOfAOneof) {
  JobSpec spec;
  spec.mutable_sft();
  for (const char* path : {"orpo.beta", "orpo"}) {
    const std::string message(SetField(&spec, path, "0.2").message());
    EXPECT_THAT(message, HasSubstr("orpo: cannot be given together with 'sft'")) << path;
  }
  EXPECT_TRUE(spec.has_sft());
  EXPECT_TRUE(SetField(&spec, "sft.completion_only_loss", "true").ok());
  EXPECT_TRUE(SetField(&spec, "dataset.shuffle", "false").ok()) << "optional is no oneof";
  EXPECT_TRUE(SetField(&spec, "dataset.shuffle", "true").ok());
}

TEST(YamlProtoTest, ToYamlReadsBackEqual) {
  const JobSpec spec = Parse(R"(
name: "yes"
labels: {a: "1", "b c": 'quote " and \ and
    newline'}
model: {name: m, random_init: true}
orpo: {beta: 0.1}
training: {learning_rate: 1.2345678901234567e-5, sample_prompts: ["null", "a: b"]}
kernels: LIGER
)");
  JobSpec again = Parse(ToYaml(spec));
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(spec, again)) << ToYaml(spec);
}

TEST(YamlProtoTest, DoublesTimesAndEnumsReadBack) {
  liger::v1::Job job;
  job.mutable_create_time()->set_seconds(1767225600);
  job.mutable_create_time()->set_nanos(250'000'000);
  job.mutable_resolved_spec()->mutable_kernels()->set_mode(liger::v1::KERNEL_MODE_LIGER);
  auto& values = *job.mutable_status()->mutable_progress()->mutable_values();
  values["subnormal"] = 5e-324;
  values["third"] = 1.0 / 3;
  values["up"] = std::numeric_limits<double>::infinity();
  values["down"] = -std::numeric_limits<double>::infinity();
  const std::string yaml = ToYaml(job, EnumNames::kFull);
  EXPECT_THAT(yaml, HasSubstr("create_time: \"2026-01-01T00:00:00.250Z\""));
  EXPECT_THAT(yaml, HasSubstr("\"up\": .inf"));
  EXPECT_THAT(yaml, HasSubstr("mode: KERNEL_MODE_LIGER"));
  liger::v1::Job again;
  EXPECT_THAT(ParseYaml(yaml, "job.yaml", &again), testing::IsEmpty()) << yaml;
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(job, again)) << yaml;

  liger::v1::Progress progress;  // apart, since NaN equals nothing
  (*progress.mutable_values())["none"] = NAN;
  liger::v1::Progress read;
  ASSERT_THAT(ParseYaml(ToYaml(progress), "", &read), testing::IsEmpty()) << ToYaml(progress);
  EXPECT_TRUE(std::isnan(read.values().at("none")));
}

}  // namespace
}  // namespace liger
