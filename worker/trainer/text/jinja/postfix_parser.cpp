// What stands behind an expression: attributes, subscripts, calls, filters and tests.

#include <utility>

#include "worker/trainer/text/jinja/builtins.h"
#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/expression_parser.h"

namespace liger::trainer::jinja {

ExprPtr ExpressionParser::ParsePostfix(ExprPtr node) {
  while (true) {
    if (TakeOperator(".")) {
      ExprPtr outer = Make(Expr::Kind::kAttribute);
      if (Peek().type == TokenType::kInteger) {  // a.0 is a[0]
        outer->kind = Expr::Kind::kIndex;
        outer->children.push_back(std::move(node));
        outer->children.push_back(ParsePrimary());
      } else {
        outer->name = ExpectName();
        outer->children.push_back(std::move(node));
      }
      node = Deepened(std::move(outer));
    } else if (AtOperator("[")) {
      node = ParseSubscript(std::move(node));
    } else if (AtOperator("(")) {
      ExprPtr call = Make(Expr::Kind::kCall);
      call->children.push_back(std::move(node));
      ParseArguments(call.get());
      node = Deepened(std::move(call));
    } else {
      return node;
    }
  }
}

ExprPtr ExpressionParser::ParseSubscript(ExprPtr object) {
  ExprPtr node = Make(Expr::Kind::kIndex);
  Next();
  ExprPtr parts[3];
  int part = 0;
  bool slice = false;
  while (!AtOperator("]")) {
    if (TakeOperator(":")) {
      slice = true;
      if (++part > 2) Fail("a slice has at most three parts");
    } else {
      parts[part] = part == 0 ? ParseTuple(true) : ParseExpression();
      if (!AtOperator(":") && !AtOperator("]")) break;
    }
  }
  ExpectOperator("]");
  if (!slice && !parts[0]) Fail("the subscript is empty");
  node->children.push_back(std::move(object));
  node->children.push_back(std::move(parts[0]));
  if (slice) {
    node->kind = Expr::Kind::kSlice;
    node->children.push_back(std::move(parts[1]));
    node->children.push_back(std::move(parts[2]));
  }
  return Deepened(std::move(node));
}

void ExpressionParser::ParseArguments(Expr* call) {
  ExpectOperator("(");
  while (!AtOperator(")")) {
    if (TakeOperator("*")) {
      if (call->more || call->more_keyword) Fail("invalid syntax for function call expression");
      call->more = ParseExpression();
    } else if (TakeOperator("**")) {
      if (call->more_keyword) Fail("invalid syntax for function call expression");
      call->more_keyword = ParseExpression();
    } else if (Peek().type == TokenType::kName && tokens_[at_ + 1].Is(TokenType::kOperator, "=")) {
      if (call->more_keyword) Fail("invalid syntax for function call expression");
      const std::string name = Next().text;
      Next();
      call->keyword.emplace_back(name, ParseExpression());
    } else {
      if (!call->keyword.empty() || call->more || call->more_keyword) {
        Fail("a positional argument follows a keyword argument");
      }
      call->children.push_back(ParseExpression());
    }
    if (!TakeOperator(",")) break;
  }
  ExpectOperator(")");
}

ExprPtr ExpressionParser::ParsePostfixAndFilters(ExprPtr node) {
  while (true) {
    if (AtOperator("|")) {
      node = ParseFilters(std::move(node));
    } else if (AtName("is")) {
      node = ParseTest(std::move(node));
    } else if (AtOperator("(")) {
      node = ParsePostfix(std::move(node));
    } else {
      return node;
    }
  }
}

ExprPtr ExpressionParser::ParseFilters(ExprPtr input, bool starts_with_name) {
  while (std::exchange(starts_with_name, false) || TakeOperator("|")) {
    ExprPtr filter = Make(Expr::Kind::kFilter, ExpectName());
    if (FindFilter(filter->name) == nullptr) {
      unknown_.push_back(Unsupported("the filter \"" + filter->name + "\"", filter->line));
    }
    filter->children.push_back(std::move(input));
    if (AtOperator("(")) ParseArguments(filter.get());
    input = Deepened(std::move(filter));
  }
  return input;
}

ExprPtr ExpressionParser::ParseTest(ExprPtr input) {
  Next();
  const bool negated = TakeName("not");
  ExprPtr test = Make(Expr::Kind::kTest, ExpectName());
  if (FindTest(test->name) == nullptr) {
    unknown_.push_back(Unsupported("the test \"" + test->name + "\"", test->line));
  }
  test->children.push_back(std::move(input));
  const TokenType next = Peek().type;
  const bool keyword = AtName("else") || AtName("or") || AtName("and");
  if (AtName("is")) Fail("You cannot chain multiple tests with is");
  if (AtOperator("(")) {
    ParseArguments(test.get());
  } else if ((next == TokenType::kName && !keyword) ||  // an `if` too, as in Jinja
             next == TokenType::kString || next == TokenType::kInteger ||
             next == TokenType::kFloat || AtOperator("[") || AtOperator("{")) {
    test->children.push_back(ParsePostfix(ParsePrimary()));
  }
  test = Deepened(std::move(test));
  if (!negated) return test;
  ExprPtr node = Make(Expr::Kind::kUnary, "not");
  node->children.push_back(std::move(test));
  return Deepened(std::move(node));
}

}  // namespace liger::trainer::jinja
