#include "worker/trainer/loop/metrics_log.h"

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

TrainerError WriteError(const std::string& path) {
  return TrainerError(liger::v1::FAILURE_CLASS_STORAGE,
                      path + ": cannot write: " + std::strerror(errno),
                      "free space where the output is written")
      .File(path);
}

}  // namespace

MetricsLog::MetricsLog(const std::string& path, const std::string& before)
    : path_(path), out_(path, std::ios::trunc) {
  if (!before.empty()) {
    std::ifstream in(before);
    std::string line;
    while (std::getline(in, line)) out_ << line << '\n';
    out_ << std::flush;
  }
  if (!out_) throw WriteError(path_);
}

void MetricsLog::Append(int64_t step, const std::map<std::string, double>& values) {
  nlohmann::ordered_json line;
  line["step"] = step;
  for (const auto& [name, value] : values) line[name] = value;  // NaN is dumped as null
  out_ << line.dump() << '\n' << std::flush;
  if (!out_) throw WriteError(path_);
}

}  // namespace liger::trainer
