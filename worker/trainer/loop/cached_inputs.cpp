#include "worker/trainer/loop/cached_inputs.h"

#include <sys/stat.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <vector>

#include "common/file.h"
#include "worker/trainer/chat_template_files.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;

// Size and time of the last change; of a link, those of the file it leads to.
std::string StateOf(const fs::path& path) {
  struct stat s;
  if (stat(path.c_str(), &s) != 0) return "none";
  return std::to_string(s.st_size) + " " + std::to_string(s.st_mtim.tv_sec) + "." +
         std::to_string(s.st_mtim.tv_nsec);
}

bool IsText(const fs::path& path) {
  const std::string ending = path.extension().string();
  return ending == ".json" || ending == ".jinja" || ending == ".model" || ending == ".txt";
}

std::string DigestsOfTexts(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (IsText(it->path()) && it->is_regular_file(error)) files.push_back(it->path());
  }
  std::sort(files.begin(), files.end());
  std::string lines;
  for (const fs::path& file : files) {
    const auto digest = Sha256File(file.string());
    lines += (digest.ok() ? *digest : "unreadable") + "  " + file.filename().string() + "\n";
  }
  return lines;
}

std::string Today() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char date[32];
  return {date, std::strftime(date, sizeof(date), "%Y-%m-%d", &local)};
}

}  // namespace

std::string CachedInputs(const std::string& model_dir, bool of_today) {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  return std::string(LIGER_VERSION) + "\n" + StateOf("/proc/self/exe") + "\n" +
         StateOf(program.parent_path() / "liger_arrow.so") + "\n" + (of_today ? Today() : "") +
         "\n" + DigestsOfTexts(model_dir) +
         DigestsOfTexts(fs::path(model_dir) / kChatTemplatesFolder);
}

}  // namespace liger::trainer
