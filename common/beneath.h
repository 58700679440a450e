#ifndef LIGER_COMMON_BENEATH_H_
#define LIGER_COMMON_BENEATH_H_

#include <string>

namespace liger {

// A descriptor of `path`, opened with `flags` below the open folder, or -1 with
// errno. Links are followed while they lead to places below the folder, absolute
// ones too; what leads out of it is EXDEV, too many links are ELOOP. The path is
// walked by descriptors, so that this also holds when the tree changes meanwhile,
// and without openat2, which old kernels and some containers refuse.
int OpenBeneath(int folder_fd, const std::string& path, int flags);

// That the errno of OpenBeneath says so.
bool LeadsOut(int error);

// The real name of the file that a descriptor stands for; empty when it has none.
std::string PathOfFd(int fd);

}  // namespace liger

#endif  // LIGER_COMMON_BENEATH_H_
