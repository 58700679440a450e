#include "worker/trainer/data/dataset.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <utility>

#include "worker/trainer/data/parallel_rows.h"
#include "worker/trainer/data/random.h"
#include "worker/trainer/data/row_file.h"
#include "worker/trainer/data/row_reader.h"
#include "worker/trainer/data/tokenize_row.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

using liger::v1::DatasetSpec;
using liger::v1::JobSpec;

// Dropped rows that a message names.
constexpr size_t kNamedRows = 5;
constexpr char kKeepRows[] =
    "Raise training.max_length, or shorten, complete or remove these rows.";
// Keeps the draw of the evaluation rows apart from the epochs' shuffles.
constexpr uint64_t kEvalStream = ~uint64_t{0};

struct Split {
  ExampleSet examples;
  DataStats stats;
};

std::string LocalPath(const std::string& given, const std::string& uri) {
  const std::string& path = given.empty() ? uri : given;
  constexpr char kScheme[] = "file://";
  return path.starts_with(kScheme) ? path.substr(sizeof(kScheme) - 1) : path;
}

std::string RowList(const std::vector<int64_t>& rows, int64_t total) {
  std::string list;
  for (const int64_t row : rows) list += (list.empty() ? "" : ", ") + std::to_string(row);
  return total > static_cast<int64_t>(rows.size()) ? list + ", ..." : list;
}

std::string MaxLengthText(const LoadOptions& options) {
  return "training.max_length (" + std::to_string(options.max_length) + ")";
}

// Reads one file. `Load` may be called for several subsets of its rows.
class FileLoader {
 public:
  FileLoader(const std::string& path, const DatasetSpec& spec, const LoadOptions& options,
             const Tokenizer& tokenizer, const ChatTemplate* chat_template)
      : spec_(spec),
        options_(options),
        rows_(OpenRows(path, options.max_rows)),
        reader_(*rows_, ReaderOptions(spec, options, tokenizer, chat_template)),
        tokenizer_(tokenizer, chat_template,
                   {.method = options.method,
                    .completion_only_loss = options.completion_only_loss,
                    .max_length = options.max_length,
                    .keep_end = options.keep_end,
                    .sft = options.sft_loss}) {}

  int64_t num_rows() const { return rows_->size(); }
  liger::v1::DatasetFormat format() const { return reader_.format(); }

  // `name` is the split's, for messages. The split may end up empty.
  Split Load(const std::string& name, const std::vector<int64_t>& indices,
             std::vector<std::string>* warnings) const {
    std::vector<TokenizedRow> tokenized(indices.size());
    ForEachRow(static_cast<int64_t>(indices.size()), options_.num_threads,
               [&](int64_t i) { tokenized[i] = TokenizeRow(indices[i]); });
    Split split;
    split.examples.kind = Kind(options_.method);
    split.examples.max_length = options_.max_length;
    for (size_t i = 0; i < indices.size(); ++i) Append(indices[i], &tokenized[i], &split);
    Warn(name, split.stats, warnings);
    return split;
  }

  TrainerError AllDropped(const DataStats& stats) const {
    return DataError(rows_->path() + ": no rows are left: in all " + std::to_string(stats.rows) +
                         " " + Cause(),
                     kKeepRows)
        .File(rows_->path());
  }

  static RowKind Kind(JobSpec::MethodCase method) {
    if (method == JobSpec::kKto) return RowKind::kLabelled;
    return method == JobSpec::kSft ? RowKind::kSequence : RowKind::kPair;
  }

 private:
  static RowReaderOptions ReaderOptions(const DatasetSpec& spec, const LoadOptions& options,
                                        const Tokenizer& tokenizer,
                                        const ChatTemplate* chat_template) {
    return {
        .format = spec.format(),
        .kind = Kind(options.method),
        .completion_only_loss = options.completion_only_loss,
        .has_chat_template = chat_template != nullptr,
        .vocab_size = options.vocab_size > 0 ? options.vocab_size : int64_t{tokenizer.max_id()} + 1,
        .names = {{spec.columns().begin(), spec.columns().end()},
                  {spec.roles().begin(), spec.roles().end()}}};
  }

