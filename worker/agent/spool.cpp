#include "worker/agent/spool.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/file.h"
#include "common/framing.h"
#include "common/utf8.h"

namespace liger::agent {

using worker::v1::SpoolRecord;
using worker::v1::TaskEvent;

absl::StatusOr<std::unique_ptr<Spool>> Spool::Open(const std::string& path) {
  auto spool = std::make_unique<Spool>();
  spool->path_ = path;
  if (absl::Status s = spool->Load(path); !s.ok()) return s;
  return spool;
}

absl::Status Spool::Load(const std::string& path) {
  fd_.reset(open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!fd_.valid()) return absl::ErrnoToStatus(errno, absl::StrCat("open ", path));
  absl::StatusOr<std::string> bytes = ReadFile(path);
  if (!bytes.ok()) return bytes.status();
  FrameReader reader;
  reader.Append(*bytes);
  std::string payload;
  while (reader.Next(&payload) == FrameReader::Result::kFrame) {
    SpoolRecord record;
    if (!record.ParseFromString(payload)) {
      return absl::DataLossError(absl::StrCat(path, " is damaged at byte ", reader.offset()));
    }
    Apply(record);
  }
  // What follows the last whole frame was never sent: an event goes out only
  // after it is written.
  if (ftruncate(fd_.get(), reader.offset()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("truncate ", path));
  }
  return absl::OkStatus();
}

void Spool::Stamp(TaskEvent& event, const trainer::v1::Ref& ref) const {
  *event.mutable_ref() = ref;
  event.set_seq(last_seq_ + 1);
  const absl::Time now = absl::Now();
  event.mutable_time()->set_seconds(absl::ToUnixSeconds(now));
  event.mutable_time()->set_nanos(
      static_cast<int32_t>((absl::ToUnixNanos(now) % 1000000000 + 1000000000) % 1000000000));
  // It may quote paths and messages of the system.
  MakeStringsValid(&event);
}

absl::Status Spool::Append(TaskEvent event, const trainer::v1::Ref& ref, int source_rank,
                           int64_t source_seq) {
  Stamp(event, ref);
  SpoolRecord record;
  *record.mutable_event() = std::move(event);
  record.set_source_rank(source_rank);
  record.set_source_seq(source_seq);
  const bool sync = record.event().has_exited() || record.event().has_publish_request() ||
                    record.event().has_publication();
  if (absl::Status s = Write(record, sync); !s.ok()) return s;
  Apply(record);
  return absl::OkStatus();
}

void Spool::HoldExit(TaskEvent event, const trainer::v1::Ref& ref) {
  Stamp(event, ref);
  SpoolRecord record;
  *record.mutable_event() = std::move(event);
  Apply(record);
}

absl::Status Spool::RecordPublication(const worker::v1::PublicationOutcome& outcome,
                                      const trainer::v1::Ref& ref) {
  TaskEvent event;
  *event.mutable_publication() = outcome;
  MakeStringsValid(&event);
  outcomes_[outcome.publication_id()] = event.publication();
  return Append(std::move(event), ref);
}

absl::Status Spool::RecordStop(const std::string& reason) {
  SpoolRecord record;
  record.set_stop_reason(reason.empty() ? "asked to stop" : reason);
  MakeStringsValid(&record);
  Apply(record);
  return Write(record, false);
}

absl::Status Spool::Write(const SpoolRecord& record, bool sync) {
  const off_t start = lseek(fd_.get(), 0, SEEK_END);
  absl::Status written = WriteFully(fd_.get(), EncodeFrame(record.SerializeAsString()), path_);
  if (written.ok() && sync && fdatasync(fd_.get()) != 0) {
    written = absl::ErrnoToStatus(errno, absl::StrCat("sync ", path_));
  }
  if (!written.ok()) {
    // A half-written frame would hide every later one.
    [[maybe_unused]] int rc = ftruncate(fd_.get(), start);
  }
  return written;
}

void Spool::Apply(const SpoolRecord& record) {
  switch (record.record_case()) {
    case SpoolRecord::kEvent: {
      const TaskEvent& event = record.event();
      last_seq_ = event.seq();
      exited_ = exited_ || event.has_exited();
      if (event.has_publish_request()) {
        requested_[event.publish_request().saved().publication_id()] = event;
      }
      if (event.has_publication()) {
        outcomes_[event.publication().publication_id()] = event.publication();
      }
      int64_t& source = source_seq_[record.source_rank()];
      source = std::max(source, record.source_seq());
      pending_.push_back(event);
      break;
    }
    case SpoolRecord::kPublication:
      outcomes_[record.publication().publication_id()] = record.publication();
      break;
    case SpoolRecord::kStopReason:
      stop_reason_ = record.stop_reason();
      break;
    case SpoolRecord::RECORD_NOT_SET:
      break;
  }
}

void Spool::Acknowledge(int64_t seq) {
  acknowledged_ = std::max(acknowledged_, std::min(seq, last_seq_));
  while (!pending_.empty() && pending_.front().seq() <= acknowledged_) pending_.pop_front();
}

const TaskEvent* Spool::After(int64_t seq) const {
  if (pending_.empty()) return nullptr;
  const int64_t first = pending_.front().seq();
  const int64_t index = std::max<int64_t>(0, seq + 1 - first);
  return index < static_cast<int64_t>(pending_.size()) ? &pending_[index] : nullptr;
}

int64_t Spool::source_seq(int rank) const {
  auto it = source_seq_.find(rank);
  return it == source_seq_.end() ? 0 : it->second;
}

}  // namespace liger::agent
