#include "worker/trainer/loop/console.h"

#include <map>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/bytes.h"
#include "common/plural.h"
#include "common/spec/saved_model.h"
#include "common/spec/violations.h"

namespace liger::trainer {
namespace {

namespace tv1 = liger::trainer::v1;

std::string Values(const google::protobuf::Map<std::string, double>& values) {
  const std::map<std::string, double> sorted(values.begin(), values.end());
  return absl::StrJoin(sorted, "  ", [](std::string* out, const auto& entry) {
    absl::StrAppendFormat(out, "%s %.5g", entry.first, entry.second);
  });
}

std::string PhaseName(tv1::Phase phase) {
  const std::string name = tv1::Phase_Name(phase);
  return absl::AsciiStrToLower(name.substr(std::string("PHASE_").size()));
}

std::string ReadyLine(const tv1::Ready& ready) {
  std::string line = "device " + ready.device();
  for (const auto& kernel : ready.kernels_ran()) {
    absl::StrAppend(&line, "  ", kernel.op(), "=", kernel.path());
  }
  return line;
}

std::string StepLine(const tv1::Step& step) {
  return absl::StrFormat("step %d/%d  %s  %.0f tokens/s  %.2f s", step.step(), step.max_steps(),
                         Values(step.values()), step.tokens_per_second(), step.step_seconds());
}

std::string MemoryLine(const tv1::Memory& memory) {
  std::string line =
      absl::StrCat("peak memory (", memory.kind(), ") ", Bytes(memory.peak_bytes()));
  if (memory.predicted_bytes() == 0) return line;
  return line + ", predicted " + Bytes(memory.predicted_bytes()) + " with rows of max_length";
}

std::string FailureLine(const liger::v1::Failure& failure) {
  std::string line = "error: " + failure.message();
  if (!failure.action().empty()) absl::StrAppend(&line, "\n  what to do: ", failure.action());
  return line;
}

std::string WarningLine(const liger::v1::Warning& warning) {
  return "warning: " + warning.message();
}

std::string CheckLines(const tv1::CheckResult& result) {
  std::string text;
  for (const auto& warning : result.warnings()) absl::StrAppend(&text, WarningLine(warning), "\n");
  for (const auto& v : result.violations()) {
    absl::StrAppend(&text, "error: ", FormatViolation(v), "\n");
  }
  const std::map<std::string, int64_t> stats(result.stats().begin(), result.stats().end());
  absl::StrAppend(&text, "checked: ", absl::StrJoin(result.checks_run(), ", "));
  if (result.checks_skipped_size() > 0) {
    absl::StrAppend(&text, "; skipped: ", absl::StrJoin(result.checks_skipped(), ", "));
  }
  for (const std::string& format : result.formats()) absl::StrAppend(&text, "\n  format ", format);
  for (const std::string& notice : result.notices()) absl::StrAppend(&text, "\n  ", notice);
  for (const auto& [name, value] : stats) absl::StrAppend(&text, "\n  ", name, " ", value);
  return text;
}

std::string DoneLine(const std::optional<int>& violations) {
  if (!violations) return "done";
  return *violations == 0 ? "check passed" : "check failed: " + Plural(*violations, "error");
}

// "" for events that a person need not see. `violations`: of a CHECK that ran before.
std::string Line(const tv1::Event& event, const std::optional<int>& violations) {
  switch (event.event_case()) {
    case tv1::Event::kReady:
      return ReadyLine(event.ready());
    case tv1::Event::kPhase:
      return PhaseName(event.phase().phase());
    case tv1::Event::kStep:
      return StepLine(event.step());
    case tv1::Event::kEval:
      return absl::StrCat("eval at step ", event.eval().step(), "  ",
                          Values(event.eval().values()));
    case tv1::Event::kMemory:
      return MemoryLine(event.memory());
    case tv1::Event::kSample:
      return absl::StrCat("sample at step ", event.sample().step(), "\n  > ",
                          event.sample().prompt(), "\n  ", event.sample().text());
    case tv1::Event::kSaved:
      return absl::StrCat("saved ", event.saved().dir(), ": ",
                          SavedModelText(event.saved().step(), event.saved().best()));
    case tv1::Event::kWarning:
      return WarningLine(event.warning());
    case tv1::Event::kCheckResult:
      return CheckLines(event.check_result());
    case tv1::Event::kDone:
      return DoneLine(violations);
    case tv1::Event::kPaused:
      return absl::StrCat("paused after step ", event.paused().step(),
                          event.paused().step() == 0
                              ? ""
                              : "; training.resume_from_checkpoint goes on from there");
    case tv1::Event::kFailed:
      return FailureLine(event.failed());
    default:
      return "";
  }
}

}  // namespace

bool Console::Emit(tv1::Event event) {
  absl::MutexLock lock(&mutex_);
  if (event.has_check_result()) violations_ = event.check_result().violations_size();
  const std::string line = Line(event, violations_);
  if (line.empty()) return true;
  out_ << prefix_ << line << std::endl;
  return out_.good();
}

}  // namespace liger::trainer
