#include "worker/trainer/data/source_loader.h"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/file.h"
#include "worker/trainer/data/content_parts.h"
#include "worker/trainer/data/parallel_rows.h"
#include "worker/trainer/data/random.h"
#include "worker/trainer/data/row_warnings.h"
#include "worker/trainer/data/token_cache.h"
#include "worker/trainer/data/token_spill.h"
#include "worker/trainer/data/unpaired_rows.h"
#include "worker/trainer/data/unread_columns.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

// Rows that are tokenised before the threads wait for one another, and before a CHECK looks at
// the time.
constexpr int64_t kRowsAtATime = 8192, kRowsBetweenLooks = 512;
// Of a file of which a CHECK need not read all: more than it has the time for.
constexpr size_t kMostCheckedBytes = size_t{1} << 30;
// Dropped rows that a message names.
constexpr size_t kNamedRows = 5;

RowReaderOptions ReaderOptions(const SourceSpec& source, const LoadOptions& options,
                               const Tokenizer& tokenizer, const ChatTemplate* chat_template) {
  return {
      .format = source.format,
      .kind = SourceLoader::Kind(options.method),
      .completion_only_loss = options.completion_only_loss,
      .has_chat_template = chat_template != nullptr,
      .joins_parts = chat_template != nullptr && !ReadsContentParts(*chat_template),
      .vocab_size = options.vocab_size > 0 ? options.vocab_size : int64_t{tokenizer.max_id()} + 1,
      .names = source.names};
}

RowTokenizer::Options TokenizerOptions(const LoadOptions& options) {
  return {.method = options.method,
          .completion_only_loss = options.completion_only_loss,
          // Wrapped packs take rows whole and cut them themselves.
          .max_length = options.packing == PackingStrategy::kWrapped ? RowTokenizer::kNoLimit
                                                                     : options.max_length,
          .keep_end = options.keep_end,
          .sft = options.sft_loss};
}

// Everything that decides what becomes of a row, but for the row itself and the tokenizer. A new
// option of these structs belongs here.
std::string SettingsText(const RowReaderOptions& reader, const RowTokenizer::Options& tokenizer,
                         const LoadOptions& options, bool strict) {
  const nlohmann::json settings = {
      {"format", reader.format},
      {"kind", static_cast<int>(reader.kind)},
      {"has_chat_template", reader.has_chat_template},
      {"joins_parts", reader.joins_parts},
      {"vocab_size", reader.vocab_size},
      {"columns", reader.names.columns},
      {"roles", reader.names.roles},
      {"method", tokenizer.method},
      {"completion_only_loss",
       tokenizer.completion_only_loss ? *tokenizer.completion_only_loss + 1 : 0},
      {"max_length", options.max_length},
      {"keep_end", tokenizer.keep_end},
      {"assistant_only_loss", tokenizer.sft.assistant_only_loss},
      {"response_template", tokenizer.sft.response_template},
      {"instruction_template", tokenizer.sft.instruction_template},
      {"packing", static_cast<int>(options.packing)},
      {"strict", strict}};
  // Names need not be UTF-8.
  return settings.dump(-1, ' ', false, nlohmann::json::error_handler_t::ignore);
}

// Tokens of a sequence that something predicts and that are trained on.
int64_t CountTargets(const Example& sequence) {
  return std::count_if(sequence.labels.begin() + 1, sequence.labels.end(),
                       [](int32_t label) { return label != kIgnoredLabel; });
}

void CountDropped(const TokenizedRow& row, DataStats* stats) {
  using NoResponse = TokenizedRow::NoResponse;
  ++stats->dropped_rows;
  stats->dropped_cut += row.prompt_fills && row.no_response == NoResponse::kIsThere;
  stats->without_response_template += row.no_response != NoResponse::kIsThere;
  stats->response_template_cut += row.no_response == NoResponse::kCutOff;
  stats->response_template_retokenized += row.no_response == NoResponse::kOtherTokens;
}

// Whether what was made of a row are two answers of the same tokens, to be told apart.
bool AreEqualAnswers(const std::vector<TokenizedRow>& rows) {
  const std::vector<Example>& first = rows.front().sequences;
  const Example& second = rows.size() == 2 ? rows.back().sequences.front() : first.back();
  return rows.size() + first.size() == 3 && !rows.front().nothing_to_train &&
         !rows.back().nothing_to_train && first.front().input_ids == second.input_ids;
}

