#include "worker/trainer/data/token_cache.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <system_error>

#include "absl/strings/str_format.h"
#include "common/bytes.h"
#include "common/file.h"
#include "worker/trainer/data/token_cache_file.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr char kEnding[] = ".tokens";
constexpr char kPartEnding[] = ".part";
constexpr size_t kDigestDigits = 64;
// A file that is being written, but was not touched for so long, is nobody's.
constexpr auto kAbandoned = std::chrono::hours(1);

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string DefaultFolder() {
  const std::string xdg = Environment("XDG_CACHE_HOME");
  if (xdg.starts_with("/")) return xdg + "/liger/tokenized";
  const std::string home = Environment("HOME");
  return home.empty() ? "" : home + "/.cache/liger/tokenized";
}

struct KeptFile {
  fs::file_time_type used;
  int64_t bytes;
  fs::path path;
};

bool IsHexadecimal(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == text.npos;
}

// Whether a cache gave the file its name: others may lie in the folder, too.
bool IsOurs(const fs::path& path) {
  const std::string name = path.filename().string();
  if (name.size() <= kDigestDigits || !IsHexadecimal(name.substr(0, kDigestDigits))) return false;
  const std::string_view rest = std::string_view(name).substr(kDigestDigits);
  if (rest == kEnding) return true;
  return rest.starts_with('.') && rest.ends_with(kPartEnding) &&
         rest.size() > sizeof(kPartEnding) &&
         IsHexadecimal(rest.substr(1, rest.size() - sizeof(kPartEnding)));
}

// Of one process and call, also where several hosts share the folder.
std::string RandomName() {
  std::random_device random;
  return absl::StrFormat("%08x%08x", random(), random());
}

std::vector<KeptFile> ListFolder(const std::string& dir) {
  std::vector<KeptFile> files;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    if (!IsOurs(it->path())) continue;
    std::error_code gone;  // another process may have removed it
    const KeptFile file{it->last_write_time(gone), static_cast<int64_t>(it->file_size(gone)),
                        it->path()};
    if (!gone) files.push_back(file);
  }
  return files;
}

}  // namespace

TokenCacheOptions TokenCacheOptions::FromEnvironment() {
  TokenCacheOptions options;
  const char* dir = std::getenv("LIGER_DATA_CACHE");
  options.dir = dir == nullptr ? DefaultFolder() : dir;
  if (options.dir == "off") options.dir.clear();
  const std::string bound = Environment("LIGER_DATA_CACHE_GB");
  if (bound.empty()) return options;
  double gigabytes = 0;
  const char* end = bound.data() + bound.size();
  const auto parsed = std::from_chars(bound.data(), end, gigabytes);
  if (parsed.ec != std::errc() || parsed.ptr != end || !(gigabytes >= 0 && gigabytes < 1e9)) {
    throw ConfigError("LIGER_DATA_CACHE_GB='" + bound + "' is not a number of gigabytes",
                      "set it to a number such as 20, or LIGER_DATA_CACHE=off for no cache");
  }
  options.max_bytes = static_cast<int64_t>(gigabytes * 1e9);
  return options;
}

TokenCache::TokenCache(TokenCacheOptions options, std::function<std::string()> inputs)
    : options_(std::move(options)), inputs_(std::move(inputs)) {}

Split TokenCache::Get(const std::string& key, const std::string& what,
                      const std::function<bool()>& unchanged, const std::function<Split()>& make) {
  const auto digest_now = [&] {
    const std::string all = std::to_string(kTokenCacheVersion) + "\n" + inputs_() + "\n" + key;
    return Sha256(all).substr(std::string_view("sha256:").size());
  };
  const std::string digest = digest_now();
  Clock::time_point start = Clock::now();
  if (std::optional<Split> found = Find(digest)) {
    notes_.push_back(absl::StrFormat("data cache: hit for %s: %d rows read in %.2f s from %s", what,
                                     found->stats.rows, SecondsSince(start), PathOf(digest)));
    return *std::move(found);
  }
  start = Clock::now();
  Split split = make();
  const std::string made = absl::StrFormat("data cache: miss for %s: %d rows tokenised in %.2f s",
                                           what, split.stats.rows, SecondsSince(start));
  start = Clock::now();
  const bool same = unchanged() && digest_now() == digest;
  const std::string kept = same ? Keep(digest, split) : "not kept: a file or the date has changed";
  notes_.push_back(made + ", " + kept + absl::StrFormat(" (%.2f s)", SecondsSince(start)));
  return split;
}

std::string TokenCache::PathOf(const std::string& digest) const {
  return options_.dir + "/" + digest + kEnding;
}

std::optional<Split> TokenCache::Find(const std::string& digest) {
  const std::string path = PathOf(digest);
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return std::nullopt;
  try {
    Split split = ReadSplit(path, digest, 0);
    // The bound removes what was used longest ago.
    fs::last_write_time(path, fs::file_time_type::clock::now(), ignored);
    return split;
  } catch (const std::exception& e) {
    // Also gone since, by another process's bound.
    if (!fs::exists(path, ignored)) return std::nullopt;
    warnings_.push_back("data cache: " + path + " cannot be used (" + e.what() +
                        "); the rows are tokenised again");
    fs::remove(path, ignored);
    return std::nullopt;
  }
}

std::string TokenCache::Keep(const std::string& digest, const Split& split) {
  const int64_t bytes = SplitBytes(split);
  if (bytes > options_.max_bytes) {
    return "not kept: " + Bytes(bytes) + " are more than LIGER_DATA_CACHE_GB allows (" +
           Bytes(options_.max_bytes) + ")";
  }
  std::string part;
  try {
    fs::create_directories(options_.dir);
    MakeRoom(bytes);
    // Checkpoints and the result want room, too.
    if (fs::space(options_.dir).available < static_cast<uint64_t>(bytes) * 2) {
      throw std::system_error(ENOSPC, std::generic_category());
    }
    part = options_.dir + "/" + digest + "." + RandomName() + kPartEnding;
    WriteSplit(part, digest, split);
    fs::rename(part, PathOf(digest));
    return "kept in " + PathOf(digest) + ", " + Bytes(bytes);
  } catch (const std::system_error& e) {
    std::error_code ignored;
    if (!part.empty()) fs::remove(part, ignored);
    warnings_.push_back("data cache: " + Bytes(bytes) + " cannot be kept in " + options_.dir +
                        ": " + e.code().message() +
                        "; free space or set LIGER_DATA_CACHE to another folder, or to off");
    return "not kept";
  }
}

void TokenCache::MakeRoom(int64_t bytes) const {
  std::vector<KeptFile> files = ListFolder(options_.dir);
  std::sort(files.begin(), files.end(),
            [](const KeptFile& a, const KeptFile& b) { return a.used < b.used; });
  int64_t total = bytes;
  for (const KeptFile& file : files) total += file.bytes;
  const auto now = fs::file_time_type::clock::now();
  std::error_code ignored;
  for (const KeptFile& file : files) {
    const bool kept = file.path.extension() == kEnding;
    if (kept ? total <= options_.max_bytes : now - file.used < kAbandoned) continue;
    fs::remove(file.path, ignored);
    total -= file.bytes;
  }
}

}  // namespace liger::trainer
