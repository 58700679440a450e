#include "worker/trainer/text/jinja/evaluator.h"

#include "worker/trainer/text/jinja/builtins.h"
#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/signatures.h"
#include "worker/trainer/text/jinja/strings.h"

namespace liger::trainer::jinja {
namespace {

class Evaluator {
 public:
  Evaluator(const Scope& scope, Budget* budget) : scope_(scope), budget_(budget) {}

  // What ApplyFilters puts where a filter's input is missing.
  const Value* input = nullptr;
  // What the call `caller_of` gets as its keyword argument caller; null for none.
  const Value* caller = nullptr;
  const Expr* caller_of = nullptr;

  Value Run(const Expr& e) const {
    const Meter::Nesting nesting;
    budget_->Step();
    switch (e.kind) {
      case Expr::Kind::kConstant:
        return e.value;
      case Expr::Kind::kName:
        return Name(e.name);
      case Expr::Kind::kList:
        return Value(RunAll(e, 0));
      case Expr::Kind::kTuple:
        return Value::MakeTuple(RunAll(e, 0));
      case Expr::Kind::kDict:
        return RunDict(e);
      case Expr::Kind::kAttribute:
        return GetAttribute(Run(*e.children[0]), e.name);
      case Expr::Kind::kIndex:
        return GetItem(Run(*e.children[0]), Run(*e.children[1]));
      case Expr::Kind::kSlice:
        return GetSlice(Run(*e.children[0]), RunOptional(e.children[1]), RunOptional(e.children[2]),
                        RunOptional(e.children[3]));
      case Expr::Kind::kCall:
        return Call(e);
      case Expr::Kind::kFilter:
        return Filter(e);
      case Expr::Kind::kTest:
        return Test(e);
      case Expr::Kind::kUnary:
        return Unary(e);
      case Expr::Kind::kBinary:
        return Binary(e);
      case Expr::Kind::kCompare:
        return Compare(e);
      case Expr::Kind::kCondition:
        return Condition(e);
    }
    return Value();
  }

  // Errors get the line of the innermost expression that they pass.
  Value RunWithLine(const Expr& e) const {
    try {
      return Run(e);
    } catch (TemplateError& error) {
      if (error.line() == 0) error.set_line(e.line);
      throw;
    }
  }

 private:
  Value Name(const std::string& name) const {
    if (const Value* found = scope_.Find(name)) return *found;
    if (const Value* global = FindGlobal(name)) return *global;
    if (name == "self") throw Unsupported("self");  // the blocks of the template
    return Value::MakeUndefined("'" + name + "' is undefined");
  }

  List RunAll(const Expr& e, size_t from) const {
    List values;
    for (size_t i = from; i < e.children.size(); ++i) values.push_back(Run(*e.children[i]));
    return values;
  }

  Value RunOptional(const ExprPtr& e) const { return e ? Run(*e) : Value(); }

  Value RunDict(const Expr& e) const {
    Dict dict;
    for (size_t i = 0; i + 1 < e.children.size(); i += 2) {
      const Value key = Run(*e.children[i]);
      RequireHashable(key);
      dict.Set(key, Run(*e.children[i + 1]));
    }
    return Value(std::move(dict));
  }

  Value Filter(const Expr& e) const {
    const Builtin filter = FindFilter(e.name);
    if (filter == nullptr) throw Unsupported("the filter \"" + e.name + "\"");
    const Args args = BuiltinArgs(e);
    CheckFilterArguments(e.name, args);
    return filter(args);
  }

  Value Test(const Expr& e) const {
    const Builtin test = FindTest(e.name);
    if (test == nullptr) throw Unsupported("the test \"" + e.name + "\"");
    const Args args = BuiltinArgs(e);
    CheckTestArguments(e.name, args);
    return test(args);
  }

  Args BuiltinArgs(const Expr& e) const {
    Args args;
    args.positional.push_back(e.children[0] ? Run(*e.children[0]) : *input);
    for (Value& value : RunAll(e, 1)) args.positional.push_back(std::move(value));
    AddRest(e, &args);
    return args;
  }

  // All but the plain positional arguments.
  void AddRest(const Expr& e, Args* args) const {
    for (const auto& [name, value] : e.keyword) args->keyword.emplace_back(name, Run(*value));
    if (e.more) {
      const Value more = Run(*e.more);
      RequireDefined(more);
      for (Value& value : Iterate(more)) args->positional.push_back(std::move(value));
    }
    if (e.more_keyword) AddKeywords(Run(*e.more_keyword), args);
    // What a function may look at.
    for (const Value& value : args->positional) {
      if (const std::string* s = value.AsString()) Meter::Work(s->size() / 64);
      if (const Sequence* s = value.AsSequence()) Meter::Work(s->items.size() / 8);
    }
  }

