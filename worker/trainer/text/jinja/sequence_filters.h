#ifndef LIGER_WORKER_TRAINER_TEXT_JINJA_SEQUENCE_FILTERS_H_
#define LIGER_WORKER_TRAINER_TEXT_JINJA_SEQUENCE_FILTERS_H_

#include <string_view>

#include "worker/trainer/text/jinja/builtins.h"

namespace liger::trainer::jinja {

// Filters of lists and dicts (first, join, sort, ...); null for others.
Builtin FindSequenceFilter(std::string_view name);

// "a.b" of an item, as map(attribute=...) and sort(attribute=...) look it up: a part that is a
// number is an index, none is the item itself. `fallback` stands for what is undefined on the way.
Value Attribute(Value item, const Value& path, const Value* fallback = nullptr);

// What sort, unique, groupby, min and max compare: without case, unless told so.
Value SortKey(const Value& item, const Value* attribute, bool case_sensitive,
              const Value* fallback = nullptr);

}  // namespace liger::trainer::jinja

#endif  // LIGER_WORKER_TRAINER_TEXT_JINJA_SEQUENCE_FILTERS_H_
