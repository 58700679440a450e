#ifndef LIGER_WORKER_TRAINER_TEXT_JINJA_ERROR_H_
#define LIGER_WORKER_TRAINER_TEXT_JINJA_ERROR_H_

#include <stdexcept>
#include <string>

namespace liger::trainer::jinja {

// What goes wrong in a template, with the line of the template (1-based; 0
// until the interpreter adds it). ChatTemplate turns it into a TrainerError.
class TemplateError : public std::runtime_error {
 public:
  enum class Kind {
    kSyntax,       // not Jinja
    kUnsupported,  // Jinja, but not implemented here
    kRuntime,      // the data does not fit the template
    kRaised,       // the template called raise_exception
    kBound,        // a rendering takes more than is allowed (docs/models.md)
  };
  TemplateError(Kind kind, int line, const std::string& message)
      : std::runtime_error(message), kind_(kind), line_(line) {}

  Kind kind() const { return kind_; }
  int line() const { return line_; }
  void set_line(int line) { line_ = line; }

 private:
  Kind kind_;
  int line_;
};

inline TemplateError RuntimeError(const std::string& message) {
  return TemplateError(TemplateError::Kind::kRuntime, 0, message);
}
inline TemplateError BeyondBound(const std::string& message) {
  return TemplateError(TemplateError::Kind::kBound, 0, message);
}
inline TemplateError Unsupported(const std::string& message, int line = 0) {
  return TemplateError(TemplateError::Kind::kUnsupported, line, message + " is not implemented");
}

}  // namespace liger::trainer::jinja

#endif  // LIGER_WORKER_TRAINER_TEXT_JINJA_ERROR_H_
