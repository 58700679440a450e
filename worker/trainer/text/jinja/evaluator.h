#ifndef LIGER_WORKER_TRAINER_TEXT_JINJA_EVALUATOR_H_
#define LIGER_WORKER_TRAINER_TEXT_JINJA_EVALUATOR_H_

#include "worker/trainer/text/jinja/ast.h"
#include "worker/trainer/text/jinja/scope.h"

namespace liger::trainer::jinja {

// Bounds on one rendering. A conversation of a thousand turns takes some
// ten thousand steps; a million take a few seconds.
struct Budget {
  static constexpr int64_t kSteps = 1'000'000;
  static constexpr int kCallDepth = 50;
  int64_t steps = 0;
  int call_depth = 0;

  void Step();
};

// The value of an expression. An error gets the expression's line.
Value Evaluate(const Expr& expr, const Scope& scope, Budget* budget);

// That of a call, whose keyword argument `caller` is this function.
Value EvaluateCall(const Expr& call, const Value& caller, const Scope& scope, Budget* budget);

// `filters`, a chain of kFilter whose innermost input is missing, over `input`.
Value ApplyFilters(const Expr& filters, Value input, const Scope& scope, Budget* budget);

}  // namespace liger::trainer::jinja

#endif  // LIGER_WORKER_TRAINER_TEXT_JINJA_EVALUATOR_H_
