#include "worker/trainer/text/jinja/parser.h"

#include <initializer_list>

#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/expression_parser.h"

namespace liger::trainer::jinja {
namespace {

// Statements on top of the expression grammar.
class Parser : public ExpressionParser {
 public:
  explicit Parser(const std::string& source) : ExpressionParser(Tokenize(source)) {}

  Body ParseTemplate() {
    Body body = ParseBody({});
    if (Peek().type != TokenType::kEnd) Fail("unexpected {% " + Peek().text + " %}");
    return body;
  }

 private:
  std::unique_ptr<Stmt> Make(Stmt::Kind kind) const {
    auto stmt = std::make_unique<Stmt>();
    stmt->kind = kind;
    stmt->line = Peek().line;
    return stmt;
  }

  void EndBlock() {
    if (Peek().type != TokenType::kBlockEnd) Fail("expected '%}', got '" + Peek().text + "'");
    Next();
  }

  // Statements up to a block that starts with one of `ends`, whose name is next.
  Body ParseBody(std::initializer_list<std::string_view> ends) {
    const Depth depth(this);
    Body body;
    const int line = Peek().line;
    while (Peek().type != TokenType::kEnd) {
      if (Peek().type == TokenType::kData) {
        body.push_back(Make(Stmt::Kind::kText));
        body.back()->text = Next().text;
      } else if (Peek().type == TokenType::kVariableBegin) {
        body.push_back(ParseOutput());
      } else {
        Next();  // {%
        for (const std::string_view end : ends) {
          if (AtName(end)) return body;
        }
        body.push_back(ParseStatement());
      }
    }
    if (ends.size() > 0) {
      throw TemplateError(TemplateError::Kind::kSyntax, line,
                          "{% " + std::string(*(ends.end() - 1)) + " %} is missing");
    }
    return body;
  }

  std::unique_ptr<Stmt> ParseOutput() {
    Next();
    auto stmt = Make(Stmt::Kind::kOutput);
    stmt->expr = ParseTuple(true);
    if (Peek().type != TokenType::kVariableEnd) Fail("expected '}}', got '" + Peek().text + "'");
    Next();
    return stmt;
  }

  std::unique_ptr<Stmt> ParseStatement() {
    const int line = Peek().line;
    const std::string name = ExpectName();
    if (name == "if") return ParseIf();
    if (name == "for") return ParseFor();
    if (name == "set") return ParseSet();
    if (name == "macro") return ParseMacro();
    if (name == "generation") return ParseGeneration();
    if (name == "break" || name == "continue") return ParseJump(name);
    static constexpr std::string_view kKnown[] = {"include", "import",    "from",   "extends",
                                                  "block",   "call",      "filter", "with",
                                                  "do",      "autoescape"};
    for (const std::string_view known : kKnown) {
      if (name == known) throw Unsupported("the tag {% " + name + " %}", line);
    }
    throw TemplateError(TemplateError::Kind::kSyntax, line, "unexpected {% " + name + " %}");
  }

  std::unique_ptr<Stmt> ParseIf() {
    auto stmt = Make(Stmt::Kind::kIf);
    stmt->expr = ParseTuple(true);
    EndBlock();
    stmt->body = ParseBody({"elif", "else", "endif"});
    if (TakeName("elif")) {
      const Depth depth(this);
      stmt->otherwise.push_back(ParseIf());
    } else {
      if (TakeName("else")) {
        EndBlock();
        stmt->otherwise = ParseBody({"endif"});
      }
      Next();  // endif
      EndBlock();
    }
    return stmt;
  }

  std::unique_ptr<Stmt> ParseFor() {
    auto stmt = Make(Stmt::Kind::kFor);
    stmt->target = ParseTarget();
    if (!stmt->target.attribute.empty()) Fail("a for loop cannot assign to an attribute");
    if (!TakeName("in")) Fail("expected 'in'");
    stmt->expr = ParseTuple(false);
    if (TakeName("if")) stmt->filter = ParseExpression();
    if (AtName("recursive")) throw Unsupported("a recursive for loop", Peek().line);
    EndBlock();
    ++loops_;
    stmt->body = ParseBody({"else", "endfor"});
    --loops_;
    if (TakeName("else")) {
      EndBlock();
      stmt->otherwise = ParseBody({"endfor"});
    }
    Next();  // endfor
    EndBlock();
    return stmt;
  }

  Target ParseTarget() {
    Target target;
    const bool parenthesized = TakeOperator("(");
    target.names.push_back(ExpectName());
    if (!parenthesized && TakeOperator(".")) {
      target.attribute = ExpectName();
      return target;
    }
    while (TakeOperator(",")) {
      target.unpacks = true;
      if (Peek().type == TokenType::kName && !AtName("in")) target.names.push_back(ExpectName());
    }
    if (parenthesized) ExpectOperator(")");
    return target;
  }

  std::unique_ptr<Stmt> ParseSet() {
    auto stmt = Make(Stmt::Kind::kSet);
    stmt->target = ParseTarget();
    if (TakeOperator("=")) {
      stmt->expr = ParseTuple(true);
      EndBlock();
      return stmt;
    }
    stmt->kind = Stmt::Kind::kSetBlock;
    stmt->filter = ParseFilters(nullptr);
    EndBlock();
    stmt->body = ParseBody({"endset"});
    Next();
    EndBlock();
    return stmt;
  }

  std::unique_ptr<Stmt> ParseMacro() {
    auto stmt = Make(Stmt::Kind::kMacro);
    stmt->text = ExpectName();
    ExpectOperator("(");
    while (!AtOperator(")")) {
      stmt->parameters.push_back(ExpectName());
      if (TakeOperator("=")) {
        stmt->defaults.push_back(ParseExpression());
      } else if (!stmt->defaults.empty()) {
        Fail("a parameter without a default follows one with a default");
      }
      if (!TakeOperator(",")) break;
    }
    ExpectOperator(")");
    EndBlock();
    const int loops = loops_;
    loops_ = 0;
    stmt->body = ParseBody({"endmacro"});
    loops_ = loops;
    Next();
    if (Peek().type == TokenType::kName) Next();  // {% endmacro name %}
    EndBlock();
    return stmt;
  }

  std::unique_ptr<Stmt> ParseGeneration() {
    auto stmt = Make(Stmt::Kind::kGeneration);
    EndBlock();
    stmt->body = ParseBody({"endgeneration"});
    Next();
    EndBlock();
    return stmt;
  }

  std::unique_ptr<Stmt> ParseJump(const std::string& name) {
    if (loops_ == 0) Fail("{% " + name + " %} stands outside of a loop");
    auto stmt = Make(name == "break" ? Stmt::Kind::kBreak : Stmt::Kind::kContinue);
    EndBlock();
    return stmt;
  }

  int loops_ = 0;
};

}  // namespace

Body Parse(const std::string& source) { return Parser(source).ParseTemplate(); }

}  // namespace liger::trainer::jinja
