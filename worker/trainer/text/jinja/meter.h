#ifndef LIGER_WORKER_TRAINER_TEXT_JINJA_METER_H_
#define LIGER_WORKER_TRAINER_TEXT_JINJA_METER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace liger::trainer::jinja {

struct Namespace;

// Bounds what one rendering uses, on the thread that renders: without them a template of three
// lines fills the memory. A conversation of a thousand turns stays below a hundredth of each.
// While no Meter exists, nothing is counted.
class Meter {
 public:
  static constexpr size_t kTextBytes = 16 << 20;   // of one text
  static constexpr size_t kLiveBytes = 128 << 20;  // of all texts, lists and dicts at a time
  static constexpr int64_t kWork = 100'000'000;    // items and bytes looked at, weighed
  static constexpr int kValueDepth = 500;          // lists in lists
  static constexpr int kNesting = 1500;            // expressions and statements in one another
  static constexpr size_t kNamespaces = 100'000;

  Meter();
  ~Meter();
  Meter(const Meter&) = delete;
  Meter& operator=(const Meter&) = delete;

  // Each throws TemplateError where the bound is passed. They do nothing without a Meter, but for
  // RequireText and RequireDepth, which hold always.
  static void Work(size_t units);
  static void RequireText(size_t bytes);
  static void RequireDepth(int depth);
  // Keeps it until the rendering ends, where its attributes go: they may lead back to it.
  static void Register(const std::shared_ptr<Namespace>& made);

  // Counts bytes as long as it lives.
  class Bytes {
   public:
    explicit Bytes(size_t bytes);
    ~Bytes();
    Bytes(const Bytes&) = delete;
    Bytes& operator=(const Bytes&) = delete;

   private:
    size_t counted_ = 0;
  };

  // One more expression or statement inside of others.
  class Nesting {
   public:
    Nesting();
    ~Nesting();
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;
  };

 private:
  static thread_local Meter* current_;
  static thread_local int64_t live_;

  Meter* const outer_;
  int64_t work_ = 0;
  int nesting_ = 0;
  std::vector<std::shared_ptr<Namespace>> namespaces_;
};

}  // namespace liger::trainer::jinja

#endif  // LIGER_WORKER_TRAINER_TEXT_JINJA_METER_H_
