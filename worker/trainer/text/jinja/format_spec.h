#ifndef LIGER_WORKER_TRAINER_TEXT_JINJA_FORMAT_SPEC_H_
#define LIGER_WORKER_TRAINER_TEXT_JINJA_FORMAT_SPEC_H_

#include <cstdint>
#include <string>

#include "worker/trainer/text/jinja/value.h"

namespace liger::trainer::jinja {

// How a value is to be written; of both ways.
struct FormatSpec {
  std::string fill = " ";
  char align = 0;  // < > ^ =, or 0 for the type's own
  char sign = '-';
  bool alternate = false, zero = false;
  char grouping = 0;  // , or _ between groups of digits, or 0
  int64_t width = 0, precision = -1;
  char type = 0;
};

// As Python writes them. FormatInt: type d (or none), x, X, o or b; FormatFloat: e, E, f, F, g, G
// or %.
std::string FormatInt(int64_t value, const FormatSpec& spec);
std::string FormatFloat(double value, const FormatSpec& spec);
std::string FormatString(const std::string& text, const FormatSpec& spec);
// `digits` behind a sign, in the spec's width.
std::string FormatDigits(bool negative, const std::string& digits, const FormatSpec& spec);
// %c: an int or a string of one character. Throws TemplateError.
std::string OneCharacter(const Value& value);

}  // namespace liger::trainer::jinja

#endif  // LIGER_WORKER_TRAINER_TEXT_JINJA_FORMAT_SPEC_H_
