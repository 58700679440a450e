#include "client/format.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace liger::client {
namespace {

bool StartsCodePoint(char c) { return (c & 0xc0) != 0x80; }

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

std::string Table::ToString() const {
  std::vector<size_t> widths(rows_.front().size());
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Width(row[i]));
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      absl::StrAppend(&line, row[i], std::string(widths[i] - Width(row[i]) + 2, ' '));
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&out, line, "\n");
  }
  return out;
}

std::string Bytes(int64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? absl::StrCat(bytes, " B") : absl::StrFormat("%.2f %s", value, kUnits[unit]);
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
  return std::isnan(value) ? "-" : absl::StrFormat("%.4g", value);
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

std::string PeakMemory(const liger::v1::Progress& progress) {
  const auto& peaks = progress.peak_memory_bytes();
  for (const char* kind : {"allocated", "rss"}) {
    if (auto it = peaks.find(kind); it != peaks.end()) {
      return absl::StrCat(Bytes(it->second), " ", kind);
    }
  }
  return "";
}

std::string Printable(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '\n' || c == '\t' || static_cast<unsigned char>(c) >= 0x20) {
      if (c != 0x7f) out.push_back(c);
    }
  }
  return out;
}

}  // namespace liger::client
