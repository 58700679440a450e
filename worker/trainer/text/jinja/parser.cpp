#include "worker/trainer/text/jinja/parser.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/expression_parser.h"

namespace liger::trainer::jinja {
namespace {

// Statements on top of the expression grammar.
class Parser : public ExpressionParser {
 public:
  explicit Parser(const std::string& source) : ExpressionParser(Tokenize(source)) {}

  Body ParseTemplate() {
    Body body = ParseFrame({});
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

  // A body in which unknown filters fail at once, unless an {% if %} in it has them.
  Body ParseFrame(std::initializer_list<std::string_view> ends) {
    const size_t unknown = unknown_met();
    Body body = ParseBody(ends);
    RequireKnown(unknown);
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
    if (name == "with") return ParseWith();
    if (name == "call") return ParseCall();
    if (name == "filter") return ParseFilterBlock();
    if (name == "generation") return ParseGeneration();
    if (name == "block") return ParseBlock();
    if (name == "break" || name == "continue") return ParseJump(name);
    if (name == "include" || name == "import" || name == "from" || name == "extends") {
      return ParseLoad(name);
    }
    static constexpr std::string_view kKnown[] = {"do", "autoescape"};
    for (const std::string_view known : kKnown) {
      if (name == known) throw Unsupported("the tag {% " + name + " %}", line);
    }
    throw TemplateError(TemplateError::Kind::kSyntax, line, "unexpected {% " + name + " %}");
  }

  std::unique_ptr<Stmt> ParseIf() {
    auto stmt = Make(Stmt::Kind::kIf);
    const size_t unknown = unknown_met();
    stmt->expr = ParseTuple(/*with_condition=*/false);  // as in Jinja
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
    LeaveUnknownToTheRun(unknown);
    return stmt;
  }

  std::unique_ptr<Stmt> ParseFor() {
    auto stmt = Make(Stmt::Kind::kFor);
    stmt->target = ParseTarget();
    if (!stmt->target.attribute.empty()) Fail("a for loop cannot assign to an attribute");
    RequireNoLoop(stmt->target);
    if (!TakeName("in")) Fail("expected 'in'");
    stmt->expr = ParseTuple(false);
    const size_t unknown = unknown_met();
    if (TakeName("if")) stmt->filter = ParseExpression();
    RequireKnown(unknown);
    stmt->recursive = TakeName("recursive");
    EndBlock();
    ++loops_;
    stmt->body = ParseFrame({"else", "endfor"});
    --loops_;
    if (TakeName("else")) {
      EndBlock();
      stmt->otherwise = ParseFrame({"endfor"});
    }
    Next();  // endfor
    EndBlock();
    return stmt;
  }

  // {% block name scoped required %}, of which there is one of a name.
  std::unique_ptr<Stmt> ParseBlock() {
    auto stmt = Make(Stmt::Kind::kBlock);
    stmt->text = ExpectName();
    if (std::find(blocks_.begin(), blocks_.end(), stmt->text) != blocks_.end()) {
      Fail("block '" + stmt->text + "' defined twice");
    }
    blocks_.push_back(stmt->text);
    stmt->is_scoped = TakeName("scoped");
    stmt->is_required = TakeName("required");
    EndBlock();
    const int loops = std::exchange(loops_, 0);
    stmt->body = ParseFrame({"endblock"});
    loops_ = loops;
    const bool has_content = std::any_of(stmt->body.begin(), stmt->body.end(), [](const auto& s) {
      return s->kind != Stmt::Kind::kText ||
             s->text.find_first_not_of(" \n\t\r\v\f") != s->text.npos;
    });
    if (stmt->is_required && has_content) {
      Fail("Required blocks can only contain comments or whitespace");
    }
    Next();
    TakeName(stmt->text);
    EndBlock();
    return stmt;
  }

  void RequireNoLoop(const Target& target) const {
    if (target.name == "loop") Fail("can't assign to special loop variable in for-loop target");
    for (const Target& part : target.parts) RequireNoLoop(part);
  }

  // Of several: "a, b", without parentheses too.
  Target ParseTarget() {
    const Depth depth(this);
    Target first = ParseTargetPart(/*with_attribute=*/true);
    if (!first.attribute.empty() || !AtOperator(",")) return first;
    Target target;
    target.unpacks = true;
    target.parts.push_back(std::move(first));
    while (TakeOperator(",")) {
      if (!AtOperator("(") && Peek().type != TokenType::kName) break;
      target.parts.push_back(ParseTargetPart(/*with_attribute=*/false));
    }
    return target;
  }

  // A name, or what stands in parentheses.
  Target ParseTargetPart(bool with_attribute) {
    Target target;
    if (TakeOperator("(")) {
      target = ParseTarget();
      ExpectOperator(")");
      if (!target.attribute.empty()) Fail("can't assign to an attribute in parentheses");
      return target;
    }
    target.name = ExpectName();
    for (const char* constant : {"true", "false", "none", "True", "False", "None"}) {
      if (target.name == constant) Fail("can't assign to '" + target.name + "'");
    }
    if (with_attribute && TakeOperator(".")) target.attribute = ExpectName();
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
    const size_t unknown = unknown_met();
    stmt->filter = ParseFilters(nullptr);
    RequireKnown(unknown);
    EndBlock();
    stmt->body = ParseFrame({"endset"});
    Next();
    EndBlock();
    return stmt;
  }

  std::unique_ptr<Stmt> ParseMacro() {
    auto stmt = Make(Stmt::Kind::kMacro);
    stmt->text = ExpectName();
    ParseParameters(stmt.get());
    EndBlock();
    ParseMacroBody("endmacro", stmt.get());
    if (Peek().type == TokenType::kName) Next();  // {% endmacro name %}
    EndBlock();
    return stmt;
  }

  void ParseParameters(Stmt* stmt) {
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
    const auto& names = stmt->parameters;
    for (auto it = names.begin(); it != names.end(); ++it) {
      if (std::find(names.begin(), it, *it) != it) Fail("duplicate argument '" + *it + "'");
    }
    if (std::find(names.begin(), names.end(), "caller") != names.end()) {
      throw Unsupported("a parameter named caller", stmt->line);
    }
  }

  void ParseMacroBody(std::string_view end, Stmt* stmt) {
    const int loops = loops_;
    loops_ = 0;
    const size_t names = names_read();
    stmt->body = ParseFrame({end});
    const auto reads = [&](const char* name) {
      const auto& own = stmt->parameters;
      return HasRead(name, names) && std::find(own.begin(), own.end(), name) == own.end();
    };
    stmt->uses_varargs = reads("varargs");
    stmt->uses_kwargs = reads("kwargs");
    stmt->uses_caller = reads("caller");
    loops_ = loops;
    Next();
  }

  // {% call(parameters) macro(...) %}
  std::unique_ptr<Stmt> ParseCall() {
    auto stmt = Make(Stmt::Kind::kCall);
    stmt->text = "caller";
    if (AtOperator("(")) ParseParameters(stmt.get());
    stmt->expr = ParseExpression();
    if (stmt->expr->kind != Expr::Kind::kCall) Fail("expected call");
    EndBlock();
    ParseMacroBody("endcall", stmt.get());
    EndBlock();
    return stmt;
  }

  std::unique_ptr<Stmt> ParseFilterBlock() {
    auto stmt = Make(Stmt::Kind::kFilter);
    const size_t unknown = unknown_met();
    stmt->filter = ParseFilters(nullptr, /*starts_with_name=*/true);
    RequireKnown(unknown);
    EndBlock();
    stmt->body = ParseFrame({"endfilter"});
    Next();
    EndBlock();
    return stmt;
  }

  // The values do not see the names.
  std::unique_ptr<Stmt> ParseWith() {
    auto stmt = Make(Stmt::Kind::kWith);
    while (Peek().type != TokenType::kBlockEnd) {
      if (!stmt->targets.empty()) ExpectOperator(",");
      stmt->targets.push_back(ParseTarget());
      if (!stmt->targets.back().attribute.empty()) Fail("{% with %} cannot assign to an attribute");
      ExpectOperator("=");
      stmt->values.push_back(ParseExpression());
    }
    EndBlock();
    stmt->body = ParseFrame({"endwith"});
    Next();
    EndBlock();
    return stmt;
  }

  std::unique_ptr<Stmt> ParseGeneration() {
    auto stmt = Make(Stmt::Kind::kGeneration);
    EndBlock();
    const int loops = std::exchange(loops_, 0);  // a function of its own in transformers
    stmt->body = ParseFrame({"endgeneration"});
    loops_ = loops;
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

  // Only refused where it is reached: templates have such tags in branches that none takes.
  std::unique_ptr<Stmt> ParseLoad(const std::string& name) {
    auto stmt = Make(Stmt::Kind::kLoad);
    stmt->text = name;
    ParseExpression();
    if (name == "import") {
      RequireName("as");
      ExpectName();
    } else if (name == "from") {
      RequireName("import");
      do {
        ExpectName();
        if (TakeName("as")) ExpectName();
      } while (TakeOperator(","));
    } else if (name == "include" && TakeName("ignore")) {
      RequireName("missing");
    }
    if (name != "extends" && (TakeName("with") || TakeName("without"))) RequireName("context");
    EndBlock();
    return stmt;
  }

  void RequireName(const char* name) {
    if (!TakeName(name)) Fail("expected '" + std::string(name) + "', got '" + Peek().text + "'");
  }

  int loops_ = 0;
  std::vector<std::string> blocks_;
};

}  // namespace

Body Parse(const std::string& source) { return Parser(source).ParseTemplate(); }

}  // namespace liger::trainer::jinja
