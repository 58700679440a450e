#ifndef LIGER_CLIENT_FORMAT_H_
#define LIGER_CLIENT_FORMAT_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/bytes.h"
#include "google/protobuf/timestamp.pb.h"
#include "liger/v1/job.pb.h"

namespace liger::client {

// Columns padded to their widest cell, two spaces apart; UTF-8 aware.
class Table {
 public:
  explicit Table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }
  // Its cells as Printable has them.
  void Add(std::vector<std::string> row);
  // At most `columns` wide (0: as wide as it gets) as far as the last column
  // makes that possible: it is wrapped or cut, below its row where it would be
  // too narrow beside it.
  enum class Overflow { kWrap, kCut };
  std::string ToString(int columns = 0, Overflow overflow = Overflow::kWrap) const;

 private:
  std::string Row(const std::vector<std::string>& row, const std::vector<size_t>& widths,
                  int columns, Overflow overflow) const;

  std::vector<std::vector<std::string>> rows_;
};

// Columns that UTF-8 text takes, counting code points: no double-width text
// appears in our output.
size_t Width(const std::string& text);

// The first `width` columns of it.
std::string Cut(const std::string& text, size_t width);

// Its lines broken into such of at most `columns`, at spaces where there are any,
// with those that it takes more indented. 0 columns: as it is.
std::string Wrap(const std::string& text, int columns, size_t indent);

std::string Duration(double seconds);  // "1h02m", "3m20s", "12s"
std::string Number(double value);      // 4 significant digits or more, "-" for NaN
std::string Age(const google::protobuf::Timestamp& time, absl::Time now);  // "" when unset
std::string StateName(liger::v1::JobStatus::State state);

// "[####----]" of `width` cells inside the brackets; fraction is clamped to [0, 1].
std::string ProgressBar(double fraction, int width);

// One block character a value over their own range; the newest `width` values.
std::string Sparkline(const std::vector<double>& values, size_t width);

// Why a job is in its state; empty when that is only where its output is, which
// is told apart.
std::string Cause(const liger::v1::JobStatus& status);

// The largest of a job's memory peaks with its kind: "2.50 GB rss"; of one that was predicted,
// where that is wanted: "2.50 GB allocated (predicted 2.55 GB with rows of max_length)".
std::string PeakMemory(const liger::v1::Progress& progress, bool with_prediction = false);

// Metrics as people look for them: the loss first, the rest by name.
struct MetricBefore {
  bool operator()(const std::string& a, const std::string& b) const;
};
template <typename Values>
std::map<std::string, double, MetricBefore> InOrder(const Values& values) {
  return {values.begin(), values.end()};
}

// Text from a server or a file without its control characters, so that it
// cannot move the cursor.
std::string Printable(const std::string& text);

}  // namespace liger::client

#endif  // LIGER_CLIENT_FORMAT_H_