uint64_t DigestOf(const TokenizedRow& row) {
  uint64_t digest = AddToDigest(0, row.desirable);
  for (const Example& sequence : row.sequences) {
    digest = AddToDigest(digest, sequence.input_ids.size());
    for (size_t t = 0; t < sequence.input_ids.size(); ++t) {
      const auto id = static_cast<uint32_t>(sequence.input_ids[t]);
      const auto label = static_cast<uint32_t>(sequence.labels[t]);
      digest = AddToDigest(digest, uint64_t{id} << 32 | label);
    }
  }
  for (const int32_t id : row.cut_answer) digest = AddToDigest(digest, static_cast<uint32_t>(id));
  return digest;
}

}  // namespace

SourceLoader::SourceLoader(const SourceSpec& source, const LoadOptions& options, bool strict,
                           const Tokenizer& tokenizer, const ChatTemplate* chat_template)
    : name_(source.name),
      names_(source.names),
      options_(options),
      strict_(strict),
      has_chat_template_(chat_template != nullptr),
      tokenizer_(tokenizer, chat_template, TokenizerOptions(options)) {
  const RowReaderOptions reader_options = ReaderOptions(source, options, tokenizer, chat_template);
  if (options.cache != nullptr) {
    contents_.emplace(source.files);
    settings_ = SettingsText(reader_options, TokenizerOptions(options), options, strict);
  }
  for (const std::string& path : source.files) {
    const RowLimit limit(options.max_rows, options.read_until ? kMostCheckedBytes : 0);
    File file = {.rows = OpenRows(path, limit, options.scratch_dir), .begin = num_rows_};
    file.reader = std::make_unique<RowReader>(*file.rows, reader_options);
    num_rows_ += file.rows->size();
    files_.push_back(std::move(file));
  }
}

int64_t SourceLoader::AboutInAll() const {
  int64_t rows = 0;
  for (const File& file : files_) rows += file.rows->AboutInAll();
  return rows;
}

std::vector<liger::v1::DatasetFormat> SourceLoader::Formats() const {
  std::vector<liger::v1::DatasetFormat> formats;
  for (const File& file : files_) {
    const auto format = file.reader->format();
    if (std::ranges::find(formats, format) == formats.end()) formats.push_back(format);
  }
  return formats;
}

RowKind SourceLoader::Kind(liger::v1::JobSpec::MethodCase method) {
  if (method == liger::v1::JobSpec::kKto) return RowKind::kLabelled;
  return method == liger::v1::JobSpec::kSft ? RowKind::kSequence : RowKind::kPair;
}

Split SourceLoader::Load(const std::string& split_name, const std::vector<int64_t>& rows,
                         std::vector<std::string>* warnings) const {
  const auto make = [&] { return Tokenize(rows); };
  Split split = options_.cache == nullptr ? make()
                                          : options_.cache->Get(
                                                CacheKey(rows), split_name + " rows of " + name_,
                                                [this] { return contents_->Unchanged(); }, make);
  const std::vector<std::string> found = RowWarnings(name_, names_.fields, split_name, split.stats,
                                                     DroppedRows(split.stats), options_);
  warnings->insert(warnings->end(), found.begin(), found.end());
  return split;
}

