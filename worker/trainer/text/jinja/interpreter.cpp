#include "worker/trainer/text/jinja/interpreter.h"

#include <algorithm>
#include <memory>

#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/evaluator.h"
#include "worker/trainer/text/jinja/strings.h"

namespace liger::trainer::jinja {
namespace {

using ScopePtr = std::shared_ptr<Scope>;

// How a body ended.
enum class Flow { kNormal, kBreak, kContinue };

class Interpreter {
 public:
  Rendered Run(const Body& body, const Dict& variables) {
    const auto scope = NewScope(nullptr);
    for (const auto& [name, value] : variables.items) scope->Set(*name.AsString(), value);
    Rendered rendered;
    spans_ = &rendered.generation_spans;
    // Assignments of the template go to a scope of their own, over the variables.
    Execute(body, NewScope(scope), &rendered.text);
    return rendered;
  }

  ~Interpreter() {
    // Macros refer to the scopes that hold them.
    for (const std::weak_ptr<Scope>& scope : with_macros_) {
      if (const ScopePtr alive = scope.lock()) alive->Clear();
    }
  }

 private:
  static ScopePtr NewScope(ScopePtr parent) { return std::make_shared<Scope>(std::move(parent)); }

  Flow Execute(const Body& body, const ScopePtr& scope, std::string* out) {
    for (const auto& stmt : body) {
      const Flow flow = ExecuteWithLine(*stmt, scope, out);
      if (flow != Flow::kNormal) return flow;
    }
    return Flow::kNormal;
  }

  Flow ExecuteWithLine(const Stmt& stmt, const ScopePtr& scope, std::string* out) {
    try {
      return ExecuteOne(stmt, scope, out);
    } catch (TemplateError& error) {
      if (error.line() == 0) error.set_line(stmt.line);
      throw;
    }
  }

  Flow ExecuteOne(const Stmt& stmt, const ScopePtr& scope, std::string* out) {
    budget_.Step();
    switch (stmt.kind) {
      case Stmt::Kind::kText:
        Write(stmt.text, out);
        break;
      case Stmt::Kind::kOutput:
        Write(ToString(Eval(*stmt.expr, scope)), out);
        break;
      case Stmt::Kind::kIf:
        return Execute(Eval(*stmt.expr, scope).Truthy() ? stmt.body : stmt.otherwise, scope, out);
      case Stmt::Kind::kFor:
        return For(stmt, scope, out);
      case Stmt::Kind::kSet:
        Assign(stmt.target, Eval(*stmt.expr, scope), scope);
        break;
      case Stmt::Kind::kSetBlock:
        SetBlock(stmt, scope);
        break;
      case Stmt::Kind::kMacro:
        DefineMacro(stmt, scope);
        break;
      case Stmt::Kind::kGeneration:
        return Generation(stmt, scope, out);
      case Stmt::Kind::kBreak:
        return Flow::kBreak;
      case Stmt::Kind::kContinue:
        return Flow::kContinue;
    }
    return Flow::kNormal;
  }

  Value Eval(const Expr& expr, const ScopePtr& scope) { return Evaluate(expr, *scope, &budget_); }

  void Write(const std::string& text, std::string* out) {
    if (out->size() + text.size() > Budget::kOutputBytes) {
      throw RuntimeError("the template writes more than 256 MiB");
    }
    out->append(text);
  }

  void Assign(const Target& target, const Value& value, const ScopePtr& scope) {
    if (!target.attribute.empty()) return AssignAttribute(target, value, scope);
    if (!target.unpacks) return scope->Set(target.names[0], value);
    const List items = Iterate(value);
    if (items.size() != target.names.size()) {
      throw RuntimeError("expected " + std::to_string(target.names.size()) +
                         " values to unpack, got " + std::to_string(items.size()));
    }
    for (size_t i = 0; i < items.size(); ++i) scope->Set(target.names[i], items[i]);
  }

  void AssignAttribute(const Target& target, const Value& value, const ScopePtr& scope) {
    const Value* object = scope->Find(target.names[0]);
    Namespace* ns = object == nullptr ? nullptr : object->AsNamespace();
    if (ns == nullptr) {
      throw RuntimeError("cannot assign attribute on non-namespace object " + target.names[0]);
    }
    ns->attributes.Set(Value(target.attribute), value);
  }

  void SetBlock(const Stmt& stmt, const ScopePtr& scope) {
    Value value(Capture(stmt.body, NewScope(scope)));
    if (stmt.filter) value = ApplyFilters(*stmt.filter, std::move(value), *scope, &budget_);
    Assign(stmt.target, value, scope);
  }

  // What `body` writes, apart from the output and its spans.
  std::string Capture(const Body& body, const ScopePtr& scope) {
    std::string text;
    auto* const spans = spans_;
    spans_ = nullptr;
    Execute(body, scope, &text);
    spans_ = spans;
    return text;
  }

