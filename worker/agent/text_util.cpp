#include "worker/agent/text_util.h"

#include <algorithm>
#include <fstream>
#include <iterator>

#include "common/utf8.h"

namespace liger::agent {

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
