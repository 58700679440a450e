#ifndef LIGER_COMMON_FILE_STATE_H_
#define LIGER_COMMON_FILE_STATE_H_

#include <string>
#include <vector>

namespace liger {

// Tells whether a file is still the one it was, without reading it: by size, times of
// the last write and the last change, and inode. An edit can keep size and mtime, and
// not ctime too (two within one tick of the file system's clock, some milliseconds, are
// one). A copy is another file. The agent and the trainer have to come to the same, so
// both take it from here.

// "name size mtime ctime inode\n" of a regular file, of a link those of what it leads
// to; empty for anything else.
std::string FileState(const std::string& name, const std::string& path);

// "sha256:<hex>" over the state of one file; empty when there is none.
std::string FileStateDigest(const std::string& name, const std::string& path);
// Over the files in `folder` and in `folder`/`subfolder`, if that is there, by name,
// but for hidden ones.
std::string FolderStateDigest(const std::string& folder, const std::string& subfolder);
// Over files anywhere, in this order, with their paths; one that is not there counts
// as such.
std::string FileStatesDigest(const std::vector<std::string>& paths);

}  // namespace liger

#endif  // LIGER_COMMON_FILE_STATE_H_
