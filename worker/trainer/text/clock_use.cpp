#include "worker/trainer/text/clock_use.h"

#include <algorithm>

namespace liger::trainer {
namespace {

constexpr std::string_view kFunction = "strftime_now";
// strftime's directives that stand for the day or for a character.
constexpr std::string_view kOfTheDay = "aAbBdDeFgGhjmuUVwWxyYCnt%";

void SkipSpaces(std::string_view* text) {
  text->remove_prefix(std::min(text->find_first_not_of(" \t\r\n"), text->size()));
}

bool TellsTheDayOnly(std::string_view format) {
  for (size_t at = format.find('%'); at != format.npos; at = format.find('%', at)) {
    ++at;
    if (at < format.size() && format[at] == '-') ++at;  // glibc's "without zeros"
    if (at == format.size() || kOfTheDay.find(format[at]) == kOfTheDay.npos) return false;
    ++at;
  }
  return true;
}

// `rest` follows the name: a test whether it is defined, or a call with one literal.
ClockUse OfOccurrence(std::string_view rest) {
  SkipSpaces(&rest);
  if (rest.starts_with("is ")) return ClockUse::kNone;
  if (!rest.starts_with('(')) return ClockUse::kTime;
  rest.remove_prefix(1);
  SkipSpaces(&rest);
  if (rest.empty() || (rest[0] != '"' && rest[0] != '\'')) return ClockUse::kTime;
  const size_t end = rest.find(rest[0], 1);
  if (end == rest.npos) return ClockUse::kTime;
  const std::string_view format = rest.substr(1, end - 1);
  rest.remove_prefix(end + 1);
  SkipSpaces(&rest);
  // What an escape stands for is not looked at.
  if (!rest.starts_with(')') || format.find('\\') != format.npos) return ClockUse::kTime;
  return TellsTheDayOnly(format) ? ClockUse::kDate : ClockUse::kTime;
}

}  // namespace

ClockUse FindClockUse(std::string_view source) {
  ClockUse use = ClockUse::kNone;
  for (size_t at = source.find(kFunction); at != source.npos; at = source.find(kFunction, at)) {
    at += kFunction.size();
    use = std::max(use, OfOccurrence(source.substr(at)));
  }
  return use;
}

}  // namespace liger::trainer
