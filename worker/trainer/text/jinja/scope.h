#ifndef LIGER_WORKER_TRAINER_TEXT_JINJA_SCOPE_H_
#define LIGER_WORKER_TRAINER_TEXT_JINJA_SCOPE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "worker/trainer/text/jinja/value.h"

namespace liger::trainer::jinja {

// Variables of a template, a loop iteration or a macro call, with what
// surrounds it. Shared: a macro keeps the scope that it was defined in.
class Scope : public std::enable_shared_from_this<Scope> {
 public:
  explicit Scope(std::shared_ptr<Scope> parent) : parent_(std::move(parent)) {}

  const Value* Find(const std::string& name) const {
    for (const auto& [key, value] : variables_) {
      if (key == name) return &value;
    }
    return parent_ ? parent_->Find(name) : nullptr;
  }

  void Set(const std::string& name, Value value) {
    for (auto& [key, old] : variables_) {
      if (key == name) {
        old = std::move(value);
        return;
      }
    }
    variables_.emplace_back(name, std::move(value));
  }

  // Breaks the cycle of a scope and the macros defined in it.
  void Clear() { variables_.clear(); }

 private:
  std::vector<std::pair<std::string, Value>> variables_;
  std::shared_ptr<Scope> parent_;
};

}  // namespace liger::trainer::jinja

#endif  // LIGER_WORKER_TRAINER_TEXT_JINJA_SCOPE_H_
