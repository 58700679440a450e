#include "worker/trainer/data/batch.h"

#include <ATen/ops/empty.h>

#include <algorithm>

namespace liger::trainer {
namespace {

// How far back in the set another prompt is looked for.
constexpr int64_t kRowsLookedAt = 1024;

// The sequences of `rows` in batch order: all first ones, then all second ones;
// those of a packed row one after the other.
std::vector<const Example*> InBatchOrder(const ExampleSet& set, std::span<const int64_t> rows) {
  std::vector<const Example*> sequences;
  if (set.packed()) {
    for (const int64_t row : rows) {
      const auto [begin, end] = set.SequencesOf(row);
      for (int64_t s = begin; s < end; ++s) sequences.push_back(&set.sequences.at(s));
    }
    return sequences;
  }
  sequences.reserve(rows.size() * set.sequences_per_row());
  for (int64_t side = 0; side < set.sequences_per_row(); ++side) {
    for (const int64_t row : rows) {
      sequences.push_back(&set.sequences.at(row * set.sequences_per_row() + side));
    }
  }
  return sequences;
}

Batch Concatenate(const std::vector<const Example*>& sequences, int64_t num_rows) {
  Batch batch;
  batch.num_rows = num_rows;
  for (const Example* s : sequences) batch.num_tokens += static_cast<int64_t>(s->input_ids.size());

  batch.input_ids_T = at::empty({batch.num_tokens}, at::kLong);
  batch.labels_T = at::empty({batch.num_tokens}, at::kLong);
  batch.positions_T = at::empty({batch.num_tokens}, at::kLong);
  batch.cu_seqlens_S1 = at::empty({static_cast<int64_t>(sequences.size()) + 1}, at::kInt);
  int64_t* ids = batch.input_ids_T.data_ptr<int64_t>();
  int64_t* labels = batch.labels_T.data_ptr<int64_t>();
  int64_t* positions = batch.positions_T.data_ptr<int64_t>();
  int32_t* cu_seqlens = batch.cu_seqlens_S1.data_ptr<int32_t>();

  int64_t start = 0;
  *cu_seqlens++ = 0;
  for (const Example* s : sequences) {
    const int64_t length = static_cast<int64_t>(s->input_ids.size());
    std::copy(s->input_ids.begin(), s->input_ids.end(), ids + start);
    std::copy(s->labels.begin(), s->labels.end(), labels + start);
    for (int64_t t = 0; t < length; ++t) {
      positions[start + t] = t;
      batch.num_target_tokens += t > 0 && s->labels[t] != kIgnoredLabel;
    }
    batch.max_seqlen = std::max(batch.max_seqlen, length);
    start += length;
    *cu_seqlens++ = static_cast<int32_t>(start);
  }
  return batch;
}

// Where the answer of a row with a masked prompt begins.
int64_t AnswerStart(const Example& example) {
  const auto first = std::find_if(example.labels.begin(), example.labels.end(),
                                  [](int32_t label) { return label != kIgnoredLabel; });
  return first - example.labels.begin();
}

// An answer, and what the cut took off it.
struct Answer {
  std::span<const int32_t> tokens, cut;
};

Answer AnswerOf(const ExampleSet& set, int64_t row) {
  const Example& example = set.sequences.at(row);
  Answer answer = {.tokens = std::span(example.input_ids).subspan(AnswerStart(example))};
  if (!set.cut_answers.empty()) answer.cut = std::span(set.cut_answers.at(row));
  return answer;
}

std::span<const int32_t> PromptOf(const ExampleSet& set, int64_t row) {
  const Example& example = set.sequences.at(row);
  return std::span(example.input_ids).first(AnswerStart(example));
}

bool HaveOnePrompt(const ExampleSet& set, int64_t a, int64_t b) {
  std::span<const int32_t> one = PromptOf(set, a), other = PromptOf(set, b);
  if (set.keep_end) {  // what is left of them
    const size_t length = std::min(one.size(), other.size());
    one = one.last(length);
    other = other.last(length);
  }
  return std::ranges::equal(one, other);
}

// The prompt of `own` before another row's answer, cut as the set's rows.
Example Mismatched(const ExampleSet& set, const Example& own, const Answer& answer) {
  const int64_t prompt = AnswerStart(own);
  Example example = {{own.input_ids.begin(), own.input_ids.begin() + prompt}, {}};
  std::vector<int32_t>& ids = example.input_ids.vector();
  ids.insert(ids.end(), answer.tokens.begin(), answer.tokens.end());
  ids.insert(ids.end(), answer.cut.begin(), answer.cut.end());
  example.labels = ids;
  std::fill_n(example.labels.begin(), prompt, kIgnoredLabel);
  const int64_t excess = set.max_length > 0 ? std::ssize(ids) - set.max_length : 0;
  if (excess <= 0) return example;
  for (std::vector<int32_t>* values : {&ids, &example.labels.vector()}) {
    const auto cut = set.keep_end ? values->begin() : values->end() - excess;
    values->erase(cut, cut + excess);
  }
  return example;
}

}  // namespace

std::vector<int64_t> MismatchedRows(const ExampleSet& set, std::span<const int64_t> rows) {
  const int64_t n = std::ssize(rows), all = set.num_rows();
  const auto before = [&](int64_t i, int64_t k) { return rows[(i + n - k) % n]; };
  int64_t best = 1, fewest = n + 1;
  for (int64_t k = 1; k < n && fewest > 0; ++k) {
    int64_t own = 0;
    for (int64_t i = 0; i < n && own < fewest; ++i) {
      own += HaveOnePrompt(set, rows[i], before(i, k));
    }
    if (own < fewest) best = k;
    fewest = std::min(own, fewest);
  }
  std::vector<int64_t> others;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t row = rows[i];
    const auto in_set = [&](int64_t k) { return (row + all - k) % all; };
    int64_t other = n > 1 ? before(i, best) : in_set(1);
    for (int64_t k = 1; k <= std::min(all - 1, kRowsLookedAt); ++k) {
      if (!HaveOnePrompt(set, row, other)) break;
      if (!HaveOnePrompt(set, row, in_set(k))) other = in_set(k);
    }
    others.push_back(other);
  }
  return others;
}

