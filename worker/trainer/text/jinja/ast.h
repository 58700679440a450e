#ifndef LIGER_WORKER_TRAINER_TEXT_JINJA_AST_H_
#define LIGER_WORKER_TRAINER_TEXT_JINJA_AST_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "worker/trainer/text/jinja/value.h"

namespace liger::trainer::jinja {

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

// An expression. What `children` and `name` hold stands at each kind.
struct Expr {
  enum class Kind {
    kConstant,   // value
    kName,       // name
    kList,       // items
    kTuple,      // items
    kDict,       // key, value, key, value, ...
    kAttribute,  // object; name
    kIndex,      // object, subscript
    kSlice,      // object, start, stop, step; each but the object may be null
    kCall,       // callee, positional arguments; keyword
    kFilter,     // input (null in a block {% set %}), arguments; name, keyword
    kTest,       // input, arguments; name, keyword
    kUnary,      // operand; name is - + not
    kBinary,     // left, right; name is + - * / // % ** ~ and or
    kCompare,    // operands, one more than `operators`
    kCondition,  // condition, then, else (may be null)
  };
  Kind kind;
  int line;
  std::string name;
  Value value;
  std::vector<ExprPtr> children;
  std::vector<std::pair<std::string, ExprPtr>> keyword;
  ExprPtr more, more_keyword;  // of a call, filter or test: *more, **more_keyword; may be null
  std::vector<std::string> operators;
  int depth = 1;  // of expressions in one another, this one included
};

struct Stmt;
using Body = std::vector<std::unique_ptr<Stmt>>;

// Where {% for %} and {% set %} put values: a name, name.attribute, or "a, (b, c)".
struct Target {
  std::string name;
  std::string attribute;      // of `name`, a namespace; empty for none
  std::vector<Target> parts;  // of one that unpacks: one value each
  bool unpacks = false;
};

struct Stmt {
  enum class Kind {
    kText,        // text
    kOutput,      // expr
    kIf,          // expr, body, otherwise
    kFor,         // target, expr, filter (may be null), body, otherwise, recursive
    kWith,        // targets, values; body
    kSet,         // target, expr
    kSetBlock,    // target, body, filter (a chain of kFilter, may be null)
    kMacro,       // text is its name; parameters, defaults, body, uses_...
    kCall,        // expr is a kCall; parameters, defaults, body, uses_... of the caller
    kFilter,      // body, filter (a chain of kFilter)
    kGeneration,  // body
    kBlock,       // text is its name; body; is_required, is_scoped
    kLoad,        // text is the tag: include, import, from or extends
    kBreak,
    kContinue,
  };
  Kind kind;
  int line;
  std::string text;
  Target target;
  ExprPtr expr;
  ExprPtr filter;
  Body body;
  Body otherwise;
  std::vector<std::string> parameters;
  std::vector<ExprPtr> defaults;  // of the last parameters
  // Whether the body reads varargs, kwargs and caller, which a macro gets only then.
  bool uses_varargs = false, uses_kwargs = false, uses_caller = false;
  bool recursive = false;
  bool is_required = false, is_scoped = false;
  std::vector<Target> targets;
  std::vector<ExprPtr> values;
};

}  // namespace liger::trainer::jinja

#endif  // LIGER_WORKER_TRAINER_TEXT_JINJA_AST_H_
