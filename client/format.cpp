#include "client/format.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string_view>
#include <tuple>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace liger::client {
namespace {

bool StartsCodePoint(char c) { return (c & 0xc0) != 0x80; }

std::string WrapLine(const std::string& text, size_t width, size_t indent) {
  std::string out;
  std::string rest = text;
  size_t room = width;
  while (Width(rest) > room) {
    const std::string line = Cut(rest, room);
    const size_t space = rest.substr(0, line.size() + 1).find_last_of(' ');
    // What stands in the first line's indent is not broken off.
    const bool at_space = space != rest.npos && space > (out.empty() ? indent : 0);
    absl::StrAppend(&out, rest.substr(0, at_space ? space : line.size()), "\n",
                    std::string(indent, ' '));
    rest = rest.substr(at_space ? space + 1 : line.size());
    room = width - indent;
  }
  return out + rest;
}

// A last column that would be narrower goes below its row.
constexpr size_t kNarrowest = 20;

}  // namespace

size_t Width(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), StartsCodePoint));
}

std::string Cut(const std::string& text, size_t width) {
  size_t columns = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (StartsCodePoint(text[i]) && columns++ == width) return text.substr(0, i);
  }
  return text;
}

std::string Wrap(const std::string& text, int columns, size_t indent) {
  if (columns <= static_cast<int>(indent)) return text;
  const std::vector<std::string> lines = absl::StrSplit(text, '\n');
  return absl::StrJoin(lines, "\n", [&](std::string* out, const std::string& line) {
    out->append(WrapLine(line, static_cast<size_t>(columns), indent));
  });
}

void Table::Add(std::vector<std::string> row) {
  for (std::string& cell : row) cell = Printable(cell);
  rows_.push_back(std::move(row));
}

std::string Table::ToString(int columns, Overflow overflow) const {
  std::vector<size_t> widths(rows_.front().size());
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Width(row[i]));
  }
  std::string out;
  for (const auto& row : rows_) absl::StrAppend(&out, Row(row, widths, columns, overflow));
  return out;
}

std::string Table::Row(const std::vector<std::string>& row, const std::vector<size_t>& widths,
                       int columns, Overflow overflow) const {
  std::string line;
  for (size_t i = 0; i + 1 < row.size(); ++i) {
    absl::StrAppend(&line, row[i], std::string(widths[i] - Width(row[i]) + 2, ' '));
  }
  size_t indent = Width(line);
  const size_t limit = static_cast<size_t>(columns);
  if (columns > 0 && indent + widths.back() > limit) {
    const bool below = indent + kNarrowest > limit;
    if (below) indent = 2;
    const std::string& cell = row.back();
    if (below) line.erase(line.find_last_not_of(' ') + 1);
    if (below && !cell.empty()) line += "\n  ";
    if (overflow == Overflow::kWrap) {
      // The cells before it take the place of the first line's indent.
      line += Wrap(std::string(indent, ' ') + cell, columns, indent).substr(indent);
    } else {
      const size_t room = limit - indent;
      line += Width(cell) <= room ? cell : Cut(cell, room - 1) + "…";
    }
  } else {
    line += row.back();
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

std::string Duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "-";
  const int64_t whole = static_cast<int64_t>(std::llround(seconds));
  if (whole >= 86400) return absl::StrFormat("%dd%02dh", whole / 86400, whole % 86400 / 3600);
  if (whole >= 3600) return absl::StrFormat("%dh%02dm", whole / 3600, whole % 3600 / 60);
  if (whole >= 60) return absl::StrFormat("%dm%02ds", whole / 60, whole % 60);
  return absl::StrFormat("%ds", whole);
}

std::string Number(double value) {
  if (std::isnan(value)) return "-";
  const bool whole = std::abs(value) >= 1000 && std::abs(value) < 1e12;  // tokens, mostly
  return whole ? absl::StrFormat("%.0f", value) : absl::StrFormat("%.4g", value);
}

std::string Age(const google::protobuf::Timestamp& time, absl::Time now) {
  if (time.seconds() == 0) return "";
  return Duration(
      std::max(0.0, absl::ToDoubleSeconds(now - absl::FromUnixSeconds(time.seconds()))));
}

std::string StateName(liger::v1::JobStatus::State state) {
  return liger::v1::JobStatus::State_Name(state);
}

std::string ProgressBar(double fraction, int width) {
  const double clamped = std::clamp(std::isfinite(fraction) ? fraction : 0.0, 0.0, 1.0);
  const int full = static_cast<int>(clamped * width);
  return absl::StrCat("[", std::string(static_cast<size_t>(full), '#'),
                      std::string(static_cast<size_t>(width - full), '-'), "]");
}

std::string Sparkline(const std::vector<double>& values, size_t width) {
  static constexpr const char* kBlocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const size_t first = values.size() > width ? values.size() - width : 0;
  double low = INFINITY;
  double high = -INFINITY;
  for (size_t i = first; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) continue;
    low = std::min(low, values[i]);
    high = std::max(high, values[i]);
  }
  std::string line;
  for (size_t i = first; i < values.size(); ++i) {
    const bool finite = std::isfinite(values[i]);
    const double height = finite && high > low ? (values[i] - low) / (high - low) : 0;
    line += finite ? kBlocks[std::lround(height * 7)] : "x";
  }
  return line;
}

std::string Cause(const liger::v1::JobStatus& status) {
  const bool of_output = status.state() == liger::v1::JobStatus::SUCCEEDED &&
                         !status.output_uri().empty() &&
                         absl::StrContains(status.message(), status.output_uri());
  return of_output ? "" : Printable(status.message());
}

std::string PeakMemory(const liger::v1::Progress& progress, bool with_prediction) {
  const auto& peaks = progress.peak_memory_bytes();
  const auto& predicted = progress.predicted_memory_bytes();
  for (const char* kind : {"allocated", "rss"}) {
    if (auto it = peaks.find(kind); it != peaks.end()) {
      std::string text = absl::StrCat(Bytes(it->second), " ", kind);
      const auto prediction = predicted.find(kind);
      if (with_prediction && prediction != predicted.end()) {
        absl::StrAppend(&text, " (predicted ", Bytes(prediction->second),
                        " with rows of max_length)");
      }
      return text;
    }
  }
  return "";
}

bool MetricBefore::operator()(const std::string& a, const std::string& b) const {
  static constexpr std::string_view kFirst[] = {"loss", "eval_loss", "tokens_per_second",
                                                "grad_norm", "learning_rate"};
  const auto* const rank_a = std::find(std::begin(kFirst), std::end(kFirst), a);
  const auto* const rank_b = std::find(std::begin(kFirst), std::end(kFirst), b);
  return std::tie(rank_a, a) < std::tie(rank_b, b);
}

std::string Printable(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    // U+0080 to U+009F in UTF-8.
    const bool c1 = byte == 0xc2 && i + 1 < text.size() &&
                    static_cast<unsigned char>(text[i + 1]) < 0xa0;
    if (c1) ++i;
    const bool c0 = byte < 0x20 && byte != '\n' && byte != '\t';
    if (!c0 && !c1 && byte != 0x7f) out.push_back(text[i]);
  }
  return out;
}

}  // namespace liger::client
