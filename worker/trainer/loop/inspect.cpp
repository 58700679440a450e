#include "worker/trainer/loop/inspect.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <ostream>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/plural.h"
#include "worker/trainer/error.h"
#include "worker/trainer/loop/data_counts.h"
#include "worker/trainer/loop/inputs.h"

namespace liger::trainer {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kTrained[] = "\x1b[32m";
constexpr char kPlain[] = "\x1b[0m";

// Rows by length: [from, to], the bounds powers of two.
Json Histogram(const std::vector<int32_t>& lengths) {
  Json bars = Json::array();
  if (lengths.empty()) return bars;
  const auto [shortest, longest] = std::minmax_element(lengths.begin(), lengths.end());
  int64_t from = 1;
  while (from * 2 <= *shortest) from *= 2;
  for (; from <= *longest; from *= 2) {
    const auto rows = std::count_if(lengths.begin(), lengths.end(), [from](int32_t length) {
      return length >= from && length < from * 2;
    });
    bars.push_back({{"from", from}, {"to", from * 2 - 1}, {"rows", rows}});
  }
  return bars;
}

Json Lengths(std::vector<int32_t> lengths) {
  if (lengths.empty()) return nullptr;
  std::sort(lengths.begin(), lengths.end());
  const auto quantile = [&](double q) {  // nearest rank
    return lengths[static_cast<size_t>(std::ceil(q * double(lengths.size()))) - 1];
  };
  return {{"mean", std::accumulate(lengths.begin(), lengths.end(), 0.0) / double(lengths.size())},
          {"p50", quantile(0.5)},
          {"p95", quantile(0.95)},
          {"p99", quantile(0.99)},
          {"max", lengths.back()}};
}

Json SplitReport(const DataStats& stats) {
  Json split = Json::object();
  for (const DataCount& one : kDataCounts) {
    const bool targets = one.count == &DataStats::target_tokens;
    if (!one.when_zero && stats.*one.count == 0) continue;
    split[targets ? "trained_tokens" : one.name] = stats.*one.count;
  }
  split["lengths"] = Lengths(stats.row_lengths);
  split["histogram"] = Histogram(stats.row_lengths);
  return split;
}

// Of several sources.
Json Formats(const std::vector<std::string>& names, const liger::v1::DatasetSpec& spec) {
  Json formats = Json::array();
  for (size_t i = 0; i < names.size(); ++i) {
    formats.push_back({{"source", spec.sources(static_cast<int>(i)).uri()}, {"format", names[i]}});
  }
  return formats;
}

// What an epoch of weighted sources takes of each.
Json Epoch(const std::vector<MixPart>& mix, const liger::v1::DatasetSpec& spec) {
  Json parts = Json::array();
  for (size_t i = 0; i < mix.size(); ++i) {
    parts.push_back({{"source", spec.sources(static_cast<int>(i)).uri()},
                     {"rows", mix[i].end - mix[i].begin},
                     {"rows_an_epoch", mix[i].take}});
  }
  return parts;
}

// The sequence in stretches of tokens that are all trained on, or none of them.
Json Spans(const Example& sequence, const Tokenizer& tokenizer) {
  Json spans = Json::array();
  const std::span<const int32_t> ids(sequence.input_ids);
  std::string before;
  const auto trained = [&](size_t t) { return t > 0 && sequence.labels[t] != kIgnoredLabel; };
  for (size_t begin = 0, end; begin < sequence.labels.size(); begin = end) {
    end = begin + 1;
    while (end < sequence.labels.size() && trained(end) == trained(begin)) ++end;
    // By what it adds to the text so far: alone, some decoders would take its
    // first space away.
    std::string text = tokenizer.Decode(ids.first(end), false);
    const bool adds = text.starts_with(before);
    spans.push_back({{"trained", trained(begin)},
                     {"tokens", end - begin},
                     {"text", adds ? text.substr(before.size())
                                   : tokenizer.Decode(ids.subspan(begin, end - begin), false)}});
    before = std::move(text);
  }
  return spans;
}

Json Sample(const ExampleSet& set, int64_t row, const Tokenizer& tokenizer) {
  if (row < 1 || row > set.num_rows()) {
    throw ConfigError(absl::StrCat("--row ", row, ": there ", set.num_rows() == 1 ? "is " : "are ",
                                   Plural(set.num_rows(), "row"), " to train on"),
                      "name one of them, from 1");
  }
  Json sequences = Json::array();
  const auto [begin, end] = set.SequencesOf(row - 1);
  for (int64_t s = begin; s < end; ++s) {
    const Example& sequence = set.sequences[s];
    Json one = {{"tokens", sequence.input_ids.size()}};
    if (set.kind == RowKind::kPair) one["answer"] = s == begin ? "chosen" : "rejected";
    if (set.kind == RowKind::kLabelled) one["label"] = set.desirable[row - 1] != 0;
    one["spans"] = Spans(sequence, tokenizer);
    sequences.push_back(std::move(one));
  }
  return sequences;
}

// Text of a file without what would move the cursor.
std::string Shown(const std::string& text) {
  std::string shown;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool control = (byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7F;
    shown += control ? absl::StrFormat("\\x%02x", byte) : std::string(1, c);
  }
  return shown;
}

void PrintLengths(const Json& split, std::ostream& out) {
  if (split["lengths"].is_null()) return;
  const Json& lengths = split["lengths"];
  out << absl::StrFormat("  tokens of a row: mean %.1f, median %d, 95%% %d, 99%% %d, longest %d\n",
                         lengths["mean"].get<double>(), lengths["p50"].get<int>(),
                         lengths["p95"].get<int>(), lengths["p99"].get<int>(),
                         lengths["max"].get<int>());
  int64_t most = 1;
  for (const Json& bar : split["histogram"]) most = std::max(most, bar["rows"].get<int64_t>());
  for (const Json& bar : split["histogram"]) {
    const auto rows = bar["rows"].get<int64_t>();
    out << absl::StrFormat("  %7d-%-7d %8d %s\n", bar["from"].get<int64_t>(),
                           bar["to"].get<int64_t>(), rows,
                           std::string((rows * 50 + most - 1) / most, '#'));
  }
}

void PrintSample(const std::string& row, const Json& sequences, bool color, std::ostream& out) {
  out << "\n" << row << ", trained tokens "
      << (color ? absl::StrFormat("%sin green%s", kTrained, kPlain) : "between « and »") << ":\n";
  for (const Json& sequence : sequences) {
    out << "-- " << Plural(sequence["tokens"].get<int64_t>(), "token");
    if (sequence.contains("answer")) out << ", " << sequence["answer"].get<std::string>();
    if (sequence.contains("label")) out << ", label " << sequence["label"];
    out << "\n";
    for (const Json& span : sequence["spans"]) {
      const std::string text = Shown(span["text"].get<std::string>());
      if (!span["trained"].get<bool>()) {
        out << text;
      } else {
        out << (color ? kTrained : "«") << text << (color ? kPlain : "»");
      }
    }
    out << "\n";
  }
}

}  // namespace

