#ifndef LIGER_WORKER_TRAINER_TEXT_JINJA_LEXER_H_
#define LIGER_WORKER_TRAINER_TEXT_JINJA_LEXER_H_

#include <string>
#include <vector>

namespace liger::trainer::jinja {

enum class TokenType {
  kData,        // text outside of tags
  kBlockBegin,  // {%
  kBlockEnd,
  kVariableBegin,  // {{
  kVariableEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenType type;
  std::string text;  // of a string: its value
  int line;

  bool Is(TokenType t, const char* s) const { return type == t && text == s; }
};

// Cuts a template into tokens, with Jinja's trim_blocks and lstrip_blocks on
// and keep_trailing_newline off, as transformers sets them. Comments are gone.
// Ends with kEnd. Throws TemplateError.
std::vector<Token> Tokenize(const std::string& source);

}  // namespace liger::trainer::jinja

#endif  // LIGER_WORKER_TRAINER_TEXT_JINJA_LEXER_H_
