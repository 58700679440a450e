#ifndef LIGER_WORKER_TRAINER_TEXT_JINJA_FORMAT_H_
#define LIGER_WORKER_TRAINER_TEXT_JINJA_FORMAT_H_

#include <string>

#include "worker/trainer/text/jinja/value.h"

namespace liger::trainer::jinja {

// format % values: a tuple gives its items in turn, a dict the names in "%(name)s", everything
// else is the only value. Throws TemplateError, as Python's TypeError, and for what is not
// implemented (a width of '*').
std::string PercentFormat(const std::string& format, const Value& values);

// str.format: args.positional[0] is the format, the others its arguments. Throws TemplateError.
std::string FormatMethod(const Args& args);

}  // namespace liger::trainer::jinja

#endif  // LIGER_WORKER_TRAINER_TEXT_JINJA_FORMAT_H_
