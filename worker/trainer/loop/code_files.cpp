#include "worker/trainer/loop/code_files.h"

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;

// The kernel adds " (deleted)" to the name of a file that is not there any more.
std::set<std::string> MappedCode() {
  std::set<std::string> files;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::string range, permissions, offset, device, inode, path;
    std::istringstream fields(line);
    fields >> range >> permissions >> offset >> device >> inode >> std::ws;
    std::getline(fields, path);
    const bool code = permissions.size() > 2 && permissions[2] == 'x';
    if (code && path.starts_with('/')) files.insert(path);
  }
  return files;
}

bool IsLibrary(const fs::path& file) {
  return file.filename().string().find(".so") != std::string::npos;
}

void AddLibraries(const fs::path& folder, const std::string& prefix, std::set<std::string>& files) {
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const fs::path& file = it->path();
    if (file.filename().string().starts_with(prefix) && IsLibrary(file)) {
      files.insert(file.string());
    }
  }
}

std::vector<std::string> FindCodeFiles() {
  const std::set<std::string> mapped = MappedCode();
  std::set<std::string> files = mapped;
  std::error_code error;
  AddLibraries(fs::read_symlink("/proc/self/exe", error).parent_path(), "liger_", files);
  for (const fs::path file : mapped) {
    if (!file.filename().string().starts_with("libtorch_cpu.so")) continue;
    const fs::path torch = file.parent_path();
    const fs::path packages = torch.parent_path().parent_path();
    AddLibraries(torch, "lib", files);
    AddLibraries(packages / "pyarrow", "lib", files);
    for (fs::directory_iterator it(packages / "nvidia", error), end; !error && it != end;
         it.increment(error)) {
      AddLibraries(it->path() / "lib", "lib", files);
    }
  }
  // Where distributions, and the NVIDIA runtime of containers, have it.
  for (const char* folder : {"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
                             "/usr/lib64", "/usr/lib/wsl/lib"}) {
    AddLibraries(folder, "libcuda.so", files);
  }
  return {files.begin(), files.end()};
}

}  // namespace

const std::vector<std::string>& CodeFiles() {
  static const auto& files = *new std::vector<std::string>(FindCodeFiles());
  return files;
}

}  // namespace liger::trainer
