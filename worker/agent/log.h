#ifndef LIGER_WORKER_AGENT_LOG_H_
#define LIGER_WORKER_AGENT_LOG_H_

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace liger::agent {

// One line on stderr: "2026-01-31T12:00:00.123Z W message".
void WriteLogLine(char severity, absl::string_view message);

template <typename... Args>
void LogInfo(const Args&... args) {
  WriteLogLine('I', absl::StrCat(args...));
}
template <typename... Args>
void LogWarning(const Args&... args) {
  WriteLogLine('W', absl::StrCat(args...));
}
template <typename... Args>
void LogError(const Args&... args) {
  WriteLogLine('E', absl::StrCat(args...));
}

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_LOG_H_
