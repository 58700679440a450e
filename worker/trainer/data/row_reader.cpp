#include "worker/trainer/data/row_reader.h"

#include <algorithm>
#include <string>
#include <utility>

#include "worker/trainer/data/column_names.h"
#include "worker/trainer/data/content_parts.h"
#include "worker/trainer/data/row_format.h"
#include "worker/trainer/data/text_prefix.h"
#include "worker/trainer/data/token_rows.h"

namespace liger::trainer {
namespace {

using nlohmann::ordered_json;

// Stanford Alpaca's prompts (github.com/tatsu-lab/stanford_alpaca), for models
// without a chat template.
std::string StanfordPrompt(const std::string& instruction, const std::string& input) {
  if (input.empty()) {
    return "Below is an instruction that describes a task. Write a response that appropriately "
           "completes the request.\n\n### Instruction:\n" +
           instruction + "\n\n### Response:";
  }
  return "Below is an instruction that describes a task, paired with an input that provides "
         "further context. Write a response that appropriately completes the request.\n\n### "
         "Instruction:\n" +
         instruction + "\n\n### Input:\n" + input + "\n\n### Response:";
}

ordered_json Turn(const std::string& role, const std::string& content) {
  ordered_json message;
  message["role"] = role;
  message["content"] = content;
  return message;
}

// A non-empty `system` column goes before the conversation.
void PrependSystem(const RowColumns& row, ordered_json* messages) {
  const std::string system = row.OptionalString("system");
  if (!system.empty()) messages->insert(messages->begin(), Turn("system", system));
}

// Alpaca's history: [[question, answer], ...] before the instruction.
void AppendHistory(const RowColumns& row, ordered_json* messages) {
  if (!row.Has("history")) return;
  const ordered_json& history = row.At("history");
  const auto is_exchange = [](const ordered_json& pair) {
    return pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_string();
  };
  if (!history.is_array() || !std::all_of(history.begin(), history.end(), is_exchange)) {
    throw row.Fail("history", "must be a list of [question, answer] pairs",
                   row.FixType("history", "lists of lists of two texts"));
  }
  for (const ordered_json& pair : history) {
    messages->push_back(Turn("user", pair[0].get<std::string>()));
    messages->push_back(Turn("assistant", pair[1].get<std::string>()));
  }
}

// LLaMA-Factory's user turn: what there is of the two, a line break between them.
std::string AlpacaTurn(const std::string& instruction, const std::string& input) {
  return instruction + (instruction.empty() || input.empty() ? "" : "\n") + input;
}

Passage AlpacaPrompt(const RowColumns& row, bool has_chat_template) {
  const std::string instruction = row.String("instruction");
  const std::string input = row.OptionalString("input");
  ordered_json messages = ordered_json::array();
  AppendHistory(row, &messages);
  if (!has_chat_template) {
    const char* column = !messages.empty() ? "history" : "system";
    if (!messages.empty() || !row.OptionalString("system").empty()) {
      throw row.Fail(column, "has no place in Alpaca's prompt, and the model has no chat template",
                     "Give the model folder a chat template, or empty the column.");
    }
    return StanfordPrompt(instruction, input);
  }
  messages.push_back(Turn("user", AlpacaTurn(instruction, input)));
  PrependSystem(row, &messages);
  return messages;
}

Passage AlpacaAnswer(const RowColumns& row, const std::string& column, bool has_chat_template) {
  std::string answer = row.String(column);
  if (!has_chat_template) return answer;
  return ordered_json::array({Turn("assistant", answer)});
}

// TRL's extract_prompt for text: what both begin with; a space before the point
// where they diverge belongs to the answers.
PreferenceRow ExtractFromText(const std::string& chosen, const std::string& rejected) {
  size_t length = CommonPrefix(chosen, rejected);
  // As TRL, keep an answer where one is the beginning of the other.
  if (length > 0 && length == std::min(chosen.size(), rejected.size())) {
    length = CharacterStart(chosen, length - 1);
  } else if (length > 0 && chosen[length - 1] == ' ') {
    --length;
  }
  return {chosen.substr(0, length), chosen.substr(length), rejected.substr(length)};
}

// The same for conversations, by whole messages.
PreferenceRow ExtractFromMessages(const RowColumns& row, const ordered_json& chosen,
                                  const ordered_json& rejected) {
  const size_t shorter = std::min(chosen.size(), rejected.size());
  size_t length = 0;
  while (length < shorter && chosen[length] == rejected[length]) ++length;
  if (length == shorter) --length;
  if (length == 0 && row.Has("prompt")) {
    throw row.Fail("prompt", "is text, and chosen and rejected are messages without it",
                   "Give the prompt as messages: [{role: user, content: ...}].");
  }
  if (length == 0) {
    throw row.Fail("chosen", "shares no first message with rejected, and the row has no prompt",
                   "Add a prompt column, or begin both conversations with the same messages.");
  }
  const auto slice = [](const ordered_json& messages, size_t begin, size_t end) {
    return ordered_json(ordered_json::array_t(messages.begin() + begin, messages.begin() + end));
  };
  return {slice(chosen, 0, length), slice(chosen, length, chosen.size()),
          slice(rejected, length, rejected.size())};
}

// One that ends with somebody else's turn would be trained on that turn.
void RequireAnswer(const RowColumns& row, const std::string& column, const Passage& answer) {
  const auto* messages = std::get_if<ordered_json>(&answer);
  if (messages == nullptr || messages->empty()) return;
  const std::string role = messages->back().value("role", "");
  if (role != "user" && role != "system") return;
  throw row.Fail(column, "ends with a message of the role " + role + ", and is an answer",
                 "Correct the row; " + row.fields().roles + " says what roles of other names are.");
}

// Where both answers repeat the whole prompt before they go on, what they go on with.
void TakeOffPrompt(const ordered_json& prompt, ordered_json* chosen, ordered_json* rejected) {
  const auto repeats = [&](const ordered_json& answer) {
    return answer.size() > prompt.size() &&
           std::equal(prompt.begin(), prompt.end(), answer.begin());
  };
  if (!repeats(*chosen) || !repeats(*rejected)) return;
  for (ordered_json* answer : {chosen, rejected}) {
    answer->erase(answer->begin(), answer->begin() + static_cast<int64_t>(prompt.size()));
  }
}

// `prompts`: the file gives prompts.
PreferenceRow ReadPreference(const RowColumns& row, bool prompts) {
  Passage chosen = row.TextOrMessages("chosen");
  Passage rejected = row.TextOrMessages("rejected");
  const bool conversation = IsConversation(chosen);
  if (conversation != IsConversation(rejected)) {
    throw row.Fail("rejected", "chosen and rejected must both be strings or both be messages",
                   row.FixType("rejected", conversation ? kMessagesType : "text"));
  }
  const bool forgotten = prompts && !conversation && row.Contains("prompt");
  if (row.Has("prompt") || forgotten) {
    Passage prompt = row.TextOrMessages("prompt");
    if (IsConversation(prompt) == conversation) {
      if (conversation) {
        TakeOffPrompt(std::get<ordered_json>(prompt), &std::get<ordered_json>(chosen),
                      &std::get<ordered_json>(rejected));
      }
      return {std::move(prompt), std::move(chosen), std::move(rejected)};
    }
    if (!conversation) {
      throw row.Fail("chosen", "must be messages, as the prompt is",
                     row.FixType("chosen", kMessagesType));
    }
  }
  return conversation
             ? ExtractFromMessages(row, std::get<ordered_json>(chosen),
                                   std::get<ordered_json>(rejected))
             : ExtractFromText(std::get<std::string>(chosen), std::get<std::string>(rejected));
}

PreferenceRow WithAnswers(const RowColumns& row, PreferenceRow pair) {
  RequireAnswer(row, "chosen", pair.chosen);
  RequireAnswer(row, "rejected", pair.rejected);
  return pair;
}

PromptCompletionRow ReadPromptCompletion(const RowColumns& row) {
  PromptCompletionRow out{row.TextOrMessages("prompt"), row.TextOrMessages("completion")};
  if (IsConversation(out.prompt) != IsConversation(out.completion)) {
    throw row.Fail("completion", "prompt and completion must both be strings or both be messages",
                   row.FixType("completion", IsConversation(out.prompt) ? kMessagesType : "text"));
  }
  RequireAnswer(row, "completion", out.completion);
  return out;
}

ordered_json ReadConversations(const RowColumns& row) {
  ordered_json messages = row.Messages("conversations");
  PrependSystem(row, &messages);
  return messages;
}

// LLaMA-Factory's name for it in Alpaca and ShareGPT files is kto_tag.
std::string LabelColumn(const RowColumns& row) {
  const bool tag = row.Contains("kto_tag") && !row.Contains("label");
  return tag || row.Has("kto_tag") ? "kto_tag" : "label";
}

// Whether labelled rows are to be made of pairs: where no label judges an answer of the row's own.
bool AreUnpaired(const RowColumns& first, const ColumnNames& filled) {
  const bool judged = filled.contains(LabelColumn(first)) && HoldsAnswers(filled);
  return HoldsPairs(filled) && !judged;
}

// Where a format can only serve the other kind of method. `filled`: the file's columns.
void CheckKind(const RowColumns& row, const ColumnNames& filled, const RowReaderOptions& options) {
  if (options.kind == RowKind::kPair && !HoldsPairs(row.Columns())) {
    throw row.Fail(
        "chosen",
        "the method compares answers and the row has none to compare; it has: " + row.Names(),
        "Use a dataset with prompt, chosen and rejected (" + row.fields().columns +
            " tells other names), or train with sft.");
  }
  // ShareGPT pairs hold only the prompt in conversations: nothing to imitate.
  const bool only_pairs =
      options.format == liger::v1::DATASET_FORMAT_PREFERENCE ||
      (options.format == liger::v1::DATASET_FORMAT_SHAREGPT && HoldsPairs(filled));
  if (options.kind == RowKind::kSequence && only_pairs) {
    throw row.Fail("chosen", "sft cannot train on preference rows",
                   "Use dpo, orpo or cpo, or a dataset with prompt and completion.");
  }
  if (options.kind == RowKind::kLabelled && !row.Contains(LabelColumn(row))) {
    throw row.Fail("label", "kto needs a label in each row; it has: " + row.Names(),
                   "Give prompt, completion (or messages) and label: true or false; or prompt, "
                   "chosen and rejected, which are two such rows.");
  }
}

void CheckCompletionOnly(const RowColumns& row, const ColumnNames& filled,
                         const RowReaderOptions& options) {
  if (!options.completion_only_loss.value_or(false) || options.kind != RowKind::kSequence) {
    return;
  }
  const bool language_modelling =
      options.format == liger::v1::DATASET_FORMAT_TEXT ||
      options.format == liger::v1::DATASET_FORMAT_SHAREGPT ||
      (options.format == liger::v1::DATASET_FORMAT_MESSAGES && filled.contains("messages"));
  if (!language_modelling) return;
  throw row
      .Fail("", "completion_only_loss is set, and the row has no prompt and completion",
            "Give prompt and completion columns, or leave sft.completion_only_loss out.")
      .Field("sft.completion_only_loss");
}

Row ReadPair(const RowColumns& row, const ColumnNames& filled, const RowReaderOptions& options) {
  switch (options.format) {
    case liger::v1::DATASET_FORMAT_TOKENIZED:
      return {ReadTokenPair(row, options.vocab_size)};
    case liger::v1::DATASET_FORMAT_ALPACA:
      return {PreferenceRow{AlpacaPrompt(row, options.has_chat_template),
                            AlpacaAnswer(row, "chosen", options.has_chat_template),
                            AlpacaAnswer(row, "rejected", options.has_chat_template)}};
    case liger::v1::DATASET_FORMAT_SHAREGPT:
      return {WithAnswers(
          row, {ReadConversations(row), row.Messages("chosen"), row.Messages("rejected")})};
    default:
      return {WithAnswers(row, ReadPreference(row, filled.contains("prompt")))};
  }
}

Row ReadSequence(const RowColumns& row, const ColumnNames& filled,
                 const RowReaderOptions& options) {
  switch (options.format) {
    case liger::v1::DATASET_FORMAT_TOKENIZED:
      return {ReadTokens(row, filled, options)};
    case liger::v1::DATASET_FORMAT_ALPACA:
      return {PromptCompletionRow{AlpacaPrompt(row, options.has_chat_template),
                                  AlpacaAnswer(row, "output", options.has_chat_template)}};
    case liger::v1::DATASET_FORMAT_SHAREGPT:
      return {TextRow{ReadConversations(row)}};
    case liger::v1::DATASET_FORMAT_TEXT:
      return {TextRow{row.String("text")}};
    case liger::v1::DATASET_FORMAT_MESSAGES:
      if (row.Has("messages") || !row.Contains("prompt")) {
        return {TextRow{row.Messages("messages")}};
      }
      return {ReadPromptCompletion(row)};
    default:
      return {ReadPromptCompletion(row)};
  }
}

// A conversation's prompt and its answer, the last message.
PromptCompletionRow SplitAnswer(const RowColumns& row, const std::string& column,
                                const ordered_json& messages) {
  if (messages.size() < 2 || messages.back().value("role", "") != "assistant") {
    throw row.Fail(column, "does not end with an assistant's answer to a message before it",
                   "kto judges that answer; complete or remove the row.");
  }
  return {ordered_json(ordered_json::array_t(messages.begin(), messages.end() - 1)),
          ordered_json::array({messages.back()})};
}

// The same rows as SFT's, each with its label.
Row ReadLabelled(const RowColumns& row, const ColumnNames& filled,
                 const RowReaderOptions& options) {
  Row out = ReadSequence(row, filled, options);
  if (auto* text = std::get_if<TextRow>(&out.content)) {
    const char* column =
        options.format == liger::v1::DATASET_FORMAT_SHAREGPT ? "conversations" : "messages";
    if (!IsConversation(text->text)) {
      throw row.Fail("text", "has no prompt and no answer to judge",
                     "Give prompt and completion, or messages.");
    }
    out.content = SplitAnswer(row, column, std::get<ordered_json>(text->text));
  }
  out.desirable = row.Bool(LabelColumn(row));
  return out;
}

}  // namespace

RowReader::RowReader(const RowFile& rows, const RowReaderOptions& options)
    : rows_(rows), options_(options) {
  if (options_.names.or_standard) {
    standard_columns_ = TakeStandard(rows.Parse(0), &options_.names);
  }
  const RowColumns first(rows, 0, options_.names);
  if (!first.HasMappedColumns()) CheckOnlyRow(first, options_.kind);
  first.RequireMappedColumns();
  filled_ = FilledColumns(rows, first, options_.names);
  if (options_.kind == RowKind::kLabelled && AreUnpaired(first, filled_)) {
    options_.kind = RowKind::kPair;
  }
  // Where a pair is missing, that is told instead: no format would do.
  if (options_.format == liger::v1::DATASET_FORMAT_AUTO) {
    options_.format = DetectFormat(first, filled_, options_.kind);
  } else if (options_.kind != RowKind::kPair || HoldsPairs(first.Columns())) {
    CheckNamedFormat(options_.format, first, filled_, options_.kind);
  }
  // ReadPair reads them so, whichever of these the job names.
  if (options_.kind == RowKind::kPair &&
      (options_.format == liger::v1::DATASET_FORMAT_PROMPT_COMPLETION ||
       options_.format == liger::v1::DATASET_FORMAT_MESSAGES ||
       options_.format == liger::v1::DATASET_FORMAT_TEXT)) {
    options_.format = liger::v1::DATASET_FORMAT_PREFERENCE;
  }
  CheckKind(first, filled_, options_);
  CheckCompletionOnly(first, filled_, options_);
}

Row RowReader::Read(int64_t index) const {
  const RowColumns columns(rows_, index, options_.names);
  columns.RequireTextAlone();
  RequireNamesOfFirst(rows_, index, columns, standard_columns_, options_.format, options_.kind);
  Row row = options_.kind == RowKind::kPair       ? ReadPair(columns, filled_, options_)
            : options_.kind == RowKind::kLabelled ? ReadLabelled(columns, filled_, options_)
                                                  : ReadSequence(columns, filled_, options_);
  // LLaMA-Factory's formats.
  const bool wrap_tools = options_.format == liger::v1::DATASET_FORMAT_SHAREGPT ||
                          options_.format == liger::v1::DATASET_FORMAT_ALPACA;
  row.template_variables = columns.TemplateVariables(wrap_tools);
  if (options_.joins_parts) JoinContentParts(&row);
  return row;
}

}  // namespace liger::trainer
