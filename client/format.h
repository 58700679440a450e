#ifndef LIGER_CLIENT_FORMAT_H_
#define LIGER_CLIENT_FORMAT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "google/protobuf/timestamp.pb.h"
#include "liger/v1/job.pb.h"

namespace liger::client {

// Columns padded to their widest cell, two spaces apart; UTF-8 aware.
class Table {
 public:
  explicit Table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }
  void Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string ToString() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

// Columns that UTF-8 text takes, counting code points: no double-width text
// appears in our output.
size_t Width(const std::string& text);

// The first `width` columns of it.
std::string Cut(const std::string& text, size_t width);

std::string Bytes(int64_t bytes);      // "1.50 GiB"
std::string Duration(double seconds);  // "1h02m", "3m20s", "12s"
std::string Number(double value);      // 4 significant digits, "-" for NaN
std::string Age(const google::protobuf::Timestamp& time, absl::Time now);  // "" when unset
std::string StateName(liger::v1::JobStatus::State state);

// "[####----]" of `width` cells inside the brackets; fraction is clamped to [0, 1].
std::string ProgressBar(double fraction, int width);

// One block character a value over their own range; the newest `width` values.
std::string Sparkline(const std::vector<double>& values, size_t width);

// The largest of a job's memory peaks with its kind: "2.50 GiB rss".
std::string PeakMemory(const liger::v1::Progress& progress);

// Text from a server or a file without its control characters, so that it
// cannot move the cursor.
std::string Printable(const std::string& text);

}  // namespace liger::client

#endif  // LIGER_CLIENT_FORMAT_H_
