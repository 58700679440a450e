#include "worker/trainer/data/token_rows.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace liger::trainer {
namespace {

using nlohmann::ordered_json;

constexpr char kAttentionMask[] = "attention_mask";

void RequireLength(const RowColumns& row, const std::string& column, size_t length,
                   const Example& example) {
  if (length == example.input_ids.size()) return;
  throw row.Fail(column,
                 "is of length " + std::to_string(length) + ", and input_ids of length " +
                     std::to_string(example.input_ids.size()),
                 "Both must be of one length.");
}

void ReadLabels(const RowColumns& row, int64_t vocab_size, Example* example) {
  example->labels = row.TokenIds("labels", kIgnoredLabel, vocab_size);
  for (size_t t = 0; t < example->labels.size(); ++t) {
    if (example->labels[t] < 0 && example->labels[t] != kIgnoredLabel) {
      throw row.Fail(
          "labels[" + std::to_string(t) + "]",
          "is " + std::to_string(example->labels[t]) + ", neither a token id nor -100 (ignored)",
          "Correct the row.");
    }
  }
  RequireLength(row, "labels", example->labels.size(), *example);
}

// One bit a token.
std::vector<bool> ReadMask(const RowColumns& row, const std::string& column,
                           const Example& example) {
  const ordered_json& mask = row.At(column);
  RequireLength(row, column, mask.is_array() ? mask.size() : 0, example);
  std::vector<bool> bits;
  for (const ordered_json& bit : mask) {
    if (bit != 0 && bit != 1 && !bit.is_boolean()) {
      throw row.Fail(column + "[" + std::to_string(bits.size()) + "]",
                     "is " + bit.dump() + ", not 0 or 1", "Correct the row.");
    }
    bits.push_back(bit == 1 || bit == true);
  }
  return bits;
}

// Takes the labels away where the mask is 0.
void Mask(const RowColumns& row, const std::string& column, Example* example) {
  const std::vector<bool> mask = ReadMask(row, column, *example);
  for (size_t t = 0; t < mask.size(); ++t) {
    if (!mask[t]) example->labels[t] = kIgnoredLabel;
  }
}

// Takes the tokens at both ends away where the attention mask is 0, and their labels.
void TakeOffPadding(const RowColumns& row, Example* example) {
  const std::vector<bool> mask = ReadMask(row, kAttentionMask, *example);
  const auto first = std::find(mask.begin(), mask.end(), true);
  const auto last = std::find(first, mask.end(), false);
  if (std::find(last, mask.end(), true) != mask.end()) {
    throw row.Fail(std::string(kAttentionMask) + "[" + std::to_string(last - mask.begin()) + "]",
                   "is 0 between tokens whose mask is 1, which no padding is",
                   "Every token of a sequence is attended to: remove the column, or the token.");
  }
  for (TokenIds* ids : {&example->input_ids, &example->labels}) {
    *ids = ids->Slice(first - mask.begin(), last - mask.begin());
  }
}

// Prompt and answer as one sequence, with the prompt's labels ignored.
Example Joined(const std::vector<int32_t>& prompt, const std::vector<int32_t>& answer) {
  Example example{prompt, std::vector<int32_t>(prompt.size(), kIgnoredLabel)};
  for (TokenIds* ids : {&example.input_ids, &example.labels}) {
    ids->vector().insert(ids->vector().end(), answer.begin(), answer.end());
  }
  return example;
}

}  // namespace

Example ReadTokens(const RowColumns& row, const ColumnNames& filled,
                   const RowReaderOptions& options) {
  const auto given = [&](const char* column) { return row.Has(column) || filled.contains(column); };
  Example example;
  example.input_ids = row.TokenIds("input_ids", 0, options.vocab_size);
  const bool of_completion =
      given("completion_mask") && options.completion_only_loss.value_or(true);
  if (given("labels")) {
    ReadLabels(row, options.vocab_size, &example);
  } else if (options.completion_only_loss.value_or(false) && !of_completion) {
    throw row.Fail("labels", "completion_only_loss needs this column in tokenised rows",
                   "Give labels, with -100 on the prompt, or completion_mask, or leave "
                   "completion_only_loss out.");
  } else if (options.kind == RowKind::kLabelled && !of_completion && !given("assistant_masks")) {
    throw row.Fail("labels", "kto needs this column in tokenised rows",
                   "Give labels, with -100 on the prompt, or completion_mask.");
  } else {
    example.labels = example.input_ids;
    if (of_completion) Mask(row, "completion_mask", &example);
    if (given("assistant_masks")) Mask(row, "assistant_masks", &example);
  }
  if (row.Has(kAttentionMask)) TakeOffPadding(row, &example);
  if (options.kind == RowKind::kLabelled && !example.labels.empty() &&
      example.labels.front() != kIgnoredLabel) {
    throw row.Fail("labels[0]", "is a target, so the row has no prompt",
                   "kto compares answers to prompts: give the prompt's tokens the label -100.");
  }
  return example;
}

PairExample ReadTokenPair(const RowColumns& row, int64_t vocab_size) {
  const auto prompt = row.TokenIds("prompt_ids", 0, vocab_size);
  return {Joined(prompt, row.TokenIds("chosen_ids", 0, vocab_size)),
          Joined(prompt, row.TokenIds("rejected_ids", 0, vocab_size))};
}

}  // namespace liger::trainer
