#include "worker/agent/event_tail.h"

#include <fcntl.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "worker/agent/log.h"

namespace liger::agent {

absl::StatusOr<std::vector<trainer::v1::Event>> EventTail::Read(size_t max_bytes) {
  if (!failure_.ok()) return failure_;
  if (absl::Status filled = Fill(max_bytes); !filled.ok()) return filled;
  std::vector<trainer::v1::Event> events;
  std::string payload;
  while (true) {
    const FrameReader::Result result = reader_.Next(&payload);
    if (result == FrameReader::Result::kIncomplete) return events;
    if (result == FrameReader::Result::kCorrupt) {
      failure_ = absl::DataLossError(
          absl::StrCat("event file ", path_, " is corrupt at byte ", reader_.offset()));
      at_end_ = true;
      // What came before the damage still counts.
      return events.empty() ? absl::StatusOr<std::vector<trainer::v1::Event>>(failure_)
                            : std::move(events);
    }
    // Whole, as its CRC says, so the next frame is where it should be.
    if (!events.emplace_back().ParseFromString(payload)) {
      events.pop_back();
      LogWarning("event file ", path_, ": the frame before byte ", reader_.offset(),
                 " is not an event that this agent can read; it is skipped");
    }
  }
}

absl::Status EventTail::Fill(size_t max_bytes) {
  at_end_ = false;
  if (!fd_.valid()) {
    fd_.reset(open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd_.valid() && errno == ENOENT) {
      at_end_ = true;
      return absl::OkStatus();
    }
    if (!fd_.valid()) return absl::ErrnoToStatus(errno, absl::StrCat("open ", path_));
  }
  char piece[64 << 10];
  for (size_t total = 0; total < max_bytes;) {
    const ssize_t n = read(fd_.get(), piece, sizeof(piece));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::ErrnoToStatus(errno, absl::StrCat("read ", path_));
    if (n == 0) {
      at_end_ = true;
      break;
    }
    reader_.Append(std::string_view(piece, static_cast<size_t>(n)));
    total += static_cast<size_t>(n);
  }
  return absl::OkStatus();
}

}  // namespace liger::agent
