#ifndef LIGER_WORKER_TRAINER_TEXT_JINJA_NUMBER_FILTERS_H_
#define LIGER_WORKER_TRAINER_TEXT_JINJA_NUMBER_FILTERS_H_

#include "worker/trainer/text/jinja/builtins.h"

namespace liger::trainer::jinja {

// The filters of number_filters.cpp; null for other names.
Builtin FindNumberFilter(std::string_view name);

}  // namespace liger::trainer::jinja

#endif  // LIGER_WORKER_TRAINER_TEXT_JINJA_NUMBER_FILTERS_H_