void RunInspect(const InspectOptions& options, std::ostream& out) {
  SpecOptions spec = options.spec;
  spec.check = true;  // no output folder is needed
  const Request request = ReadSpec(spec);
  const InputPaths paths = InputPaths::Resolve(request);
  const ModelConfig config = ModelConfig::FromFolder(paths.model_dir);
  const TextInputs text = TextInputs::Load(paths);
  const Dataset dataset = LoadData(request, paths, config, text);

  Json report = {{"files", Json::array()}};
  const std::vector<std::string> formats = FormatNames(dataset);
  if (formats.size() == 1) {
    report["format"] = formats[0];
  } else {
    report["formats"] = Formats(formats, request.spec().dataset());
  }
  report["train"] = SplitReport(dataset.train_stats);
  for (const auto& files : paths.train_files) {
    for (const std::string& file : files) report["files"].push_back(file);
  }
  if (!dataset.train.mix.empty()) {
    report["epoch"] = Epoch(dataset.train.mix, request.spec().dataset());
  }
  if (dataset.eval_stats.rows > 0) report["eval"] = SplitReport(dataset.eval_stats);
  report["warnings"] = dataset.warnings;
  report["sample"] = Sample(dataset.train, options.row, *text.tokenizer);
  if (options.json) {
    out << report.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
    return;
  }
  for (const Json& file : report["files"]) out << Shown(file.get<std::string>()) << "\n";
  if (formats.size() == 1) out << "format " << formats[0] << "\n";
  for (const Json& one : report.value("formats", Json::array())) {
    out << "format " << one["format"].get<std::string>() << " of "
        << Shown(one["source"].get<std::string>()) << "\n";
  }
  const std::vector<std::string> lines = DescribeData(dataset);
  out << lines[0] << "\n";
  PrintLengths(report["train"], out);
  for (const std::string& part : DescribeMix(dataset.train, request.spec().dataset())) {
    out << "  " << Shown(part) << "\n";
  }
  if (report.contains("eval")) {
    out << lines[1] << "\n";
    PrintLengths(report["eval"], out);
  }
  for (const std::string& warning : dataset.warnings) out << "warning: " << Shown(warning) << "\n";
  const DataStats& train = dataset.train_stats;
  const bool others = train.dropped_rows + train.pairs + dataset.eval_stats.rows > 0;
  const std::string row = absl::StrCat(dataset.train.packed() ? "pack " : "row ", options.row,
                                       others ? " of those to train on" : "");
  PrintSample(row, report["sample"], options.color, out);
}

}  // namespace liger::trainer
