// What is told of columns that rows fill and that nothing reads.
#include "worker/trainer/data/unread_columns.h"

#include <map>

#include "tests/unit/data/dataset_fixture.h"

namespace liger::trainer {
namespace {

using liger::v1::DatasetSpec;
using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

class UnreadColumnsTest : public DatasetTest {
 protected:
  std::vector<std::string> Warnings(
      const std::string& row, std::map<std::string, std::string> columns = {},
      liger::v1::JobSpec::MethodCase method = liger::v1::JobSpec::kSft,
      liger::v1::DatasetFormat format = {}) {
    DatasetSpec spec;
    spec.mutable_columns()->insert(columns.begin(), columns.end());
    spec.set_format(format);
    LoadOptions options;
    options.method = method;
    return Load("[" + row + "]", spec, options).warnings;
  }
};

constexpr auto kDpo = liger::v1::JobSpec::kDpo;
const std::string kAlpaca = R"({"instruction": "Add.", "input": "1 and 2", "output": "3")";
const std::string kTalk = R"([{"from": "human", "value": "q"}, {"from": "gpt", "value": "a b"}])";
const std::string kMessages =
    R"([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a b"}])";
const auto kNothing = Not(Contains(HasSubstr("filled")));

TEST_F(UnreadColumnsTest, BesideAMappingAreWarnedOf) {
  EXPECT_THAT(Warnings(kAlpaca + "}", {{"prompt", "instruction"}, {"completion", "output"}}),
              Contains(AllOf(HasSubstr("rows.json: a column is filled, but not read: input "
                                       "(PROMPT_COMPLETION has no input; ALPACA has: leave "
                                       "dataset.columns out)"))));
  EXPECT_THAT(Warnings(kAlpaca + R"(, "completion": "4", "system": ""})",
                       {{"prompt", "input"}, {"completion", "output"}, {"system", "instruction"}}),
              Contains(HasSubstr("columns are filled, but not read: completion "
                                 "(dataset.columns.completion is output), instruction "
                                 "(PROMPT_COMPLETION has no system; ALPACA has: dataset.columns: "
                                 "{instruction: input, system: instruction})")));
}

TEST_F(UnreadColumnsTest, SystemIsWarnedOfWithAMappingThatReadsIt) {
  EXPECT_THAT(Warnings(R"({"system": "Be.", "question": "q", "chosen": "a", "rejected": "b"})",
                       {{"prompt", "question"}}, kDpo),
              Contains(HasSubstr("system (PREFERENCE has no system; ALPACA has: dataset.columns: "
                                 "{instruction: question})")));
  EXPECT_THAT(Warnings(R"({"prompt": "q", "completion": "a", "system": "Be."})"),
              Contains(HasSubstr("system (PROMPT_COMPLETION has no system; ALPACA has: "
                                 "dataset.columns: {instruction: prompt, output: completion})")));
  EXPECT_THAT(Warnings(R"({"system": "Be.", "messages": )" + kMessages + "}"),
              Contains(HasSubstr("system (MESSAGES has no system; SHAREGPT has: dataset.columns: "
                                 "{conversations: messages})")));
  EXPECT_THAT(Warnings(R"({"prompt": [{"role": "user", "content": "q"}], "system": "Be.",
                           "completion": [{"role": "assistant", "content": "a"}]})"),
              Contains(HasSubstr("system (PROMPT_COMPLETION has no system);")));
  // The mapping that is told reads it.
  EXPECT_THAT(Warnings(R"({"prompt": "q", "completion": "a", "system": "Be."})",
                       {{"instruction", "prompt"}, {"output", "completion"}}),
              kNothing);
}

TEST_F(UnreadColumnsTest, ContextIsWarnedOfAsAlpacasInput) {
  const std::string row = R"({"question": "Who is he?", "response": "a", "context": )";
  const std::map<std::string, std::string> columns = {{"prompt", "question"},
                                                      {"completion", "response"}};
  EXPECT_THAT(Warnings(row + R"("He is x."})", columns),
              Contains(HasSubstr("context (PROMPT_COMPLETION has no input; ALPACA has: "
                                 "dataset.columns: {input: context, instruction: question, output: "
                                 "response})")));
  const std::string dolly = R"({"instruction": "q", "response": "a", "context": "c")";
  EXPECT_THAT(Warnings(dolly + "}", {{"output", "response"}}),
              Contains(HasSubstr("context (ALPACA's input can be it: dataset.columns: {input: "
                                 "context, output: response})")));
  EXPECT_THAT(Warnings(dolly + "}", {{"output", "response"}, {"input", "context"}}), kNothing);
  EXPECT_THAT(Warnings(dolly + R"(, "input": "i"})", {{"output", "response"}}), kNothing);
  for (const std::string repeated : {"\"\"", "\"is  he\"", "[\"c\"]", "null"}) {
    EXPECT_THAT(Warnings(row + repeated + "}", columns), kNothing) << repeated;
  }
  EXPECT_THAT(Warnings(R"({"prompt": "q", "completion": "a", "context": "c"})"),
              Contains(HasSubstr("context (PROMPT_COMPLETION has no input; ALPACA has: "
                                 "dataset.columns: {input: context, instruction: prompt, output: "
                                 "completion})")));
}

