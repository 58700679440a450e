#include "worker/agent/model_facts.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>

#include "common/file.h"

namespace liger::agent {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit

// The JSON header of a safetensors file; discarded when it is not one.
json ReadHeader(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  unsigned char length_bytes[8];
  if (!in.read(reinterpret_cast<char*>(length_bytes), 8)) return {};
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | length_bytes[i];
  if (length > kMaxHeaderBytes) return {};
  std::string header(length, '\0');
  if (!in.read(header.data(), static_cast<std::streamsize>(length))) return {};
  return json::parse(header, nullptr, /*allow_exceptions=*/false);
}

int64_t Elements(const json& tensor) {
  if (!tensor.is_object() || !tensor.contains("shape") || !tensor["shape"].is_array()) return 0;
  int64_t elements = 1;
  for (const json& size : tensor["shape"]) {
    if (!size.is_number_integer()) return 0;
    elements *= size.get<int64_t>();
  }
  return elements;
}

}  // namespace

std::string ModelArchitecture(const std::string& model_dir) {
  absl::StatusOr<std::string> bytes = ReadFile(model_dir + "/config.json", 16 << 20);
  if (!bytes.ok()) return "";
  const json config = json::parse(*bytes, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object() || !config.contains("model_type")) return "";
  return config["model_type"].is_string() ? config["model_type"].get<std::string>() : "";
}

int64_t ModelParameters(const std::string& model_dir) {
  int64_t total = 0;
  std::error_code error;
  for (fs::directory_iterator it(model_dir, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() != ".safetensors") continue;
    const json header = ReadHeader(it->path());
    if (!header.is_object()) continue;
    for (const auto& [name, tensor] : header.items()) {
      if (name != "__metadata__") total += Elements(tensor);
    }
  }
  return total;
}

}  // namespace liger::agent
