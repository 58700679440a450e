#include "worker/trainer/text/jinja/meter.h"

#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/value.h"

namespace liger::trainer::jinja {

thread_local Meter* Meter::current_ = nullptr;
thread_local int64_t Meter::live_ = 0;

Meter::Meter() : outer_(current_) {
  if (outer_ == nullptr) live_ = 0;
  current_ = this;
}

Meter::~Meter() {
  for (const auto& made : namespaces_) made->attributes.items.clear();
  current_ = outer_;
}

void Meter::Work(size_t units) {
  if (current_ == nullptr) return;
  current_->work_ += static_cast<int64_t>(units);
  if (current_->work_ > kWork) {
    throw BeyondBound("the template does too much: it looks at 100 million items and characters");
  }
}

void Meter::RequireText(size_t bytes) {
  if (bytes > kTextBytes) throw BeyondBound("the template makes a text of more than 16 MiB");
}

void Meter::RequireDepth(int depth) {
  if (depth > kValueDepth) throw BeyondBound("lists and dicts are nested too deeply");
}

void Meter::Register(const std::shared_ptr<Namespace>& made) {
  if (current_ == nullptr) return;
  if (current_->namespaces_.size() >= kNamespaces) {
    throw BeyondBound("the template makes more than 100000 namespaces");
  }
  current_->namespaces_.push_back(made);
}

Meter::Bytes::Bytes(size_t bytes) {
  if (current_ == nullptr) return;
  if (live_ + static_cast<int64_t>(bytes) > static_cast<int64_t>(kLiveBytes)) {
    throw BeyondBound("the template keeps more than 128 MiB of texts and lists");
  }
  live_ += static_cast<int64_t>(bytes);
  counted_ = bytes;
}

// What was counted is gone before the rendering that made it, on its thread.
Meter::Bytes::~Bytes() { live_ -= static_cast<int64_t>(counted_); }

Meter::Nesting::Nesting() {
  if (current_ == nullptr) return;
  if (current_->nesting_ >= kNesting) {
    throw BeyondBound(
        "the template is nested too deeply, or its macros and loops call too deeply");
  }
  ++current_->nesting_;
}

Meter::Nesting::~Nesting() {
  if (current_ != nullptr) --current_->nesting_;
}

}  // namespace liger::trainer::jinja
