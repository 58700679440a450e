#ifndef LIGER_WORKER_TRAINER_TEXT_JINJA_EXPRESSION_PARSER_H_
#define LIGER_WORKER_TRAINER_TEXT_JINJA_EXPRESSION_PARSER_H_

#include <string>
#include <string_view>
#include <vector>

#include "worker/trainer/text/jinja/ast.h"
#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/lexer.h"

namespace liger::trainer::jinja {

// A cursor over tokens and Jinja's expression grammar, in order of precedence:
// if-else, or, and, not, comparison, + -, ~, * / // %, **, sign, postfix and filter.
class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  ExprPtr ParseExpression() { return ParseCondition(true); }
  // One expression, or a tuple when a comma follows. Without conditions
  // `x in xs if y` leaves the `if` alone, as the head of a for loop needs.
  ExprPtr ParseTuple(bool with_condition);
  // "| a | b(1)" over `input`, which may be null; "a | b(1)" when it starts with a name.
  ExprPtr ParseFilters(ExprPtr input, bool starts_with_name = false);

 protected:
  const Token& Peek() const { return tokens_[at_]; }
  Token Next() { return tokens_[at_ < tokens_.size() - 1 ? at_++ : at_]; }
  bool AtOperator(std::string_view s) const {
    return Peek().type == TokenType::kOperator && Peek().text == s;
  }
  bool AtName(std::string_view s) const {
    return Peek().type == TokenType::kName && Peek().text == s;
  }
  bool TakeOperator(std::string_view s);
  bool TakeName(std::string_view s);
  void ExpectOperator(std::string_view s);
  std::string ExpectName();
  [[noreturn]] void Fail(const std::string& what) const;
  // Names that expressions have read so far.
  size_t names_read() const { return names_.size(); }
  bool HasRead(std::string_view name, size_t since) const;
  // As in Jinja, a filter or test that nobody knows fails where it is reached, if it stands right
  // in an {% if %} or a condition; else it fails at once. What was met since `unknown_met()` had
  // been `since` is dropped, or thrown.
  size_t unknown_met() const { return unknown_.size(); }
  void LeaveUnknownToTheRun(size_t since) { unknown_.resize(since, Unsupported("")); }
  void RequireKnown(size_t since) const {
    if (unknown_.size() > since) throw unknown_[since];
  }
  // Bounds recursion: templates nest a dozen deep, a malign one a million.
  class Depth {
   public:
    explicit Depth(ExpressionParser* parser);
    ~Depth() { --parser_->depth_; }

   private:
    ExpressionParser* parser_;
  };

 private:
  ExprPtr Make(Expr::Kind kind, std::string name = "") const;
  ExprPtr Join(Expr::Kind kind, std::string name, ExprPtr left, ExprPtr right) const;
  ExprPtr ParseCondition(bool with_condition);
  ExprPtr ParseOr();
  ExprPtr ParseAnd();
  ExprPtr ParseNot();
  ExprPtr ParseCompare();
  ExprPtr ParseSum();
  ExprPtr ParseConcat();
  ExprPtr ParseProduct();
  ExprPtr ParsePower();
  ExprPtr ParseUnary(bool with_filter);
  ExprPtr ParsePrimary();
  ExprPtr ParseNameOrConstant();
  ExprPtr ParseParenthesized();
  ExprPtr ParseList();
  ExprPtr ParseDict();
  ExprPtr ParsePostfix(ExprPtr node);
  ExprPtr ParsePostfixAndFilters(ExprPtr node);
  ExprPtr ParseSubscript(ExprPtr object);
  ExprPtr ParseTest(ExprPtr input);
  void ParseArguments(Expr* call);
  std::string CompareOperator();
  // `node` with its depth, which is bounded: it is evaluated and destroyed by recursion.
  ExprPtr Deepened(ExprPtr node) const;

  std::vector<Token> tokens_;
  std::vector<std::string> names_;
  std::vector<TemplateError> unknown_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace liger::trainer::jinja

#endif  // LIGER_WORKER_TRAINER_TEXT_JINJA_EXPRESSION_PARSER_H_