TEST_F(UnreadColumnsTest, MappedOnesOfAnotherFormatAreWarnedOf) {
  const std::string rows = R"({"response": "a b", "instruction": "q", "conversations": )" + kTalk;
  EXPECT_THAT(Warnings(rows + "}", {{"output", "response"}, {"conversations", "conversations"}}),
              Contains(HasSubstr("response (dataset.columns.output, but the rows are SHAREGPT: set "
                                 "dataset.format ALPACA, or remove the mapping)")));
  EXPECT_THAT(
      Warnings(R"({"question": "q", "text": "t"})", {{"prompt", "question"}}),
      Contains(HasSubstr("question (dataset.columns.prompt, but the rows are TEXT: name "
                         "completion, too, for PROMPT_COMPLETION, or remove the mapping)")));
  EXPECT_THAT(Warnings(rows + "}", {{"output", "response"}}), kNothing) << "it is ALPACA";
}

TEST_F(UnreadColumnsTest, MappedOnesThatTheMethodDoesNotReadAreWarnedOf) {
  const std::string row = kAlpaca + R"(, "good": "3", "bad": "4", "rated": true})";
  const std::map<std::string, std::string> pair = {{"chosen", "good"}, {"rejected", "bad"}};
  const auto with = [&](const std::string& name, const std::string& in_file) {
    auto columns = pair;
    columns[name] = in_file;
    return columns;
  };
  EXPECT_THAT(Warnings(row, pair, kDpo), kNothing);
  EXPECT_THAT(Warnings(row, with("output", "output"), kDpo),
              Contains(HasSubstr("not read: output (dataset.columns.output, but of ALPACA rows the "
                                 "method reads system, history, instruction, input, chosen, "
                                 "rejected)")));
  EXPECT_THAT(Warnings(row, pair),
              Contains(AllOf(HasSubstr("bad (dataset.columns.rejected, but of ALPACA rows the "
                                       "method reads system, history, instruction, input, output"),
                             HasSubstr("good (dataset.columns.chosen, but"))));
  EXPECT_THAT(Warnings(row, with("label", "rated"), kDpo),
              Contains(testing::EndsWith(
                  "a column is filled, but not read: rated (dataset.columns.label, which kto alone "
                  "reads, of rows with one answer: remove the mapping)")));
  EXPECT_THAT(Warnings(row + R"(, )" + kAlpaca + R"(, "rated": false})", {{"label", "rated"}},
                       liger::v1::JobSpec::kKto),
              kNothing);
  // No format by which dpo reads pairs has it.
  EXPECT_THAT(Warnings(R"({"q": "q", "a": "a", "chosen": "b", "rejected": "c"})",
                       {{"prompt", "q"}, {"completion", "a"}}, kDpo),
              Contains(HasSubstr("a (dataset.columns.completion, but of PREFERENCE rows the method "
                                 "reads prompt, chosen, rejected)")));
}

TEST_F(UnreadColumnsTest, WhatRepeatsTheRestAndOtherColumnsAreLeftAlone) {
  EXPECT_THAT(Warnings(R"({"question": "q", "completion": "a", "system": "", "messages": [],
                           "id": 1, "score": 0.5, "source": "s", "text": "q a", "label": 1})",
                       {{"prompt", "question"}}),
              kNothing);
  EXPECT_THAT(Warnings(kAlpaca + R"(, "prompt": "Add."})", {{"instruction", "instruction"}}),
              kNothing);
  const std::string pair = R"({"question": "q", "answer": "a  b", "messages": )";
  const std::map<std::string, std::string> columns = {{"prompt", "question"},
                                                      {"completion", "answer"}};
  EXPECT_THAT(Warnings(pair + kMessages + "}", columns), kNothing);
  EXPECT_THAT(Warnings(pair + R"([{"role": "system", "content": "Be."}]})", columns),
              Contains(HasSubstr("messages (PROMPT_COMPLETION has no messages);")));
  EXPECT_THAT(Warnings(R"({"prompt": "q", "completion": "a", "input": "q", "system": 3,
                           "metadata": {"system": "m"}})"),
              kNothing);
  EXPECT_THAT(Warnings(R"({"system": "Be.", "messages": [{"role": "system", "content": "Be."},
                           {"role": "user", "content": "q"},
                           {"role": "assistant", "content": "a"}]})"),
              kNothing);
  // A broken row further on is told by what reads it.
  EXPECT_THAT(FailureOf([&] {
                Warnings("{\"prompt\": \"q\", \"completion\": \"a\"}, {\"prompt\": 1}");
              }).row(),
              2);
}