void SourceLoader::WarnOfColumns(std::vector<std::string>* warnings) const {
  std::vector<std::string> unread, standard;
  std::vector<std::string> lacking;  // files whose columns have the format's own names
  const auto add = [](const std::string& column, std::vector<std::string>* columns) {
    if (std::ranges::find(*columns, column) == columns->end()) columns->push_back(column);
  };
  bool labels_alone = true;
  for (const File& file : files_) {
    for (const auto& column : UnreadColumns(*file.rows, *file.reader, has_chat_template_)) {
      add(column.text, &unread);
      labels_alone = labels_alone && column.is_label;
    }
    if (!file.reader->standard_columns().empty()) lacking.push_back(file.rows->path());
    for (const auto& [name, in_file] : file.reader->standard_columns()) {
      add(absl::StrCat(name, " (not ", in_file, ")"), &standard);
    }
  }
  if (!standard.empty()) {
    const size_t more = lacking.size() - 1;
    const bool all = lacking.size() == files_.size();
    warnings->push_back(absl::StrCat(
        all ? name_ : lacking.front(), !all && more > 0 ? absl::StrCat(" and ", more, " more") : "",
        !all && more > 0 ? ": lack" : ": lacks", " what ", names_.fields.columns,
        " names, so the format's own names are read: ", absl::StrJoin(standard, ", ")));
  }
  if (unread.empty()) return;
  warnings->push_back(
      absl::StrCat(name_, ": ", unread.size() == 1 ? "a column is" : "columns are",
                   " filled, but not read: ", absl::StrJoin(unread, ", "),
                   labels_alone ? ""
                                : "; if the model should see it, write it into a column that is "
                                  "read (or map the columns as said there); if not, remove it"));
}

std::string SourceLoader::CacheKey(const std::vector<int64_t>& rows) const {
  const std::string_view numbers(reinterpret_cast<const char*>(rows.data()),
                                 rows.size() * sizeof(rows[0]));
  return settings_ + "\n" + Sha256(numbers) + "\n" + contents_->Digests();
}

void SourceLoader::KeepFirstRows(int64_t begin, std::vector<int64_t>* rows) const {
  if (!options_.read_until || std::chrono::steady_clock::now() < *options_.read_until) return;
  const auto is_beyond = [this](int64_t row) {
    return row - FileOf(row).begin >= options_.max_rows;
  };
  rows->erase(std::remove_if(rows->begin() + begin, rows->end(), is_beyond), rows->end());
}

Split SourceLoader::Tokenize(std::vector<int64_t> rows) const {
  Split split;
  split.examples.kind = Kind(options_.method);
  split.examples.max_length = options_.max_length;
  split.examples.keep_end = options_.keep_end;
  TokenSpill spill(name_, options_.scratch_dir, options_.most_token_bytes);
  UnpairedOrder order;
  const auto append = [&](auto numbered) {
    for (auto& [row, tokenized] : numbered) Append(row, &tokenized, &split);
  };
  // A piece at a time, so that memory holds no more than a piece beside the bound.
  const int64_t at_a_time = options_.read_until ? kRowsBetweenLooks : kRowsAtATime;
  for (int64_t begin = 0; begin < std::ssize(rows); begin += at_a_time) {
    KeepFirstRows(begin, &rows);
    std::vector<std::vector<TokenizedRow>> tokenized(
        std::min(at_a_time, std::ssize(rows) - begin));
    ForEachRow(std::ssize(tokenized), options_.num_threads,
               [&](int64_t i) { tokenized[i] = TokenizeRow(rows[begin + i]); });
    for (int64_t i = 0; i < std::ssize(tokenized); ++i) {
      split.stats.pairs += tokenized[i].size() == 2;
      split.stats.equal_pairs += AreEqualAnswers(tokenized[i]);
      append(order.Next(rows[begin + i], std::move(tokenized[i])));
    }
    spill.Bound(&split.examples);
  }
  append(order.Rest());
  if (options_.packing != PackingStrategy::kNone) Pack(&split);
  return split;
}

TrainerError SourceLoader::AllDropped(const DataStats& stats) const {
  const DropCause cause = WhyDropped(stats, options_);
  return DataError(name_ + ": no rows are left of " + std::to_string(stats.rows) + ": " + cause.why,
                   cause.remedy)
      .File(name_);
}

const SourceLoader::File& SourceLoader::FileOf(int64_t row) const {
  const auto next = std::upper_bound(files_.begin(), files_.end(), row,
                                     [](int64_t r, const File& file) { return r < file.begin; });
  return *std::prev(next);
}

std::vector<TokenizedRow> SourceLoader::TokenizeRow(int64_t row) const {
  const File& file = FileOf(row);
  const int64_t index = row - file.begin;
  Row content = file.reader->Read(index);
  std::vector<TokenizedRow> tokenized;
  if (Kind(options_.method) != RowKind::kLabelled) {
    tokenized.push_back(TokenizeContent(content, file, index));
    return tokenized;
  }
  for (const Row& labelled : Unpaired(std::move(content))) {
    tokenized.push_back(TokenizeContent(labelled, file, index));
  }
  return tokenized;
}

