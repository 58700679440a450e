#ifndef LIGER_COMMON_SPEC_CHECKS_H_
#define LIGER_COMMON_SPEC_CHECKS_H_

#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "liger/v1/job.pb.h"
#include "liger/v1/job_spec.pb.h"

namespace liger {

// What the sections of ValidateSpec share: the spec, and what was found wrong.
class Checks {
 public:
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();

  // A numeric field by its dotted path and the interval it must lie in.
  struct Range {
    const char* field;
    double low;
    bool low_open;
    double high;
    bool high_open;
  };

  explicit Checks(const liger::v1::JobSpec& spec) : spec_(spec) {}

  const liger::v1::JobSpec& spec() const { return spec_; }

  void Add(const std::string& field, const std::string& message);
  // value is one of known.
  void OneOf(const std::string& field, const std::string& value,
             const std::vector<std::string>& known);
  // A place of input or output, of printable characters; empty: not given.
  void Scheme(const std::string& field, const std::string& uri);
  // Each field, where it is set, lies in its range.
  void InRanges(std::span<const Range> ranges);

  std::vector<liger::v1::Violation> Take() { return std::move(violations_); }

 private:
  void InRange(const Range& range);

  const liger::v1::JobSpec& spec_;
  std::vector<liger::v1::Violation> violations_;
};

// The sections, a file each.
void CheckMethods(Checks& checks);
void CheckDataset(Checks& checks);
void CheckTraining(Checks& checks);
void CheckLora(Checks& checks);
// The optimizer, checkpoints, and what evaluations decide.
void CheckRun(Checks& checks);
// How many devices, and how they share the work.
void CheckParallel(Checks& checks);

}  // namespace liger

#endif  // LIGER_COMMON_SPEC_CHECKS_H_
