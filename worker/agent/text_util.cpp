#include "worker/agent/text_util.h"

#include <algorithm>
#include <fstream>
#include <iterator>

namespace liger::agent {
namespace {

// Length of the well-formed UTF-8 sequence that `s` starts with (Unicode 15,
// table 3-7); 0 when it starts with none.
size_t SequenceLength(std::string_view s) {
  const auto byte = [&](size_t i) -> unsigned {
    return i < s.size() ? static_cast<unsigned char>(s[i]) : 0u;
  };
  const auto continues = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return continues(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const bool overlong = lead == 0xE0 && byte(1) < 0xA0;
    const bool surrogate = lead == 0xED && byte(1) > 0x9F;
    return continues(1) && continues(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const bool overlong = lead == 0xF0 && byte(1) < 0x90;
    const bool beyond = lead == 0xF4 && byte(1) > 0x8F;
    return continues(1) && continues(2) && continues(3) && !overlong && !beyond ? 4 : 0;
  }
  return 0;
}

}  // namespace

std::string ToValidUtf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    const size_t length = SequenceLength(bytes);
    out.append(length == 0 ? std::string_view("\xEF\xBF\xBD") : bytes.substr(0, length));
    bytes.remove_prefix(std::max<size_t>(1, length));
  }
  return out;
}

std::string ReadTail(const std::string& path, int64_t max_bytes) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) return "";
  const int64_t size = in.tellg();
  in.seekg(std::max<int64_t>(0, size - max_bytes));
  return ToValidUtf8(std::string(std::istreambuf_iterator<char>(in), {}));
}

std::string LastLines(std::string_view text, int lines) {
  size_t start = text.size();
  while (start > 0 && text[start - 1] == '\n') --start;
  for (; start > 0; --start) {
    if (text[start - 1] == '\n' && --lines == 0) break;
  }
  return std::string(text.substr(start));
}

}  // namespace liger::agent