TokenizedRow SourceLoader::TokenizeContent(const Row& content, const File& file,
                                           int64_t index) const {
  TokenizedRow tokenized;
  try {
    tokenized = tokenizer_.Tokenize(content);
  } catch (const TrainerError& e) {
    // About a field of the job, any row would have shown it.
    const bool of_job = e.failure().class_() == liger::v1::FAILURE_CLASS_CONFIG &&
                        !e.failure().field().empty();
    if (e.failure().row() != 0 || of_job) throw;
    throw file.rows->Fail(index, e.what(), e.failure().action()).Field(e.failure().field());
  }
  if (tokenized.nothing_to_train && strict_) {
    DataStats one;
    CountDropped(tokenized, &one);
    const DropCause cause = WhyDropped(one, options_);
    throw file.rows->Fail(index, "nothing is left to train on: " + cause.why,
                          cause.remedy + "; or drop such rows (dataset.strict: false)");
  }
  tokenized.digest = DigestOf(tokenized);
  return tokenized;
}

void SourceLoader::Append(int64_t row, TokenizedRow* tokenized, Split* split) const {
  DataStats& stats = split->stats;
  ++stats.rows;
  stats.row_lengths.push_back(static_cast<int32_t>(tokenized->full_length));
  if (tokenized->nothing_to_train) {
    CountDropped(*tokenized, &stats);
    auto& named = stats.first_dropped;
    const bool is_new = std::ranges::find(named, row + 1) == named.end();
    if (is_new && named.size() < kNamedRows) named.push_back(row + 1);
    return;
  }
  if (split->examples.kind == RowKind::kLabelled) {
    split->examples.desirable.push_back(tokenized->desirable);
    split->examples.cut_answers.push_back(std::move(tokenized->cut_answer));
  }
  stats.digest = static_cast<int64_t>(AddToDigest(stats.digest, tokenized->digest));
  stats.truncated_rows += tokenized->truncated;
  stats.boundary_merges += tokenized->boundary_merge;
  stats.empty_answers += tokenized->empty_answer;
  stats.empty_prompts += tokenized->empty_prompt;
  stats.no_assistant += tokenized->no_assistant;
  stats.lost_tools += tokenized->left_out.tools;
  stats.lost_tool_turns += tokenized->left_out.tool_turns;
  stats.lost_developer_turns += tokenized->left_out.developer_turns;
  stats.lost_reasoning += tokenized->left_out.reasoning;
  stats.cut_prompts += tokenized->prompt_cut != TokenizedRow::PromptCut::kLess;
  stats.lost_prompts += tokenized->prompt_cut == TokenizedRow::PromptCut::kAll;
  for (Example& sequence : tokenized->sequences) {
    stats.tokens += std::ssize(sequence.input_ids);
    stats.target_tokens += CountTargets(sequence);
    split->examples.sequences.push_back(std::move(sequence));
  }
}

void SourceLoader::Pack(Split* split) const {
  DataStats& stats = split->stats;
  stats.dropped_packs = PackRows(options_.packing, options_.max_length, &split->examples);
  stats.packs = split->examples.num_rows();
  // Cuts make first tokens, which nothing predicts.
  stats.tokens = stats.target_tokens = 0;
  for (const Example& sequence : split->examples.sequences) {
    stats.tokens += std::ssize(sequence.input_ids);
    stats.target_tokens += CountTargets(sequence);
  }
}

std::string SourceLoader::DroppedRows(const DataStats& stats) const {
  std::string list;
  for (const int64_t row : stats.first_dropped) {
    const File& file = FileOf(row - 1);
    if (!list.empty()) list += ", ";
    if (files_.size() > 1) {
      list += std::filesystem::path(file.rows->path()).filename().string() + ":";
    }
    list += std::to_string(row - file.begin);
  }
  // Both answers of a pair may be dropped.
  const bool all = stats.first_dropped.size() < kNamedRows || stats.dropped_rows == kNamedRows;
  return all ? list : list + ", ...";
}

}  // namespace liger::trainer
