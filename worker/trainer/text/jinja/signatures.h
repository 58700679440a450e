#ifndef LIGER_WORKER_TRAINER_TEXT_JINJA_SIGNATURES_H_
#define LIGER_WORKER_TRAINER_TEXT_JINJA_SIGNATURES_H_

#include <string_view>

#include "worker/trainer/text/jinja/value.h"

namespace liger::trainer::jinja {

// Throw TemplateError where Python would not take `args` (the input or the object is the first):
// one too few or too many, a keyword that the callee does not have, or one given twice.
void CheckFilterArguments(std::string_view filter, const Args& args);
void CheckTestArguments(std::string_view test, const Args& args);
// Of str, dict, list and tuple.
void CheckMethodArguments(std::string_view method, const Args& args);

}  // namespace liger::trainer::jinja

#endif  // LIGER_WORKER_TRAINER_TEXT_JINJA_SIGNATURES_H_