// orca_dpo_pairs has question, distilabel input.
TEST_F(UnreadColumnsTest, APromptOfPairsByAnotherNameIsWarnedOf) {
  const std::string answers = R"("chosen": "a", "rejected": "b")";
  for (const auto method : {kDpo, liger::v1::JobSpec::kOrpo, liger::v1::JobSpec::kKto}) {
    for (const std::string name : {"question", "query", "input"}) {
      const std::string row = R"({")" + name + R"(": "Why?", )" + answers + "}";
      EXPECT_THAT(Warnings(row, {}, method),
                  Contains(AllOf(HasSubstr("a column is filled, but not read: " + name + " ("),
                                 HasSubstr("read by dataset.columns: {prompt: " + name + "})"))));
      EXPECT_THAT(Warnings(row, {{"prompt", name}}, method), kNothing);
    }
    // With all that lies beside; the mapping that is told reads it.
    const std::string orca = R"({"system": "Be.", "question": "Why?", )" + answers + "}";
    EXPECT_THAT(Warnings(orca, {}, method),
                Contains(AllOf(HasSubstr("question (the rows have no prompt by that name"),
                               HasSubstr("read by dataset.columns: {instruction: question})"),
                               HasSubstr("system (PREFERENCE has no system; ALPACA has: "
                                         "dataset.columns: {instruction: question})"))));
    EXPECT_THAT(Warnings(orca, {{"instruction", "question"}}, method), kNothing);
    const std::string all = R"({"sys": "Be.", "ctx": "He is.", "input": "Who?", )" + answers + "}";
    EXPECT_THAT(Warnings(all, {}, method),
                Contains(HasSubstr("input (the rows have no prompt by that name, so what both "
                                   "answers begin with is taken for it; this column is read by "
                                   "dataset.columns: {input: ctx, instruction: input, system: "
                                   "sys})")));
    EXPECT_THAT(
        Warnings(all, {{"input", "ctx"}, {"instruction", "input"}, {"system", "sys"}}, method),
        kNothing);
  }
}

// Pairs whose answers begin with the prompt, or that have one by its name, may have other columns.
TEST_F(UnreadColumnsTest, WhatIsNoPromptOfPairsIsLeftAlone) {
  const std::string implicit = R"("chosen": "Human: Why?\n\nAssistant: a",
                                  "rejected": "Human: Why?\n\nAssistant: b")";
  for (const std::string beside :
       {R"("question": "Why?")", R"("user": "u-17")", R"("question": "")", R"("input": [1, 2])",
        R"("id": "x", "source": "s", "category": "c", "score": 1.5, "metadata": {"question": "w"})",
        R"("tags": ["t"], "query": null, "system": "", "context": null)"}) {
    EXPECT_THAT(Warnings("{" + beside + ", " + implicit + "}", {}, kDpo), kNothing) << beside;
  }
  EXPECT_THAT(
      Warnings(R"({"prompt": "p", "question": "q", "chosen": "a", "rejected": "b"})", {}, kDpo),
      kNothing);
  EXPECT_THAT(Warnings(R"({"question": "Why ?", "chosen": )" + kMessages + R"(, "rejected": )" +
                           R"([{"role": "user", "content": "q"},
                               {"role": "assistant", "content": "c"}]})",
                       {}, kDpo),
              kNothing);
  // One of the two answers repeats the question.
  EXPECT_THAT(Warnings(R"({"question": "Why", "chosen": "Why not", "rejected": "No"})", {}, kDpo),
              Contains(HasSubstr("{prompt: question}")));
}

struct WellKnown {
  const char* row;
  const char* told;
  std::map<std::string, std::string> columns;  // that are told
};

class WellKnownColumns : public UnreadColumnsTest, public testing::WithParamInterface<WellKnown> {};