  static void AddKeywords(const Value& more, Args* args) {
    RequireDefined(more);
    if (more.AsDict() == nullptr) {
      throw RuntimeError("argument after ** must be a mapping, not " + more.TypeName());
    }
    for (const auto& [key, value] : more.AsDict()->items) {
      if (key.AsString() == nullptr) throw RuntimeError("keywords must be strings");
      const std::string& name = *key.AsString();
      for (const auto& [given, unused] : args->keyword) {
        if (given == name) {
          throw RuntimeError("got multiple values for keyword argument '" + name + "'");
        }
      }
      args->keyword.emplace_back(name, value);
    }
  }

  Value Call(const Expr& e) const {
    const Value callee = Run(*e.children[0]);
    RequireDefined(callee);
    const Callable* function = callee.AsCallable();
    if (function == nullptr) {
      throw RuntimeError("'" + callee.TypeName() + "' object is not callable");
    }
    Args args{RunAll(e, 1), {}};
    AddRest(e, &args);
    if (caller != nullptr && &e == caller_of) {
      if (!function->is_macro) {
        throw RuntimeError(function->name + "() got an unexpected keyword argument 'caller'");
      }
      args.keyword.emplace_back("caller", *caller);
    }
    return function->call(args);
  }

  Value Unary(const Expr& e) const {
    const Value operand = Run(*e.children[0]);
    if (e.name == "not") return Value(!operand.Truthy());
    RequireDefined(operand);
    const bool minus = e.name == "-";
    if (operand.IsFloat()) return minus ? Value(-operand.AsDouble()) : operand;
    if (operand.AsLongInteger() || operand.IsInt()) {
      const std::string digits = Repr(operand);
      if (!minus) return operand;
      return Value::FromDigits(digits.starts_with('-') ? digits.substr(1) : "-" + digits);
    }
    if (!operand.IsNumber()) {
      throw RuntimeError("bad operand type for unary " + e.name + ": '" + operand.TypeName() + "'");
    }
    return Operate(e.name, Value(int64_t{0}), operand);
  }

  Value Binary(const Expr& e) const {
    Value left = Run(*e.children[0]);
    if (e.name == "and") return left.Truthy() ? Run(*e.children[1]) : left;
    if (e.name == "or") return left.Truthy() ? left : Run(*e.children[1]);
    return Operate(e.name, left, Run(*e.children[1]));
  }

  Value Compare(const Expr& e) const {
    Value left = Run(*e.children[0]);
    for (size_t i = 0; i < e.operators.size(); ++i) {
      Value right = Run(*e.children[i + 1]);
      if (!Holds(e.operators[i], left, right)) return Value(false);
      left = std::move(right);
    }
    return Value(true);
  }

  static bool Holds(const std::string& op, const Value& a, const Value& b) {
    if (op == "==") return Equal(a, b);
    if (op == "!=") return !Equal(a, b);
    if (op == "<") return Less(a, b);
    if (op == ">") return Less(b, a);
    if (op == "<=") return Less(a, b) || Equal(a, b);
    if (op == ">=") return Less(b, a) || Equal(a, b);
    return Contains(b, a) == (op == "in");
  }

  Value Condition(const Expr& e) const {
    if (Run(*e.children[0]).Truthy()) return Run(*e.children[1]);
    if (e.children[2]) return Run(*e.children[2]);
    return Value::MakeUndefined("the inline if-expression has no else and its condition is false");
  }

  const Scope& scope_;
  Budget* const budget_;
};

}  // namespace

void Budget::Step() {
  if (++steps > kSteps) throw BeyondBound("the template does not end: a million steps are done");
}

Value Evaluate(const Expr& expr, const Scope& scope, Budget* budget) {
  return Evaluator(scope, budget).RunWithLine(expr);
}

Value EvaluateCall(const Expr& call, const Value& caller, const Scope& scope, Budget* budget) {
  Evaluator evaluator(scope, budget);
  evaluator.caller = &caller;
  evaluator.caller_of = &call;
  return evaluator.RunWithLine(call);
}

Value ApplyFilters(const Expr& filters, Value input, const Scope& scope, Budget* budget) {
  Evaluator evaluator(scope, budget);
  evaluator.input = &input;
  return evaluator.RunWithLine(filters);
}

}  // namespace liger::trainer::jinja
