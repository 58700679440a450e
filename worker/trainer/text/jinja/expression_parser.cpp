#include "worker/trainer/text/jinja/expression_parser.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "worker/trainer/text/jinja/error.h"

namespace liger::trainer::jinja {
namespace {

constexpr int kMaxDepth = 200;
// Of expressions, with the terms of a chain inside of one another.
constexpr int kMaxExpressionDepth = 1000;

std::string Show(const Token& token) {
  switch (token.type) {
    case TokenType::kBlockEnd:
      return "'%}'";
    case TokenType::kVariableEnd:
      return "'}}'";
    case TokenType::kEnd:
      return "the end of the template";
    default:
      return "'" + token.text + "'";
  }
}

}  // namespace

ExpressionParser::Depth::Depth(ExpressionParser* parser) : parser_(parser) {
  if (++parser_->depth_ > kMaxDepth) parser_->Fail("the template is nested too deeply");
}

void ExpressionParser::Fail(const std::string& what) const {
  throw TemplateError(TemplateError::Kind::kSyntax, Peek().line, what);
}

bool ExpressionParser::TakeOperator(std::string_view s) {
  if (!AtOperator(s)) return false;
  Next();
  return true;
}

bool ExpressionParser::TakeName(std::string_view s) {
  if (!AtName(s)) return false;
  Next();
  return true;
}

void ExpressionParser::ExpectOperator(std::string_view s) {
  if (!TakeOperator(s)) Fail("expected '" + std::string(s) + "', got " + Show(Peek()));
}

std::string ExpressionParser::ExpectName() {
  if (Peek().type != TokenType::kName) Fail("expected a name, got " + Show(Peek()));
  return Next().text;
}

ExprPtr ExpressionParser::Make(Expr::Kind kind, std::string name) const {
  auto node = std::make_unique<Expr>();
  node->kind = kind;
  node->line = Peek().line;
  node->name = std::move(name);
  return node;
}

ExprPtr ExpressionParser::Join(Expr::Kind kind, std::string name, ExprPtr left,
                               ExprPtr right) const {
  ExprPtr node = Make(kind, std::move(name));
  node->line = left->line;
  node->children.push_back(std::move(left));
  node->children.push_back(std::move(right));
  return Deepened(std::move(node));
}

ExprPtr ExpressionParser::Deepened(ExprPtr node) const {
  const auto include = [&](const ExprPtr& inner) {
    if (inner) node->depth = std::max(node->depth, inner->depth + 1);
  };
  for (const ExprPtr& child : node->children) include(child);
  for (const auto& [name, value] : node->keyword) include(value);
  include(node->more);
  include(node->more_keyword);
  if (node->depth > kMaxExpressionDepth) Fail("the expression is too long or nested too deeply");
  return node;
}

bool ExpressionParser::HasRead(std::string_view name, size_t since) const {
  return std::find(names_.begin() + static_cast<int64_t>(since), names_.end(), name) !=
         names_.end();
}

ExprPtr ExpressionParser::ParseTuple(bool with_condition) {
  ExprPtr first = ParseCondition(with_condition);
  if (!AtOperator(",")) return first;
  ExprPtr tuple = Make(Expr::Kind::kTuple);
  tuple->children.push_back(std::move(first));
  while (TakeOperator(",")) {
    if (Peek().type == TokenType::kBlockEnd || Peek().type == TokenType::kVariableEnd ||
        AtOperator(")") || AtOperator("=")) {
      break;
    }
    tuple->children.push_back(ParseCondition(with_condition));
  }
  return Deepened(std::move(tuple));
}

ExprPtr ExpressionParser::ParseCondition(bool with_condition) {
  const Depth depth(this);
  const size_t unknown = unknown_met();
  ExprPtr node = ParseOr();
  while (with_condition && TakeName("if")) {
    ExprPtr condition = Make(Expr::Kind::kCondition);
    condition->children.push_back(ParseOr());
    condition->children.push_back(std::move(node));
    condition->children.push_back(TakeName("else") ? ParseCondition(true) : nullptr);
    node = Deepened(std::move(condition));
    LeaveUnknownToTheRun(unknown);
  }
  return node;
}

ExprPtr ExpressionParser::ParseOr() {
  ExprPtr left = ParseAnd();
  while (TakeName("or")) left = Join(Expr::Kind::kBinary, "or", std::move(left), ParseAnd());
  return left;
}

ExprPtr ExpressionParser::ParseAnd() {
  ExprPtr left = ParseNot();
  while (TakeName("and")) left = Join(Expr::Kind::kBinary, "and", std::move(left), ParseNot());
  return left;
}

ExprPtr ExpressionParser::ParseNot() {
  if (!AtName("not")) return ParseCompare();
  const Depth depth(this);
  ExprPtr node = Make(Expr::Kind::kUnary, "not");
  Next();
  node->children.push_back(ParseNot());
  return Deepened(std::move(node));
}

// The comparison at the cursor, which is taken; "" when there is none.
std::string ExpressionParser::CompareOperator() {
  for (const char* op : {"==", "!=", "<=", ">=", "<", ">"}) {
    if (TakeOperator(op)) return op;
  }
  if (TakeName("in")) return "in";
  if (AtName("not") && tokens_[at_ + 1].Is(TokenType::kName, "in")) {
    Next();
    Next();
    return "not in";
  }
  return "";
}

ExprPtr ExpressionParser::ParseCompare() {
  ExprPtr first = ParseSum();
  ExprPtr node = Make(Expr::Kind::kCompare);
  for (std::string op; !(op = CompareOperator()).empty();) {
    if (first) node->children.push_back(std::move(first));
    node->operators.push_back(op);
    node->children.push_back(ParseSum());
  }
  return node->operators.empty() ? std::move(first) : Deepened(std::move(node));
}

ExprPtr ExpressionParser::ParseSum() {
  ExprPtr left = ParseConcat();
  while (AtOperator("+") || AtOperator("-")) {
    const std::string op = Next().text;
    left = Join(Expr::Kind::kBinary, op, std::move(left), ParseConcat());
  }
  return left;
}

ExprPtr ExpressionParser::ParseConcat() {
  ExprPtr left = ParseProduct();
  while (TakeOperator("~")) {
    left = Join(Expr::Kind::kBinary, "~", std::move(left), ParseProduct());
  }
  return left;
}

ExprPtr ExpressionParser::ParseProduct() {
  ExprPtr left = ParsePower();
  while (AtOperator("*") || AtOperator("/") || AtOperator("//") || AtOperator("%")) {
    const std::string op = Next().text;
    left = Join(Expr::Kind::kBinary, op, std::move(left), ParsePower());
  }
  return left;
}

ExprPtr ExpressionParser::ParsePower() {
  ExprPtr left = ParseUnary(true);
  while (TakeOperator("**")) {
    left = Join(Expr::Kind::kBinary, "**", std::move(left), ParseUnary(true));
  }
  return left;
}

ExprPtr ExpressionParser::ParseUnary(bool with_filter) {
  const Depth depth(this);
  ExprPtr node;
  if (AtOperator("-") || AtOperator("+")) {
    node = Make(Expr::Kind::kUnary, Next().text);
    node->children.push_back(ParseUnary(false));
    node = Deepened(std::move(node));
  } else {
    node = ParsePostfix(ParsePrimary());
  }
  return with_filter ? ParsePostfixAndFilters(std::move(node)) : std::move(node);
}

ExprPtr ExpressionParser::ParsePrimary() {
  const Token& token = Peek();
  ExprPtr node = Make(Expr::Kind::kConstant);
  switch (token.type) {
    case TokenType::kName:
      return ParseNameOrConstant();
    case TokenType::kString: {
      std::string text;  // neighbouring strings are one
      while (Peek().type == TokenType::kString) text += Next().text;
      node->value = Value(std::move(text));
      return node;
    }
    case TokenType::kInteger:
      node->value = Value::FromDigits(Next().text);
      return node;
    case TokenType::kFloat:
      node->value = Value(std::strtod(Next().text.c_str(), nullptr));
      return node;
    default:
      break;
  }
  if (AtOperator("(")) return ParseParenthesized();
  if (AtOperator("[")) return ParseList();
  if (AtOperator("{")) return ParseDict();
  Fail("unexpected " + Show(token));
}

ExprPtr ExpressionParser::ParseNameOrConstant() {
  ExprPtr node = Make(Expr::Kind::kConstant);
  const std::string name = Next().text;
  if (name == "true" || name == "True") {
    node->value = Value(true);
  } else if (name == "false" || name == "False") {
    node->value = Value(false);
  } else if (name != "none" && name != "None") {
    node->kind = Expr::Kind::kName;
    node->name = name;
    names_.push_back(name);
  }
  return node;
}

ExprPtr ExpressionParser::ParseParenthesized() {
  ExprPtr empty = Make(Expr::Kind::kTuple);
  Next();
  if (TakeOperator(")")) return empty;
  ExprPtr node = ParseTuple(true);
  ExpectOperator(")");
  return node;
}

ExprPtr ExpressionParser::ParseList() {
  ExprPtr node = Make(Expr::Kind::kList);
  Next();
  while (!AtOperator("]")) {
    node->children.push_back(ParseExpression());
    if (!TakeOperator(",")) break;
  }
  ExpectOperator("]");
  return Deepened(std::move(node));
}

ExprPtr ExpressionParser::ParseDict() {
  ExprPtr node = Make(Expr::Kind::kDict);
  Next();
  while (!AtOperator("}")) {
    node->children.push_back(ParseExpression());
    ExpectOperator(":");
    node->children.push_back(ParseExpression());
    if (!TakeOperator(",")) break;
  }
  ExpectOperator("}");
  return Deepened(std::move(node));
}

}  // namespace liger::trainer::jinja
