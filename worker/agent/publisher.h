#ifndef LIGER_WORKER_AGENT_PUBLISHER_H_
#define LIGER_WORKER_AGENT_PUBLISHER_H_

#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "worker/agent/roots.h"

namespace liger::agent {

// A finished folder of an attempt and where it goes.
struct Publication {
  std::string source_dir;       // absolute
  std::string manifest_digest;  // of source_dir/manifest.json
  std::string output_uri;       // below the output root
  bool overwrite = false;
  // Manifest digests of what is replaced without that, too: the job's own of an attempt before.
  std::vector<std::string> replaces;
};

// Compares a folder with its manifest.json: the manifest's own digest, and size
// and SHA-256 of every file that it lists. DATA_LOSS names what differs.
absl::Status VerifyManifest(const std::string& dir, const std::string& manifest_digest);

// The names of the files that the text of a manifest.json lists, all of them below its
// folder. DATA_LOSS for one that is malformed.
absl::StatusOr<std::vector<std::string>> ManifestFiles(const std::string& manifest_text);

enum class PublishResult {
  kVisible,
  kLeaseOver,  // nothing became visible; to be tried again with a lease
};

// Makes the folder visible at its output URI, whole or not at all, by a rename
// (over a copy, from another file system). Idempotent: the same manifest
// already there is success. ALREADY_EXISTS when something else is.
// `may_publish` is asked right before the rename. Unless the result is visible,
// nothing is left beside the target, and the source is where it was.
absl::StatusOr<PublishResult> Publish(const Publication& publication, const Root& output_root,
                                      const std::function<bool()>& may_publish);

// Takes back what a Publish that was killed half-way left beside the target,
// when it will not be tried again.
void ClearStaging(const Publication& publication, const Root& output_root);

// Reads and copies of whole models, away from the agent's thread, in order.
class PublishThread {
 public:
  PublishThread();
  ~PublishThread();
  // Thread-safe.
  void Run(absl::AnyInvocable<void()> job);

 private:
  bool Ready() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || !jobs_.empty(); }
  void Loop();

  absl::Mutex mutex_;
  std::deque<absl::AnyInvocable<void()>> jobs_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_PUBLISHER_H_