Batch MakeBatch(const ExampleSet& set, std::span<const int64_t> rows) {
  return MakeShare(set, rows, 0, std::ssize(rows));
}

Batch MakeShare(const ExampleSet& set, std::span<const int64_t> all_rows, int64_t begin,
                int64_t end) {
  const std::span<const int64_t> rows = all_rows.subspan(begin, end - begin);
  const std::vector<const Example*> sequences = InBatchOrder(set, rows);
  Batch batch = Concatenate(sequences, static_cast<int64_t>(rows.size()));
  if (set.kind == RowKind::kSequence) return batch;
  for (const int64_t row : rows) batch.answers.push_back({row, AnswerKey::kChosen});
  if (set.kind == RowKind::kPair) {
    for (const int64_t row : rows) batch.answers.push_back({row, AnswerKey::kRejected});
    return batch;
  }

  batch.desirable_R = at::empty({batch.num_rows}, at::kBool);
  bool* desirable = batch.desirable_R.data_ptr<bool>();
  for (const int64_t row : rows) *desirable++ = set.desirable.at(row) != 0;
  const std::vector<int64_t> others = MismatchedRows(set, all_rows);
  std::vector<Example> mismatched;
  for (int64_t i = begin; i < end; ++i) {
    mismatched.push_back(Mismatched(set, *sequences[i - begin], AnswerOf(set, others[i])));
    batch.answers.push_back({all_rows[i], others[i]});
  }
  std::vector<const Example*> pointers;
  for (const Example& example : mismatched) pointers.push_back(&example);
  batch.mismatched = std::make_shared<const Batch>(Concatenate(pointers, batch.num_rows));
  return batch;
}

}  // namespace liger::trainer
