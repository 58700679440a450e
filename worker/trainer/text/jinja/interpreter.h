#ifndef LIGER_WORKER_TRAINER_TEXT_JINJA_INTERPRETER_H_
#define LIGER_WORKER_TRAINER_TEXT_JINJA_INTERPRETER_H_

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "worker/trainer/text/jinja/ast.h"

namespace liger::trainer::jinja {

struct Rendered {
  std::string text;
  // Byte ranges of `text` that {% generation %} blocks wrote.
  std::vector<std::pair<size_t, size_t>> generation_spans;
};

// Runs a template with `variables`. Work, depth and output are bounded, so that
// every template ends. Throws TemplateError with the line.
Rendered Render(const Body& body, const Dict& variables);

}  // namespace liger::trainer::jinja

#endif  // LIGER_WORKER_TRAINER_TEXT_JINJA_INTERPRETER_H_