TEST_P(WellKnownColumns, BesideRowsThatParseAreWarnedOf) {
  const WellKnown& param = GetParam();
  EXPECT_THAT(Warnings(param.row), Contains(HasSubstr(std::string("not read: ") + param.told)));
  if (!param.columns.empty()) {
    EXPECT_THAT(Warnings(param.row, param.columns), kNothing);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, WellKnownColumns,
    testing::Values(
        WellKnown{R"({"instruction": "i", "context": "c", "output": "o"})",
                  "context (ALPACA's input can be it: dataset.columns: {input: context})",
                  {{"input", "context"}}},
        WellKnown{R"({"instruction": "i", "input": "", "ctx": "c", "output": "o"})",
                  "ctx (ALPACA's input can be it: dataset.columns: {input: ctx})",
                  {{"input", "ctx"}}},
        WellKnown{R"({"instruction": "i", "output": "o", "system_prompt": "Be."})",
                  "system_prompt (ALPACA's system can be it: dataset.columns: {system: "
                  "system_prompt})",
                  {{"system", "system_prompt"}}},
        // The first row leaves it empty.
        WellKnown{R"({"instruction": "i", "output": "o", "system_message": null},
                     {"instruction": "i", "output": "o", "system_message": "Be."})",
                  "system_message (ALPACA's system can be it: dataset.columns: {system: "
                  "system_message})",
                  {{"system", "system_message"}}},
        WellKnown{R"({"prompt": "q", "input": "i", "completion": "a"})",
                  "input (PROMPT_COMPLETION has no input; ALPACA has: dataset.columns: "
                  "{instruction: prompt, output: completion})",
                  {{"instruction", "prompt"}, {"output", "completion"}}},
        WellKnown{R"({"prompt": "q", "input": "i", "sys": "Be.", "completion": "a"})",
                  "input (PROMPT_COMPLETION has no input; ALPACA has: dataset.columns: "
                  "{instruction: prompt, output: completion, system: sys}), sys "
                  "(PROMPT_COMPLETION has no system; ALPACA has: ",
                  {{"instruction", "prompt"}, {"output", "completion"}, {"system", "sys"}}},
        WellKnown{R"({"system_prompt": "Be.", "messages": [{"role": "user", "content": "q"},
                      {"role": "assistant", "content": "a"}]})",
                  "system_prompt (MESSAGES has no system; SHAREGPT has: dataset.columns: "
                  "{conversations: messages, system: system_prompt})",
                  {{"conversations", "messages"}, {"system", "system_prompt"}}},
        WellKnown{R"({"system_prompt": "Be.", "conversations": [{"from": "human", "value": "q"},
                      {"from": "gpt", "value": "a"}]})",
                  "system_prompt (SHAREGPT's system can be it: dataset.columns: {system: "
                  "system_prompt})",
                  {{"system", "system_prompt"}}},
        // No mapping reads it: ALPACA's are text.
        WellKnown{R"({"system_prompt": "Be.", "prompt": [{"role": "user", "content": "q"}],
                      "completion": [{"role": "assistant", "content": "a"}]})",
                  "system_prompt (PROMPT_COMPLETION has no system)",
                  {}},
        WellKnown{R"({"prompt": "q", "completion": "a", "input": "i", "system": 3})",
                  "input (PROMPT_COMPLETION has no input)",
                  {}}));

// Stanford's prompt has no place for a system prompt.
TEST_F(UnreadColumnsTest, WithoutAChatTemplateNoMappingToSystemIsTold) {
  const auto warnings = [this](const std::string& row) {
    const TempFile file("[" + row + "]");
    LoadOptions options;
    options.train_files = {{file.path()}};
    return LoadDataset({}, options, *tokenizer_, nullptr).warnings;
  };
  EXPECT_THAT(warnings(R"({"instruction": "i", "output": "o", "sys": "Be."})"),
              Contains(HasSubstr("sys (ALPACA has no system without a chat template)")));
  EXPECT_THAT(warnings(R"({"prompt": "q", "completion": "a", "sys": "Be.", "context": "c"})"),
              Contains(AllOf(HasSubstr("{input: context, instruction: prompt, output: completion}"),
                             HasSubstr("sys (PROMPT_COMPLETION has no system)"))));
  EXPECT_THAT(warnings(R"({"prompt": "q", "completion": "a", "system": "Be.", "context": "c"})"),
              Contains(HasSubstr("context (PROMPT_COMPLETION has no input), system (")));
}

TEST_F(UnreadColumnsTest, WellKnownColumnsThatRepeatWhatIsReadAreLeftAlone) {
  for (const std::string row :
       {R"({"instruction": "Who is he? He is x.", "context": "He is x.", "output": "o"})",
        R"({"instruction": "i", "output": "o", "context": "", "system_prompt": null})",
        R"({"instruction": "i", "output": "o", "context": [1, 2], "sys": {"a": "b"}})",
        R"({"instruction": "i", "input": "x", "context": "c", "output": "o"})",
        R"({"sys": "Be.", "messages": [{"role": "system", "content": "Be."},
            {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})"}) {
    EXPECT_THAT(Warnings(row), kNothing) << row;
  }
}

// Pairs are told by the format that they are read as, whatever lies beside.
TEST_F(UnreadColumnsTest, KtosPairsBesideATextAreRead) {
  for (const std::string beside : {"\"text\": \"t\"", "\"messages\": []"}) {
    EXPECT_THAT(Warnings(R"({"question": "q", "chosen": "a", "rejected": "b", )" + beside + "}",
                         {{"prompt", "question"}}, liger::v1::JobSpec::kKto),
                kNothing);
  }
}

}  // namespace
}  // namespace liger::trainer
