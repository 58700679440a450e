#ifndef LIGER_WORKER_TRAINER_TEXT_JINJA_TEXT_METHODS_H_
#define LIGER_WORKER_TRAINER_TEXT_JINJA_TEXT_METHODS_H_

#include <string_view>

#include "worker/trainer/text/jinja/builtins.h"

namespace liger::trainer::jinja {

// Methods of Python's str that search, pad or ask for a property of the text; null for others. The
// text is the first argument.
Builtin FindTextMethod(std::string_view name);

}  // namespace liger::trainer::jinja

#endif  // LIGER_WORKER_TRAINER_TEXT_JINJA_TEXT_METHODS_H_
