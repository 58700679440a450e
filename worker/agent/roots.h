#ifndef LIGER_WORKER_AGENT_ROOTS_H_
#define LIGER_WORKER_AGENT_ROOTS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/unique_fd.h"

namespace liger::agent {

// A folder that URIs from the network may not leave: every look-up goes
// through common/beneath.h, so neither ".." nor a symbolic link gets out of it,
// also when the tree changes meanwhile.
class Root {
 public:
  // Makes the folder when it does not exist.
  static absl::StatusOr<Root> Open(const std::string& path);

  const std::string& path() const { return path_; }

  // `uri` (file://, absolute or relative) as a path below this root; "." is the
  // root itself. INVALID_ARGUMENT for another scheme, PERMISSION_DENIED for a
  // place elsewhere.
  absl::StatusOr<std::string> Relative(const std::string& uri) const;

  // Opens `relative` with open flags. NOT_FOUND, PERMISSION_DENIED (it leads
  // out of the root) or the errno.
  absl::StatusOr<UniqueFd> OpenBeneath(const std::string& relative, int flags) const;
  // OK when it exists below the root.
  absl::Status Check(const std::string& uri) const;
  // Opens the folder, making what is missing of it.
  absl::StatusOr<UniqueFd> OpenOrMakeFolder(const std::string& relative) const;

 private:
  Root(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}

  std::string path_;
  UniqueFd fd_;
};

// PERMISSION_DENIED when an absolute `uri` lies below none of the roots and
// none of `allowed`, or a relative one leaves one of the roots up to the first
// that has it; INVALID_ARGUMENT for another scheme. The rest, a missing file too,
// is the trainer's to report.
absl::Status CheckInputUri(const std::string& uri, const std::vector<const Root*>& roots,
                           const std::vector<const Root*>& allowed = {});

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_ROOTS_H_
