#include "worker/trainer/loop/output_check.h"

#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/checkpoints.h"
#include "common/output_place.h"
#include "worker/trainer/checkpoint/file_writer.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

constexpr char kOutputUri[] = "output.uri";

void RequireWritable(const std::string& folder) {
  const std::string why = WhyNotWritable(folder);
  if (why.empty()) return;
  throw TrainerError(liger::v1::FAILURE_CLASS_STORAGE,
                     absl::StrCat(kOutputUri, ": nothing can be written to ", folder, ": ", why),
                     "name another place, or make that one writable for the worker's user")
      .Field(kOutputUri)
      .File(folder);
}

std::string AnyCheckpoint(const std::string& output) {
  return absl::StrCat(output, kCheckpointsSuffix, "/", CheckpointName(0));
}

}  // namespace

void RequireFreeOutput(const std::string& output, const liger::v1::JobSpec& spec) {
  std::error_code unseen;  // what keeps it from being seen keeps it from being written
  if (spec.output().overwrite() || !std::filesystem::exists(output, unseen)) return;
  throw ConfigError(absl::StrCat(kOutputUri, ": '", output, "' exists already"),
                    "choose another folder, or set output.overwrite: true")
      .Field(kOutputUri)
      .File(output);
}

void RequireWritableOutput(const Request& request) {
  const std::string& output = request.launch.output_dir();
  if (output.empty()) return;
  RequireWritable(output);
  if (request.spec().training().save_steps() > 0) RequireWritable(AnyCheckpoint(output));
}

void RequireRoomForCheckpoint(const Request& request, int64_t bytes) {
  const std::string& output = request.launch.output_dir();
  if (output.empty()) return;
  RequireWritable(AnyCheckpoint(output));
  RequireFreeBytes(output + kCheckpointsSuffix, bytes);
}

}  // namespace liger::trainer
