#include "common/ids.h"

#include <openssl/rand.h>

#include <cstdint>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace liger {
namespace {

std::string RandomBytes(int length) {
  std::string bytes(static_cast<size_t>(length), '\0');
  // Fails only when the kernel has no entropy source; an id that might repeat
  // would be worse than stopping.
  if (RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), length) != 1) abort();
  return bytes;
}

}  // namespace

std::string NewUuid() {
  std::string bytes = RandomBytes(16);
  bytes[6] = static_cast<char>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<char>((bytes[8] & 0x3f) | 0x80);
  const std::string hex = absl::BytesToHexString(bytes);
  return absl::StrCat(hex.substr(0, 8), "-", hex.substr(8, 4), "-", hex.substr(12, 4), "-",
                      hex.substr(16, 4), "-", hex.substr(20));
}

bool IsUuid(std::string_view text) {
  if (text.size() != 36) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash ? text[i] != '-' : !absl::ascii_isxdigit(text[i])) return false;
  }
  return true;
}

std::string RandomSuffix(int length) {
  static constexpr char kAlphabet[] = "abcdefghijklmnopqrstuvwxyz0123456789";
  std::string suffix = RandomBytes(length);
  for (char& c : suffix) c = kAlphabet[static_cast<uint8_t>(c) % 36];
  return suffix;
}

}  // namespace liger
