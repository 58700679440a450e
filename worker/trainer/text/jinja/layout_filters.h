#ifndef LIGER_WORKER_TRAINER_TEXT_JINJA_LAYOUT_FILTERS_H_
#define LIGER_WORKER_TRAINER_TEXT_JINJA_LAYOUT_FILTERS_H_

#include <string_view>

#include "worker/trainer/text/jinja/builtins.h"

namespace liger::trainer::jinja {

// Filters that pad, cut or mark up a text (center, indent, truncate, urlencode, escape, ...); null
// for others.
Builtin FindLayoutFilter(std::string_view name);

}  // namespace liger::trainer::jinja

#endif  // LIGER_WORKER_TRAINER_TEXT_JINJA_LAYOUT_FILTERS_H_