  TokenizedRow TokenizeRow(int64_t index) const {
    const Row row = reader_.Read(index);
    TokenizedRow tokenized;
    try {
      tokenized = tokenizer_.Tokenize(row);
    } catch (const TrainerError& e) {
      if (e.failure().row() != 0) throw;
      throw rows_->Fail(index, e.what(), e.failure().action());
    }
    if (tokenized.nothing_to_train && spec_.strict()) {
      throw rows_->Fail(index, "nothing is left to train on: " + Cause(),
                        "Raise training.max_length, shorten or complete the row, or set "
                        "dataset.strict: false to drop such rows.");
    }
    return tokenized;
  }

  void Append(int64_t index, TokenizedRow* row, Split* split) const {
    DataStats& stats = split->stats;
    ++stats.rows;
    stats.without_response_template += row->no_response_template;
    if (row->nothing_to_train) {
      ++stats.dropped_rows;
      if (stats.first_dropped.size() < kNamedRows) stats.first_dropped.push_back(index + 1);
      return;
    }
    if (split->examples.kind == RowKind::kLabelled) {
      split->examples.desirable.push_back(row->desirable);
    }
    stats.truncated_rows += row->truncated;
    stats.boundary_merges += row->boundary_merge;
    stats.equal_pairs +=
        row->sequences.size() == 2 && row->sequences[0].input_ids == row->sequences[1].input_ids;
    for (Example& sequence : row->sequences) {
      stats.tokens += static_cast<int64_t>(sequence.input_ids.size());
      stats.target_tokens += std::count_if(sequence.labels.begin() + 1, sequence.labels.end(),
                                           [](int32_t label) { return label != kIgnoredLabel; });
      split->examples.sequences.push_back(std::move(sequence));
    }
  }

  // Why rows are dropped.
  std::string Cause() const {
    const std::string& response = options_.sft_loss.response_template;
    return "the prompt fills " + MaxLengthText(options_) + ", or there is no answer" +
           (response.empty()
                ? ""
                : ", or sft.response_template '" + response + "' is not among the row's tokens");
  }

  void Warn(const std::string& split, const DataStats& stats,
            std::vector<std::string>* warnings) const {
    const std::string of_rows = " of " + std::to_string(stats.rows) + " " + split + " rows ";
    if (stats.dropped_rows > 0) {
      warnings->push_back(rows_->path() + ": " + std::to_string(stats.dropped_rows) + of_rows +
                          (stats.dropped_rows == 1 ? "was dropped (row " : "were dropped (rows ") +
                          RowList(stats.first_dropped, stats.dropped_rows) + "): " + Cause() +
                          ". " + kKeepRows);
    }
    if (stats.without_response_template > 0) {
      warnings->push_back(
          rows_->path() + ": in " + std::to_string(stats.without_response_template) + of_rows +
          "the tokens of sft.response_template '" + options_.sft_loss.response_template +
          "' are not; a text may be cut into other tokens inside a row than alone: "
          "try it with the line break before it, or without");
    }
    if (stats.equal_pairs > 0) {
      warnings->push_back(rows_->path() + ": in " + std::to_string(stats.equal_pairs) + of_rows +
                          "chosen and rejected are the same tokens, so they teach nothing; "
                          "remove them, or raise training.max_length if they differ further on");
    }
    if (stats.boundary_merges > 0) {
      warnings->push_back(rows_->path() + ": in " + std::to_string(stats.boundary_merges) +
                          of_rows +
                          "tokens merge across the end of the prompt, so the model trains on "
                          "another context than it answers in; end prompts on a token boundary");
    }
  }

  const DatasetSpec& spec_;
  const LoadOptions& options_;
  std::unique_ptr<const RowFile> rows_;
  RowReader reader_;
  RowTokenizer tokenizer_;
};

