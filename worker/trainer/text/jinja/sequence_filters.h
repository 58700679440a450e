#ifndef LIGER_WORKER_TRAINER_TEXT_JINJA_SEQUENCE_FILTERS_H_
#define LIGER_WORKER_TRAINER_TEXT_JINJA_SEQUENCE_FILTERS_H_

#include <string_view>

#include "worker/trainer/text/jinja/builtins.h"

namespace liger::trainer::jinja {

// The filters over sequences and dicts; null for other names.
Builtin FindSequenceFilter(std::string_view name);

}  // namespace liger::trainer::jinja

#endif  // LIGER_WORKER_TRAINER_TEXT_JINJA_SEQUENCE_FILTERS_H_
