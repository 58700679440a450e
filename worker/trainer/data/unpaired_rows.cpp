#include "worker/trainer/data/unpaired_rows.h"

#include <variant>

namespace liger::trainer {
namespace {

// datasets.Dataset.map's batch_size.
constexpr int64_t kRowsAtATime = 1000;

Row Labelled(const Row& pair, decltype(Row::content) content, bool desirable) {
  return {.content = std::move(content),
          .template_variables = pair.template_variables,
          .desirable = desirable};
}

}  // namespace

std::vector<Row> Unpaired(Row row) {
  std::vector<Row> rows;
  if (auto* texts = std::get_if<PreferenceRow>(&row.content)) {
    rows.push_back(Labelled(row, PromptCompletionRow{texts->prompt, texts->chosen}, true));
    rows.push_back(Labelled(row, PromptCompletionRow{texts->prompt, texts->rejected}, false));
  } else if (auto* tokens = std::get_if<PairExample>(&row.content)) {
    rows.push_back(Labelled(row, std::move(tokens->chosen), true));
    rows.push_back(Labelled(row, std::move(tokens->rejected), false));
  } else {
    rows.push_back(std::move(row));
  }
  return rows;
}

std::vector<std::pair<int64_t, TokenizedRow>> UnpairedOrder::Next(int64_t number,
                                                                  std::vector<TokenizedRow> of) {
  std::vector<std::pair<int64_t, TokenizedRow>> next;
  next.emplace_back(number, std::move(of.front()));
  if (of.size() == 2) rejected_.emplace_back(number, std::move(of.back()));
  if (++rows_ % kRowsAtATime == 0) {
    for (auto& row : Rest()) next.push_back(std::move(row));
  }
  return next;
}

std::vector<std::pair<int64_t, TokenizedRow>> UnpairedOrder::Rest() {
  return std::exchange(rejected_, {});
}

}  // namespace liger::trainer
