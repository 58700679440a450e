#ifndef LIGER_WORKER_TRAINER_TEXT_TOKENIZE_COMMAND_H_
#define LIGER_WORKER_TRAINER_TEXT_TOKENIZE_COMMAND_H_

#include <iosfwd>
#include <string>

namespace liger::trainer {

struct TokenizeOptions {
  std::string model_dir;
  bool decode = false;
  // Encode: add the post-processor's special tokens to {"text"} rows. Rendered
  // conversations never get them: the template has written them already.
  bool add_special_tokens = true;
  // Decode: leave special tokens out of the text.
  bool skip_special_tokens = false;
};

// `liger-trainer tokenize --model DIR [--decode]`: for people who debug a
// template and for tests that compare with one. Reads JSON lines from `in`:
//   {"text": ...}                                    -> {"ids": [...]}
//   {"messages": [...], "tools": [...],
//    "add_generation_prompt": bool}                  -> {"ids": [...], "rendered": ...}
// and with `decode`
//   {"ids": [...]}                                   -> {"text": ...}
// and writes one JSON line for each to `out`. Empty lines are skipped. Throws
// TrainerError naming the line for anything else.
void RunTokenize(const TokenizeOptions& options, std::istream& in, std::ostream& out);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_TOKENIZE_COMMAND_H_
