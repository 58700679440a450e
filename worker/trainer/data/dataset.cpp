#include "worker/trainer/data/dataset.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <memory>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/data_files.h"
#include "common/plural.h"
#include "worker/trainer/data/epoch_order.h"
#include "worker/trainer/data/random.h"
#include "worker/trainer/data/row_warnings.h"
#include "worker/trainer/data/source_loader.h"
#include "worker/trainer/error.h"
#include "worker/trainer/text/chat_template.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {
namespace {

using liger::v1::DatasetSpec;

// Keeps the draw of the evaluation rows apart from the epochs' shuffles.
constexpr uint64_t kEvalStream = ~uint64_t{0};

std::string LocalPath(const std::string& uri) {
  constexpr char kScheme[] = "file://";
  return uri.starts_with(kScheme) ? uri.substr(sizeof(kScheme) - 1) : uri;
}

std::vector<std::string> FilesOf(const std::string& path, const std::string& field,
                                 SplitUse use = SplitUse::kTraining) {
  const absl::StatusOr<SplitFiles> files = MatchSplitFiles(path, use);
  if (files.ok()) return files->files;
  throw DataError("cannot read " + path + ": " + std::string(files.status().message()),
                  "Check dataset." + field + ", and that the worker may read the file.")
      .File(path);
}

// One of the job's sources: its rows, how many to use, and its share.
struct Source {
  SourceSpec spec;
  int64_t max_samples = 0;
  double weight = 0;  // 0: every row once
};

// The names that apply to all files but where a source has its own.
SourceSpec BaseSource(const DatasetSpec& spec) {
  return {.format = spec.format(),
          .names = {{spec.columns().begin(), spec.columns().end()},
                    {spec.roles().begin(), spec.roles().end()}}};
}

SourceSpec EvalSource(const DatasetSpec& spec, const LoadOptions& options) {
  SourceSpec source = BaseSource(spec);
  source.names.or_standard = true;
  source.files = options.eval_files;
  source.name = source.files.size() == 1 ? source.files[0] : LocalPath(spec.eval_uri());
  if (source.files.empty()) source.files = FilesOf(source.name, "eval_uri", SplitUse::kEvaluation);
  return source;
}

// The fields that are to blame for how source `i` is read: its own, but where it takes what the
// dataset has.
RowFields FieldsOf(const DatasetSpec& spec, int i) {
  const liger::v1::DatasetSource& source = spec.sources(i);
  const std::string own = absl::StrCat("dataset.sources[", i, "].");
  RowFields fields;
  const bool takes_format = source.format() == liger::v1::DATASET_FORMAT_AUTO;
  if (!takes_format || spec.format() == liger::v1::DATASET_FORMAT_AUTO) {
    fields.format = own + "format";
  }
  if (!source.columns().empty() || spec.columns().empty()) fields.columns = own + "columns";
  if (!source.roles().empty() || spec.roles().empty()) fields.roles = own + "roles";
  return fields;
}

std::vector<Source> TrainSources(const DatasetSpec& spec, const LoadOptions& options) {
  std::vector<Source> sources;
  for (const auto& given : spec.sources()) {
    Source& source = sources.emplace_back();
    source.spec = BaseSource(spec);
    source.spec.name = LocalPath(given.uri());
    if (given.format() != liger::v1::DATASET_FORMAT_AUTO) source.spec.format = given.format();
    RowNames& names = source.spec.names;
    if (given.columns_size() > 0) names.columns = {given.columns().begin(), given.columns().end()};
    if (given.roles_size() > 0) names.roles = {given.roles().begin(), given.roles().end()};
    names.fields = FieldsOf(spec, static_cast<int>(sources.size()) - 1);
    source.max_samples = given.max_samples();
    source.weight = given.weight();
  }
  if (sources.empty()) {
    const std::string path = LocalPath(spec.uri().empty() ? spec.name() : spec.uri());
    sources.push_back({.spec = BaseSource(spec), .max_samples = spec.max_samples()});
    sources.back().spec.name = path;
  }
  for (size_t i = 0; i < sources.size(); ++i) {
    SourceSpec& source = sources[i].spec;
    if (i < options.train_files.size()) source.files = options.train_files[i];
    if (source.files.empty()) {
      source.files = FilesOf(
          source.name, spec.sources().empty() ? "uri" : "sources[" + std::to_string(i) + "].uri");
    }
    if (source.files.size() == 1) source.name = source.files[0];
  }
  return sources;
}

// Of `n` at most `most`; 0: all.
int64_t MostOf(int64_t n, int64_t most) { return most > 0 ? std::min(n, most) : n; }

std::vector<int64_t> FirstRows(int64_t n, int64_t most) {
  std::vector<int64_t> rows(MostOf(n, most));
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
    throw DataError(absl::StrCat("dataset.eval_fraction: ", spec.eval_fraction(),
                                 " leaves none of ", Plural(n, "row"), " to train on"),
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

// KTO learns from the difference between wanted and unwanted answers. Where a CHECK read but the
// first rows, a warning: the others may be otherwise.
void RequireBothLabels(const ExampleSet& set, const std::string& path, Dataset* dataset) {
  const auto& labels = set.desirable;
  const bool all_same = std::adjacent_find(labels.begin(), labels.end(),
                                           std::not_equal_to<uint8_t>()) == labels.end();
  if (set.kind != RowKind::kLabelled || !all_same) return;
  constexpr char kRemedy[] = "kto needs rows of both labels; use sft for wanted answers alone.";
  const std::string n = std::to_string(labels.size());
  const std::string label = labels.front() ? "true" : "false";
  if (dataset->unread_rows > 0) {
    dataset->warnings.push_back(path + ": all of the first " + n + " rows have label: " + label +
                                "; " + kRemedy);
    return;
  }
  throw DataError(path +
                      (labels.size() == 1 ? ": the one row left to train on has"
                                          : ": all " + n + " rows left to train on have") +
                      " label: " + label,
                  kRemedy)
      .File(path);
}

void Add(const DataStats& more, DataStats* stats) {
  for (const auto field : {&DataStats::rows,
                           &DataStats::dropped_rows,
                           &DataStats::dropped_cut,
                           &DataStats::truncated_rows,
                           &DataStats::tokens,
                           &DataStats::target_tokens,
                           &DataStats::boundary_merges,
                           &DataStats::pairs,
                           &DataStats::equal_pairs,
                           &DataStats::empty_answers,
                           &DataStats::empty_prompts,
                           &DataStats::no_assistant,
                           &DataStats::lost_tools,
                           &DataStats::lost_tool_turns,
                           &DataStats::lost_developer_turns,
                           &DataStats::lost_reasoning,
                           &DataStats::cut_prompts,
                           &DataStats::lost_prompts,
                           &DataStats::packs,
                           &DataStats::dropped_packs,
                           &DataStats::without_response_template,
                           &DataStats::response_template_cut,
                           &DataStats::response_template_retokenized}) {
    stats->*field += more.*field;
  }
  stats->digest = static_cast<int64_t>(AddToDigest(stats->digest, more.digest));
  stats->row_lengths.insert(stats->row_lengths.end(), more.row_lengths.begin(),
                            more.row_lengths.end());
  if (stats->first_dropped.empty()) stats->first_dropped = more.first_dropped;
}

// Appends the rows of another source.
void Append(Split split, Split* all) {
  Add(split.stats, &all->stats);
  ExampleSet& set = all->examples;
  if (split.examples.packed()) {
    if (!set.packed()) set.pack_begins = {0};
    const int64_t offset = std::ssize(set.sequences);
    const auto& begins = split.examples.pack_begins;
    for (size_t i = 1; i < begins.size(); ++i) set.pack_begins.push_back(begins[i] + offset);
  }
  set.kind = split.examples.kind;
  set.max_length = split.examples.max_length;
  set.keep_end = split.examples.keep_end;
  std::move(split.examples.sequences.begin(), split.examples.sequences.end(),
            std::back_inserter(set.sequences));
  set.desirable.insert(set.desirable.end(), split.examples.desirable.begin(),
                       split.examples.desirable.end());
  std::move(split.examples.cut_answers.begin(), split.examples.cut_answers.end(),
            std::back_inserter(set.cut_answers));
}

// Whether the template puts anything behind an answer: what the model learns to end with.
bool EndsTurns(const ChatTemplate& chat_template) {
  constexpr char kAnswer[] = "LIGER_ANSWER";
  try {
    const std::string text = chat_template.Render(
        {{{"role", "user"}, {"content", "Q"}}, {{"role", "assistant"}, {"content", kAnswer}}},
        /*add_generation_prompt=*/false, nlohmann::ordered_json::object());
    const size_t at = text.find(kAnswer);
    return at == std::string::npos ||
           text.find_first_not_of(" \t\r\n", at + sizeof(kAnswer) - 1) != std::string::npos;
  } catch (const TrainerError&) {
    return true;  // it wants other conversations than this one
  }
}

// Of models that would never learn to stop.
void WarnOfNoEnd(const Tokenizer& tokenizer, const ChatTemplate* chat_template, Dataset* dataset) {
  const bool all_tokenised = std::ranges::all_of(dataset->formats, [](const auto& formats) {
    return formats == std::vector{liger::v1::DATASET_FORMAT_TOKENIZED};
  });
  if (all_tokenised || tokenizer.eos_id()) return;
  if (chat_template != nullptr && EndsTurns(*chat_template)) return;
  dataset->warnings.push_back(
      std::string("the tokenizer names no eos_token, and ") +
      (chat_template == nullptr ? "there is no chat template" : "the chat template ends no turn") +
      ": nothing follows the answers, so the model does not learn where to stop; name the "
      "eos_token in the model's tokenizer_config.json");
}

// All of the job's training files.
class TrainFiles {
 public:
  TrainFiles(const DatasetSpec& spec, const LoadOptions& options, const Tokenizer& tokenizer,
             const ChatTemplate* chat_template)
      : sources_(TrainSources(spec, options)), rows_(sources_.size()) {
    for (size_t i = 0; i < sources_.size(); ++i) {
      loaders_.push_back(std::make_unique<SourceLoader>(sources_[i].spec, options, spec.strict(),
                                                        tokenizer, chat_template));
      rows_[i] = FirstRows(loaders_[i]->num_rows(), sources_[i].max_samples);
    }
  }

  std::vector<std::vector<liger::v1::DatasetFormat>> Formats() const {
    std::vector<std::vector<liger::v1::DatasetFormat>> formats;
    for (const auto& loader : loaders_) formats.push_back(loader->Formats());
    return formats;
  }
  void WarnOfColumns(std::vector<std::string>* warnings) const {
    for (const auto& loader : loaders_) loader->WarnOfColumns(warnings);
  }
  // About how many rows a job takes of them.
  int64_t AboutInAll() const {
    int64_t rows = 0;
    for (size_t i = 0; i < loaders_.size(); ++i) {
      rows += MostOf(loaders_[i]->AboutInAll(), sources_[i].max_samples);
    }
    return rows;
  }
  std::string name() const {
    return loaders_.size() == 1 ? loaders_.front()->name() : "the sources together";
  }

  // Moves the evaluation share out of the rows and loads it.
  Split LoadEvalRows(const DatasetSpec& spec, uint64_t seed, std::vector<std::string>* warnings) {
    std::vector<int64_t> all;  // numbered through all sources
    std::vector<int64_t> begins = {0};
    for (const auto& loader : loaders_) begins.push_back(begins.back() + loader->num_rows());
    for (size_t i = 0; i < rows_.size(); ++i) {
      for (const int64_t row : rows_[i]) all.push_back(begins[i] + row);
      rows_[i].clear();
    }
    const auto by_source = [&](const std::vector<int64_t>& numbers, auto* rows) {
      for (const int64_t number : numbers) {
        const auto next = std::upper_bound(begins.begin(), begins.end(), number);
        const size_t source = next - begins.begin() - 1;
        (*rows)[source].push_back(number - begins[source]);
      }
    };
    std::vector<std::vector<int64_t>> eval(sources_.size());
    by_source(TakeEvalRows(spec, seed, &all), &eval);
    by_source(all, &rows_);
    Split split;
    for (size_t i = 0; i < loaders_.size(); ++i) {
      if (!eval[i].empty()) Append(loaders_[i]->Load("evaluation", eval[i], warnings), &split);
    }
    return split;
  }

  Split LoadRows(std::vector<std::string>* warnings) const {
    Split all;
    std::vector<int64_t> begins = {0};
    for (size_t i = 0; i < loaders_.size(); ++i) {
      Split split = loaders_[i]->Load("training", rows_[i], warnings);
      const bool is_share = sources_[i].weight > 0 || loaders_.size() == 1;
      if (split.examples.num_rows() == 0 && is_share) throw loaders_[i]->AllDropped(split.stats);
      Append(std::move(split), &all);
      begins.push_back(all.examples.num_rows());
    }
    if (all.examples.num_rows() == 0) throw loaders_.front()->AllDropped(all.stats);
    if (sources_.front().weight > 0) all.examples.mix = Mix(begins);
    return all;
  }

 private:
  std::vector<MixPart> Mix(const std::vector<int64_t>& begins) const {
    std::vector<int64_t> sizes;
    std::vector<double> weights;
    for (size_t i = 0; i < sources_.size(); ++i) {
      sizes.push_back(begins[i + 1] - begins[i]);
      weights.push_back(sources_[i].weight);
    }
    const std::vector<int64_t> shares = MixShares(sizes, weights);
    std::vector<MixPart> mix;
    for (size_t i = 0; i < sizes.size(); ++i) {
      mix.push_back({begins[i], begins[i + 1], shares[i]});
    }
    return mix;
  }

  const std::vector<Source> sources_;
  std::vector<std::vector<int64_t>> rows_;  // to train on, of each source
  std::vector<std::unique_ptr<const SourceLoader>> loaders_;
};

}  // namespace

Dataset LoadDataset(const DatasetSpec& spec, const LoadOptions& options, const Tokenizer& tokenizer,
                    const ChatTemplate* chat_template) {
  TrainFiles train(spec, options, tokenizer, chat_template);
  Dataset dataset;
  dataset.formats = train.Formats();
  WarnOfNoEnd(tokenizer, chat_template, &dataset);
  train.WarnOfColumns(&dataset.warnings);
  Split eval;
  if (!options.eval_files.empty() || !spec.eval_uri().empty()) {
    const SourceSpec source = EvalSource(spec, options);
    const SourceLoader loader(source, options, spec.strict(), tokenizer, chat_template);
    loader.WarnOfColumns(&dataset.warnings);
    if (!dataset.formats.empty()) {
      AddEvalFormatWarning(loader.Formats(), dataset.formats[0], options, &dataset.warnings);
    }
    eval = loader.Load("evaluation", FirstRows(loader.num_rows(), spec.max_eval_samples()),
                       &dataset.warnings);
    dataset.unread_eval_rows =
        MostOf(loader.AboutInAll(), spec.max_eval_samples()) - eval.stats.file_rows();
  } else if (spec.eval_fraction() > 0) {
    eval = train.LoadEvalRows(spec, options.data_seed, &dataset.warnings);
    dataset.unread_rows = -eval.stats.file_rows();
  }
  if (eval.stats.rows > 0 && eval.examples.sequences.empty()) {
    dataset.warnings.push_back("no evaluation rows are left, so the job reports no eval_loss");
  }
  Split training = train.LoadRows(&dataset.warnings);
  dataset.unread_rows += train.AboutInAll() - training.stats.file_rows();
  RequireBothLabels(training.examples, train.name(), &dataset);

  dataset.train = std::move(training.examples);
  dataset.train_stats = std::move(training.stats);
  dataset.eval = std::move(eval.examples);
  dataset.eval.kind = dataset.train.kind;
  dataset.eval_stats = std::move(eval.stats);
  const bool reads_clock =
      chat_template != nullptr && chat_template->clock_use() != ClockUse::kNone;
  if (reads_clock) dataset.train_stats.digest = dataset.eval_stats.digest = 0;
  return dataset;
}

}  // namespace liger::trainer
