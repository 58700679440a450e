#include "worker/trainer/text/jinja/interpreter.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "worker/trainer/text/jinja/builtins.h"
#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/evaluator.h"
#include "worker/trainer/text/jinja/meter.h"
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
    top_ = NewScope(scope);
    Execute(body, top_, &rendered.text);
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
    const Meter::Nesting nesting;
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
        return Loop(stmt, Eval(*stmt.expr, scope), 0, scope, out);
      case Stmt::Kind::kWith:
        return With(stmt, scope, out);
      case Stmt::Kind::kSet:
        Assign(stmt.target, Eval(*stmt.expr, scope), scope);
        break;
      case Stmt::Kind::kSetBlock:
        return SetBlock(stmt, scope);
      case Stmt::Kind::kMacro:
        with_macros_.push_back(scope);
        scope->Set(stmt.text, MacroFunction(stmt, scope));
        break;
      case Stmt::Kind::kCall:
        Write(ToString(EvaluateCall(*stmt.expr, MacroFunction(stmt, scope), *scope, &budget_)),
              out);
        break;
      case Stmt::Kind::kFilter:
        return FilterBlock(stmt, scope, out);
      case Stmt::Kind::kGeneration:
        return Generation(stmt, scope, out);
      case Stmt::Kind::kBlock:
        if (stmt.is_required) throw RuntimeError("Required block '" + stmt.text + "' not found");
        // It sees the template's variables, and with "scoped" those around it.
        return Execute(stmt.body, NewScope(stmt.is_scoped ? scope : top_), out);
      case Stmt::Kind::kLoad:  // as in transformers' Jinja, whose environment has no loader
        throw Unsupported("loading another template with {% " + stmt.text + " %}");
      case Stmt::Kind::kBreak:
        return Flow::kBreak;
      case Stmt::Kind::kContinue:
        return Flow::kContinue;
    }
    return Flow::kNormal;
  }

  Value Eval(const Expr& expr, const ScopePtr& scope) { return Evaluate(expr, *scope, &budget_); }

  void Write(const std::string& text, std::string* out) {
    Meter::RequireText(out->size() + text.size());
    out->append(text);
  }

  void Assign(const Target& target, const Value& value, const ScopePtr& scope) {
    if (!target.attribute.empty()) return AssignAttribute(target, value, scope);
    if (!target.unpacks) return scope->Set(target.name, value);
    RequireDefined(value);
    const List items = Iterate(value);
    if (items.size() != target.parts.size()) {
      throw RuntimeError("expected " + std::to_string(target.parts.size()) +
                         " values to unpack, got " + std::to_string(items.size()));
    }
    for (size_t i = 0; i < items.size(); ++i) Assign(target.parts[i], items[i], scope);
  }

  void AssignAttribute(const Target& target, const Value& value, const ScopePtr& scope) {
    const Value* object = scope->Find(target.name);
    Namespace* ns = object == nullptr ? nullptr : object->AsNamespace();
    if (ns == nullptr) {
      throw RuntimeError("cannot assign attribute on non-namespace object " + target.name);
    }
    if (target.attribute.starts_with('_')) ThrowUnderscore(target.attribute);
    ns->attributes.Set(Value(target.attribute), value);
  }

  Flow SetBlock(const Stmt& stmt, const ScopePtr& scope) {
    Flow flow = Flow::kNormal;
    Value value(Capture(stmt.body, NewScope(scope), &flow));
    if (flow != Flow::kNormal) return flow;  // a {% break %}: what was captured is lost
    if (stmt.filter) value = ApplyFilters(*stmt.filter, std::move(value), *scope, &budget_);
    Assign(stmt.target, value, scope);
    return Flow::kNormal;
  }

  Flow FilterBlock(const Stmt& stmt, const ScopePtr& scope, std::string* out) {
    Flow flow = Flow::kNormal;
    Value captured(Capture(stmt.body, NewScope(scope), &flow));
    if (flow != Flow::kNormal) return flow;
    const Value filtered = ApplyFilters(*stmt.filter, std::move(captured), *scope, &budget_);
    if (filtered.AsString() == nullptr) {
      throw RuntimeError("a filter block needs a string, and its filter gives '" +
                         filtered.TypeName() + "'");
    }
    Write(*filtered.AsString(), out);
    return Flow::kNormal;
  }

  // What `body` writes, apart from the output and its spans; `flow` is how it ended.
  std::string Capture(const Body& body, const ScopePtr& scope, Flow* flow) {
    return CaptureWith([&](std::string* text) { *flow = Execute(body, scope, text); });
  }
  template <typename Run>
  std::string CaptureWith(Run run) {
    std::string text;
    auto* const spans = std::exchange(spans_, nullptr);
    run(&text);
    spans_ = spans;
    return text;
  }

  Flow Generation(const Stmt& stmt, const ScopePtr& scope, std::string* out) {
    const size_t begin = out->size();
    const Flow flow = Execute(stmt.body, NewScope(scope), out);
    if (spans_ != nullptr) spans_->emplace_back(begin, out->size());
    return flow;
  }

  Flow With(const Stmt& stmt, const ScopePtr& scope, std::string* out) {
    const ScopePtr inner = NewScope(scope);
    std::vector<Value> values;
    for (const ExprPtr& value : stmt.values) values.push_back(Eval(*value, scope));
    for (size_t i = 0; i < values.size(); ++i) Assign(stmt.targets[i], values[i], inner);
    return Execute(stmt.body, inner, out);
  }

  // A for loop over `over`, `depth` calls of loop() deep.
  Flow Loop(const Stmt& stmt, const Value& over, int64_t depth, const ScopePtr& scope,
            std::string* out) {
    const List items = LoopItems(stmt, over, scope);
    if (items.empty()) return Execute(stmt.otherwise, NewScope(scope), out);
    const auto changed = std::make_shared<std::pair<bool, Value>>(false, Value());
    for (size_t i = 0; i < items.size(); ++i) {
      budget_.Step();
      const ScopePtr inner = NewScope(scope);
      Assign(stmt.target, items[i], inner);
      inner->Set("loop", LoopVariable(stmt, items, i, depth, changed, scope));
      const Flow flow = Execute(stmt.body, inner, out);
      if (flow == Flow::kBreak) {
        if (Generator* generator = over.AsGenerator()) generator->LeaveEarly();
        break;
      }
    }
    return Flow::kNormal;
  }

  // loop(items) of a recursive loop.
  Value Recurse(const Stmt& stmt, int64_t depth, const ScopePtr& scope, const Args& args) {
    if (!stmt.recursive) {
      throw RuntimeError("The loop must have the 'recursive' marker to be called recursively.");
    }
    if (args.positional.size() != 1 || !args.keyword.empty()) {
      throw RuntimeError("loop() takes one argument");
    }
    CallDepth deeper(&budget_);
    return Value(CaptureWith(
        [&](std::string* text) { Loop(stmt, args.positional[0], depth + 1, scope, text); }));
  }

  // With a filter ("for x in xs if x") the loop counts what passes.
  List LoopItems(const Stmt& stmt, const Value& over, const ScopePtr& scope) {
    List items = Iterate(over);
    if (!stmt.filter) return items;
    List kept;
    for (Value& item : items) {
      const ScopePtr inner = NewScope(scope);
      Assign(stmt.target, item, inner);
      if (Eval(*stmt.filter, inner).Truthy()) kept.push_back(std::move(item));
    }
    return kept;
  }

  // `loop`, which does not outlive this.
  Value LoopVariable(const Stmt& stmt, const List& items, size_t i, int64_t depth,
                     const std::shared_ptr<std::pair<bool, Value>>& changed,
                     const ScopePtr& scope) {
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
    add("depth", Value(depth + 1));
    add("depth0", Value(depth));
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
    return Value::MakeFunction(
        "loop",
        [this, &stmt, depth, scope](const Args& args) { return Recurse(stmt, depth, scope, args); },
        std::move(loop));
  }

  Value MacroFunction(const Stmt& stmt, const ScopePtr& scope) {
    List names;
    for (const std::string& name : stmt.parameters) names.emplace_back(name);
    Dict attributes;
    attributes.Set(Value("name"), Value(stmt.text));
    attributes.Set(Value("arguments"), Value::MakeTuple(std::move(names)));
    attributes.Set(Value("catch_kwargs"), Value(stmt.uses_kwargs));
    attributes.Set(Value("catch_varargs"), Value(stmt.uses_varargs));
    attributes.Set(Value("caller"), Value(stmt.uses_caller));
    return Value::MakeFunction(
        stmt.text, [this, &stmt, scope](const Args& args) { return CallMacro(stmt, scope, args); },
        std::move(attributes), /*is_macro=*/true);
  }

  Value CallMacro(const Stmt& macro, const ScopePtr& defined_in, const Args& args) {
    CallDepth deeper(&budget_);
    const ScopePtr scope = NewScope(defined_in);
    BindArguments(macro, args, scope);
    Flow flow = Flow::kNormal;  // macros end no loop
    return Value(Capture(macro.body, scope, &flow));
  }

  // As jinja2.runtime.Macro: positional arguments, then keyword arguments for the parameters that
  // are left, then caller, and what nobody takes in kwargs and varargs if the body reads them.
  void BindArguments(const Stmt& macro, const Args& args, const ScopePtr& scope) {
    auto keyword = args.keyword;
    const auto take = [&](const std::string& name) -> std::optional<Value> {
      const auto it = std::find_if(keyword.begin(), keyword.end(),
                                   [&](const auto& given) { return given.first == name; });
      if (it == keyword.end()) return std::nullopt;
      Value value = it->second;
      keyword.erase(it);
      return value;
    };
    std::vector<std::optional<Value>> given(macro.parameters.size());
    for (size_t i = 0; i < given.size(); ++i) {
      given[i] = i < args.positional.size() ? args.positional[i] : take(macro.parameters[i]);
    }
    if (macro.uses_caller) {
      const std::optional<Value> caller = take("caller");
      scope->Set("caller", caller ? *caller : Value::MakeUndefined("No caller defined"));
    }
    if (macro.uses_kwargs) {
      Dict kwargs;
      for (auto& [name, value] : keyword) kwargs.items.emplace_back(name, std::move(value));
      scope->Set("kwargs", Value(std::move(kwargs)));
    } else if (!keyword.empty()) {
      throw RuntimeError("macro '" + macro.text + "' takes no keyword argument '" +
                         keyword.front().first + "'");
    }
    if (macro.uses_varargs) {
      const size_t taken = std::min(given.size(), args.positional.size());
      scope->Set("varargs", Value::MakeTuple({args.positional.begin() + static_cast<int64_t>(taken),
                                              args.positional.end()}));
    } else if (args.positional.size() > given.size()) {
      throw RuntimeError("macro '" + macro.text + "' takes not more than " +
                         std::to_string(given.size()) + " argument(s)");
    }
    SetParameters(macro, given, scope);
  }

  // Defaults see the parameters before them.
  void SetParameters(const Stmt& macro, const std::vector<std::optional<Value>>& given,
                     const ScopePtr& scope) {
    const size_t required = macro.parameters.size() - macro.defaults.size();
    for (size_t i = 0; i < given.size(); ++i) {
      const std::string& name = macro.parameters[i];
      if (given[i]) {
        scope->Set(name, *given[i]);
      } else if (i >= required) {
        scope->Set(name, Eval(*macro.defaults[i - required], scope));
      } else {
        scope->Set(name, Value::MakeUndefined("parameter '" + name + "' was not provided"));
      }
    }
  }

  // One more call of a macro or of loop().
  class CallDepth {
   public:
    explicit CallDepth(Budget* budget) : budget_(budget) {
      if (budget->call_depth >= Budget::kCallDepth) {
        throw BeyondBound("macros or loops call too deeply");
      }
      ++budget->call_depth;
    }
    ~CallDepth() { --budget_->call_depth; }
    CallDepth(const CallDepth&) = delete;
    CallDepth& operator=(const CallDepth&) = delete;

   private:
    Budget* const budget_;
  };

  Budget budget_;
  ScopePtr top_;
  std::vector<std::pair<size_t, size_t>>* spans_ = nullptr;
  std::vector<std::weak_ptr<Scope>> with_macros_;
};

}  // namespace

Rendered Render(const Body& body, const Dict& variables) {
  const Meter meter;
  return Interpreter().Run(body, variables);
}

}  // namespace liger::trainer::jinja
