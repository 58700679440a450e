#ifndef LIGER_WORKER_TRAINER_DATA_TOKEN_IDS_H_
#define LIGER_WORKER_TRAINER_DATA_TOKEN_IDS_H_

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

namespace liger::trainer {

// The ids or labels of a sequence: a vector of its own, or a view of a mapped file, which it keeps
// mapped. A view becomes a vector where it is written to.
class TokenIds {
 public:
  using value_type = int32_t;
  using size_type = size_t;
  using difference_type = std::ptrdiff_t;
  using reference = int32_t&;
  using const_reference = const int32_t&;
  using iterator = int32_t*;
  using const_iterator = const int32_t*;

  TokenIds() = default;
  TokenIds(std::vector<int32_t> ids) : own_(std::move(ids)) {}       // NOLINT: as a vector
  TokenIds(std::initializer_list<int32_t> ids) : own_(ids) {}        // NOLINT: as a vector
  template <typename It>
  TokenIds(It begin, It end) : own_(begin, end) {}
  // `file` keeps what `ids` points to.
  static TokenIds View(std::span<const int32_t> ids, std::shared_ptr<const void> file) {
    TokenIds view;
    view.view_ = ids;
    view.file_ = std::move(file);
    return view;
  }

  bool is_view() const { return file_ != nullptr; }
  size_t size() const { return file_ ? view_.size() : own_.size(); }
  bool empty() const { return size() == 0; }
  const int32_t* data() const { return file_ ? view_.data() : own_.data(); }
  const int32_t* begin() const { return data(); }
  const int32_t* end() const { return data() + size(); }
  const int32_t& operator[](size_t i) const { return data()[i]; }
  const int32_t& at(size_t i) const {
    if (i >= size()) throw std::out_of_range("TokenIds::at");
    return data()[i];
  }
  const int32_t& front() const { return *begin(); }
  const int32_t& back() const { return *(end() - 1); }

  // [begin, end) of it; of a view a view.
  TokenIds Slice(size_t begin, size_t end) const {
    const std::span<const int32_t> part(data() + begin, end - begin);
    return file_ ? View(part, file_) : TokenIds(part.begin(), part.end());
  }

  // To write to.
  std::vector<int32_t>& vector() {
    if (file_) {
      own_.assign(view_.begin(), view_.end());
      view_ = {};
      file_.reset();
    }
    return own_;
  }
  int32_t* data() { return vector().data(); }
  int32_t* begin() { return vector().data(); }
  int32_t* end() { return vector().data() + own_.size(); }
  int32_t& operator[](size_t i) { return vector()[i]; }
  int32_t& front() { return vector().front(); }
  int32_t& back() { return vector().back(); }
  void push_back(int32_t id) { vector().push_back(id); }
  void resize(size_t size) { vector().resize(size); }

  operator std::vector<int32_t>() const { return {begin(), end()}; }  // NOLINT: tests compare so
  friend bool operator==(const TokenIds& a, const TokenIds& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  std::vector<int32_t> own_;
  std::span<const int32_t> view_;
  std::shared_ptr<const void> file_;  // null: own_ counts
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_TOKEN_IDS_H_
