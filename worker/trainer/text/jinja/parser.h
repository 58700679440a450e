#ifndef LIGER_WORKER_TRAINER_TEXT_JINJA_PARSER_H_
#define LIGER_WORKER_TRAINER_TEXT_JINJA_PARSER_H_

#include <string>

#include "worker/trainer/text/jinja/ast.h"

namespace liger::trainer::jinja {

// Throws TemplateError with the line for what is not Jinja, and, by name, for
// tags, filters and tests that are not implemented. Nesting is limited.
Body Parse(const std::string& source);

}  // namespace liger::trainer::jinja

#endif  // LIGER_WORKER_TRAINER_TEXT_JINJA_PARSER_H_