  Flow Generation(const Stmt& stmt, const ScopePtr& scope, std::string* out) {
    const size_t begin = out->size();
    const Flow flow = Execute(stmt.body, NewScope(scope), out);
    if (spans_ != nullptr) spans_->emplace_back(begin, out->size());
    return flow;
  }

  Flow For(const Stmt& stmt, const ScopePtr& scope, std::string* out) {
    const List items = LoopItems(stmt, scope);
    if (items.empty()) return Execute(stmt.otherwise, NewScope(scope), out);
    const auto changed = std::make_shared<std::pair<bool, Value>>(false, Value());
    ++loop_depth_;
    for (size_t i = 0; i < items.size(); ++i) {
      budget_.Step();
      const ScopePtr inner = NewScope(scope);
      Assign(stmt.target, items[i], inner);
      inner->Set("loop", LoopVariable(items, i, changed));
      const Flow flow = Execute(stmt.body, inner, out);
      if (flow == Flow::kBreak) break;
    }
    --loop_depth_;
    return Flow::kNormal;
  }

  // With a filter ("for x in xs if x") the loop counts what passes.
  List LoopItems(const Stmt& stmt, const ScopePtr& scope) {
    List items = Iterate(Eval(*stmt.expr, scope));
    if (!stmt.filter) return items;
    List kept;
    for (Value& item : items) {
      const ScopePtr inner = NewScope(scope);
      Assign(stmt.target, item, inner);
      if (Eval(*stmt.filter, inner).Truthy()) kept.push_back(std::move(item));
    }
    return kept;
  }

  Value LoopVariable(const List& items, size_t i,
                     const std::shared_ptr<std::pair<bool, Value>>& changed) const {
    const auto index = static_cast<int64_t>(i), n = static_cast<int64_t>(items.size());
    Dict loop;
    const auto add = [&](const char* name, Value value) {
      loop.items.emplace_back(name, std::move(value));
    };
    add("index", Value(index + 1));
    add("index0", Value(index));
    add("revindex", Value(n - index));
    add("revindex0", Value(n - index - 1));
    add("first", Value(i == 0));
    add("last", Value(index + 1 == n));
    add("length", Value(n));
    add("depth", Value(loop_depth_));
    add("depth0", Value(loop_depth_ - 1));
    add("previtem", i == 0 ? Value::MakeUndefined("there is no previous item") : items[i - 1]);
    add("nextitem", index + 1 == n ? Value::MakeUndefined("there is no next item") : items[i + 1]);
    add("cycle", Value::MakeFunction("cycle", [i](const Args& args) {
          if (args.positional.empty()) throw RuntimeError("no items for cycling given");
          return args.positional[i % args.positional.size()];
        }));
    add("changed", Value::MakeFunction("changed", [changed](const Args& args) {
          Value now = Value::MakeTuple(args.positional);
          if (changed->first && Equal(changed->second, now)) return Value(false);
          *changed = {true, std::move(now)};
          return Value(true);
        }));
    return Value(std::move(loop));
  }

  void DefineMacro(const Stmt& stmt, const ScopePtr& scope) {
    with_macros_.push_back(scope);
    scope->Set(stmt.text, Value::MakeFunction(stmt.text, [this, &stmt, scope](const Args& args) {
                 return CallMacro(stmt, scope, args);
               }));
  }

  Value CallMacro(const Stmt& macro, const ScopePtr& defined_in, const Args& args) {
    if (args.positional.size() > macro.parameters.size()) {
      throw RuntimeError("macro '" + macro.text + "' takes not more than " +
                         std::to_string(macro.parameters.size()) + " argument(s)");
    }
    if (++budget_.call_depth > Budget::kCallDepth) throw RuntimeError("macros call too deeply");
    const ScopePtr scope = NewScope(defined_in);
    for (const auto& [name, value] : args.keyword) {
      if (std::find(macro.parameters.begin(), macro.parameters.end(), name) ==
          macro.parameters.end()) {
        throw RuntimeError("macro '" + macro.text + "' takes no keyword argument '" + name + "'");
      }
    }
    const size_t required = macro.parameters.size() - macro.defaults.size();
    for (size_t i = 0; i < macro.parameters.size(); ++i) {
      const std::string& name = macro.parameters[i];
      if (const Value* given = args.Find(i, name.c_str())) {
        scope->Set(name, *given);
      } else if (i >= required) {
        scope->Set(name, Eval(*macro.defaults[i - required], scope));
      } else {
        scope->Set(name, Value::MakeUndefined("parameter '" + name + "' was not provided"));
      }
    }
    const int64_t depth = std::exchange(loop_depth_, 0);
    Value result(Capture(macro.body, scope));
    loop_depth_ = depth;
    --budget_.call_depth;
    return result;
  }

  Budget budget_;
  int64_t loop_depth_ = 0;
  std::vector<std::pair<size_t, size_t>>* spans_ = nullptr;
  std::vector<std::weak_ptr<Scope>> with_macros_;
};

}  // namespace

Rendered Render(const Body& body, const Dict& variables) {
  return Interpreter().Run(body, variables);
}

}  // namespace liger::trainer::jinja
