#ifndef LIGER_WORKER_TRAINER_TEXT_CLOCK_USE_H_
#define LIGER_WORKER_TRAINER_TEXT_CLOCK_USE_H_

#include <string_view>

namespace liger::trainer {

// What a chat template's text may change with, besides the conversation.
enum class ClockUse { kNone, kDate, kTime };

// By the calls of strftime_now in the template's source: kDate where each has a literal format of
// nothing but days, months and years.
ClockUse FindClockUse(std::string_view source);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_CLOCK_USE_H_
