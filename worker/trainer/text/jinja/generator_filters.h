#ifndef LIGER_WORKER_TRAINER_TEXT_JINJA_GENERATOR_FILTERS_H_
#define LIGER_WORKER_TRAINER_TEXT_JINJA_GENERATOR_FILTERS_H_

#include <string_view>

#include "worker/trainer/text/jinja/builtins.h"

namespace liger::trainer::jinja {

// Filters that give a generator in Jinja (map, select, batch, ...); null for others.
Builtin FindGeneratorFilter(std::string_view name);

}  // namespace liger::trainer::jinja

#endif  // LIGER_WORKER_TRAINER_TEXT_JINJA_GENERATOR_FILTERS_H_
