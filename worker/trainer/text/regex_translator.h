#ifndef LIGER_WORKER_TRAINER_TEXT_REGEX_TRANSLATOR_H_
#define LIGER_WORKER_TRAINER_TEXT_REGEX_TRANSLATOR_H_

#include <string>

#include "worker/trainer/text/config_node.h"

namespace liger::trainer {

// Rewrites a regular expression from the dialect of Oniguruma, which is what `tokenizers` reads, to
// PCRE2's (options UTF, UCP and MULTILINE), with the same matches. Character classes are written
// out as the code points that Oniguruma has in them, whatever PCRE2's Unicode version. What would
// mean something else in PCRE2, or nothing in Oniguruma, is refused: throws TrainerError (CONFIG)
// with what it is, where, and `node`'s place.
std::string TranslateRegex(const std::string& regex, const ConfigNode& node);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_REGEX_TRANSLATOR_H_
