#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "common/file.h"
#include "worker/agent/publisher.h"

namespace liger::agent {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// A manifest names files of its own folder only.
bool IsPlainRelative(const std::string& name) {
  const fs::path path(name);
  if (path.empty() || path.is_absolute()) return false;
  for (const fs::path& part : path) {
    if (part == "..") return false;
  }
  return true;
}

absl::StatusOr<json> FilesOf(const std::string& manifest_text) {
  json manifest = json::parse(manifest_text, nullptr, /*allow_exceptions=*/false);
  if (!manifest.is_object() || !manifest.contains("files") || !manifest["files"].is_object()) {
    return absl::DataLossError("manifest.json has no object 'files'");
  }
  return std::move(manifest["files"]);
}

absl::Status VerifyFile(const std::string& dir, const std::string& name, const json& entry) {
  const std::string path = absl::StrCat(dir, "/", name);
  if (!IsPlainRelative(name) || !entry.is_object() || !entry.contains("bytes") ||
      !entry.contains("sha256") || !entry["sha256"].is_string()) {
    return absl::DataLossError(absl::StrCat(dir, "/manifest.json: malformed entry '", name, "'"));
  }
  std::error_code error;
  const auto size = fs::file_size(path, error);
  if (error) return absl::DataLossError(absl::StrCat(path, " is missing: ", error.message()));
  if (entry["bytes"] != size) {
    return absl::DataLossError(
        absl::StrCat(path, " has ", size, " bytes, its manifest says ", entry["bytes"].dump()));
  }
  absl::StatusOr<std::string> digest = Sha256File(path);
  if (!digest.ok()) return digest.status();
  const std::string expected = entry["sha256"];
  if (*digest != expected && *digest != absl::StrCat("sha256:", expected)) {
    return absl::DataLossError(absl::StrCat(path, " does not have the digest of its manifest"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status VerifyManifest(const std::string& dir, const std::string& manifest_digest) {
  const std::string path = dir + "/manifest.json";
  absl::StatusOr<std::string> bytes = ReadFile(path, 64 << 20);
  if (!bytes.ok()) return bytes.status();
  if (const std::string digest = Sha256(*bytes); digest != manifest_digest) {
    return absl::DataLossError(
        absl::StrCat(path, " has digest ", digest, ", but the trainer reported ", manifest_digest));
  }
  const absl::StatusOr<json> files = FilesOf(*bytes);
  if (!files.ok()) {
    return absl::DataLossError(absl::StrCat(dir, "/", files.status().message()));
  }
  for (const auto& [name, entry] : files->items()) {
    if (absl::Status s = VerifyFile(dir, name, entry); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> ManifestFiles(const std::string& manifest_text) {
  const absl::StatusOr<json> files = FilesOf(manifest_text);
  if (!files.ok()) return files.status();
  std::vector<std::string> names;
  for (const auto& [name, entry] : files->items()) {
    if (!IsPlainRelative(name)) {
      return absl::DataLossError(absl::StrCat("manifest.json: malformed entry '", name, "'"));
    }
    names.push_back(name);
  }
  return names;
}

}  // namespace liger::agent