std::vector<int64_t> FirstRows(int64_t n, int64_t most) {
  std::vector<int64_t> rows(most > 0 ? std::min(n, most) : n);
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

// Moves eval_fraction of `rows` out, drawn by the seed, both in file order.
std::vector<int64_t> TakeEvalRows(const DatasetSpec& spec, uint64_t seed,
                                  std::vector<int64_t>* rows) {
  const int64_t n = static_cast<int64_t>(rows->size());
  int64_t take = static_cast<int64_t>(std::ceil(spec.eval_fraction() * static_cast<double>(n)));
  if (spec.max_eval_samples() > 0) take = std::min(take, spec.max_eval_samples());
  if (take >= n) {
    throw DataError("dataset.eval_fraction " + std::to_string(spec.eval_fraction()) +
                        " leaves none of the " + std::to_string(n) + " rows to train on",
                    "Lower dataset.eval_fraction, or use more rows.")
        .Field("dataset.eval_fraction");
  }
  std::vector<int64_t> order = *rows;
  CounterRandom random(seed, kEvalStream);
  for (int64_t i = 0; i < take; ++i) {
    std::swap(order[i], order[i + static_cast<int64_t>(random.Below(n - i))]);
  }
  std::vector<int64_t> eval(order.begin(), order.begin() + take);
  rows->assign(order.begin() + take, order.end());
  std::sort(eval.begin(), eval.end());
  std::sort(rows->begin(), rows->end());
  return eval;
}

// KTO learns from the difference between wanted and unwanted answers.
void RequireBothLabels(const ExampleSet& set, const std::string& path) {
  const auto& labels = set.desirable;
  const bool all_same = std::adjacent_find(labels.begin(), labels.end(),
                                           std::not_equal_to<uint8_t>()) == labels.end();
  if (set.kind != RowKind::kLabelled || !all_same) return;
  throw DataError(path + ": all " + std::to_string(labels.size()) + " rows left to train on have " +
                      "label: " + (labels.front() ? "true" : "false"),
                  "kto needs rows of both labels; use sft for wanted answers alone.")
      .File(path);
}

}  // namespace

Dataset LoadDataset(const DatasetSpec& spec, const LoadOptions& options, const Tokenizer& tokenizer,
                    const ChatTemplate* chat_template) {
  const std::string train_uri = spec.uri().empty() ? spec.name() : spec.uri();
  const FileLoader train(LocalPath(options.train_path, train_uri), spec, options, tokenizer,
                         chat_template);
  std::vector<int64_t> train_rows = FirstRows(train.num_rows(), spec.max_samples());

  Dataset dataset;
  dataset.format = train.format();
  Split eval;
  if (!options.eval_path.empty() || !spec.eval_uri().empty()) {
    const FileLoader file(LocalPath(options.eval_path, spec.eval_uri()), spec, options, tokenizer,
                          chat_template);
    eval = file.Load("evaluation", FirstRows(file.num_rows(), spec.max_eval_samples()),
                     &dataset.warnings);
  } else if (spec.eval_fraction() > 0) {
    eval = train.Load("evaluation", TakeEvalRows(spec, options.data_seed, &train_rows),
                      &dataset.warnings);
  }
  if (eval.stats.rows > 0 && eval.examples.sequences.empty()) {
    dataset.warnings.push_back("no evaluation rows are left, so the job reports no eval_loss");
  }
  Split training = train.Load("training", train_rows, &dataset.warnings);
  if (training.examples.sequences.empty()) throw train.AllDropped(training.stats);
  RequireBothLabels(training.examples, LocalPath(options.train_path, train_uri));

  dataset.train = std::move(training.examples);
  dataset.train_stats = std::move(training.stats);
  dataset.eval = std::move(eval.examples);
  dataset.eval.kind = dataset.train.kind;
  dataset.eval_stats = std::move(eval.stats);
  return dataset;
}

}  // namespace liger::trainer
