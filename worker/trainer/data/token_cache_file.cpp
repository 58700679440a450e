#include "worker/trainer/data/token_cache_file.h"

#include <fcntl.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/file.h"
#include "common/unique_fd.h"
#include "worker/trainer/data/parallel_rows.h"
#include "worker/trainer/mapped_file.h"

namespace liger::trainer {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr size_t kPiece = 4 << 20;
constexpr size_t kDigestBytes = 7 + 64;  // "sha256:" and hexadecimal digits
constexpr size_t kTrailerBytes = sizeof(uint64_t) + kDigestBytes;

// Every count of DataStats, by name; vectors are arrays or part of the head.
constexpr std::pair<const char*, int64_t DataStats::*> kCounts[] = {
    {"rows", &DataStats::rows},
    {"dropped_rows", &DataStats::dropped_rows},
    {"dropped_cut", &DataStats::dropped_cut},
    {"truncated_rows", &DataStats::truncated_rows},
    {"tokens", &DataStats::tokens},
    {"target_tokens", &DataStats::target_tokens},
    {"boundary_merges", &DataStats::boundary_merges},
    {"packs", &DataStats::packs},
    {"dropped_packs", &DataStats::dropped_packs},
    {"pairs", &DataStats::pairs},
    {"equal_pairs", &DataStats::equal_pairs},
    {"empty_answers", &DataStats::empty_answers},
    {"empty_prompts", &DataStats::empty_prompts},
    {"no_assistant", &DataStats::no_assistant},
    {"lost_tools", &DataStats::lost_tools},
    {"lost_tool_turns", &DataStats::lost_tool_turns},
    {"lost_developer_turns", &DataStats::lost_developer_turns},
    {"lost_reasoning", &DataStats::lost_reasoning},
    {"cut_prompts", &DataStats::cut_prompts},
    {"lost_prompts", &DataStats::lost_prompts},
    {"without_response_template", &DataStats::without_response_template},
    {"response_template_cut", &DataStats::response_template_cut},
    {"response_template_retokenized", &DataStats::response_template_retokenized},
    {"digest", &DataStats::digest},
};

// Whoever adds a member to DataStats adds it here too, and raises kTokenCacheVersion.
static_assert(sizeof(DataStats) ==
              std::size(kCounts) * sizeof(int64_t) + 2 * sizeof(std::vector<int64_t>));

uint64_t TokensOf(const ExampleSet& set) {
  uint64_t tokens = 0;
  for (const Example& sequence : set.sequences) tokens += sequence.input_ids.size();
  return tokens;
}

uint64_t CutTokensOf(const ExampleSet& set) {
  uint64_t tokens = 0;
  for (const auto& answer : set.cut_answers) tokens += answer.size();
  return tokens;
}

std::string TrailerDigest(const std::string& name, std::string_view digests, uint64_t bytes) {
  return Sha256(name + "\n" + std::string(digests) + std::to_string(bytes));
}

template <typename T>
std::string_view BytesOf(const T* values, size_t count) {
  static_assert(std::is_trivially_copyable_v<T>);
  return {reinterpret_cast<const char*>(values), count * sizeof(T)};
}

// Gathers pieces, digests them and writes them.
class PieceWriter {
 public:
  explicit PieceWriter(const std::string& path)
      : path_(path), fd_(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) {
    if (!fd_.valid()) throw std::system_error(errno, std::generic_category());
    piece_.reserve(kPiece);
  }

  void Add(std::string_view bytes) {
    bytes_ += bytes.size();
    while (!bytes.empty()) {
      const size_t taken = std::min(bytes.size(), kPiece - piece_.size());
      piece_.append(bytes.substr(0, taken));
      bytes.remove_prefix(taken);
      if (piece_.size() == kPiece) Flush();
    }
  }
  template <typename T>
  void AddValues(const std::vector<T>& values) {
    Add(BytesOf(values.data(), values.size()));
  }
  void AddIds(const TokenIds& ids) { Add(BytesOf(ids.data(), ids.size())); }

  void Finish(const std::string& name) {
    Flush();
    Write(digests_);
    Write(BytesOf(&bytes_, 1));
    Write(TrailerDigest(name, digests_, bytes_));
    // A full disk may show only now.
    if (close(fd_.release()) != 0) throw std::system_error(errno, std::generic_category());
  }

 private:
  void Flush() {
    if (piece_.empty()) return;
    digests_ += Sha256(piece_) + "\n";
    Write(piece_);
    piece_.clear();
  }
  void Write(std::string_view bytes) {
    errno = 0;
    if (WriteFully(fd_.get(), bytes, path_).ok()) return;
    throw std::system_error(errno != 0 ? errno : EIO, std::generic_category());
  }

  const std::string path_;
  UniqueFd fd_;
  uint64_t bytes_ = 0;
  std::string piece_, digests_;
};

nlohmann::json HeadOf(const Split& split) {
  const ExampleSet& set = split.examples;
  nlohmann::json head = {
      {"kind", static_cast<int>(set.kind)},         {"max_length", set.max_length},
      {"first_dropped", split.stats.first_dropped}, {"row_lengths", split.stats.row_lengths.size()},
      {"desirable", set.desirable.size()},          {"keep_end", set.keep_end},
      {"cut_answers", set.cut_answers.size()},      {"cut_tokens", CutTokensOf(set)},
      {"pack_begins", set.pack_begins.size()},      {"sequences", set.sequences.size()},
      {"all_tokens", TokensOf(set)}};
  for (const auto& [name, member] : kCounts) head[name] = split.stats.*member;
  return head;
}

[[noreturn]] void Damaged() { throw std::runtime_error("is damaged or cut short"); }

// The checked head and arrays of a file.
class Arrays {
 public:
  explicit Arrays(std::string_view bytes) : left_(bytes) {}

  nlohmann::json Head() {
    uint64_t length = 0;
    std::memcpy(&length, Take(sizeof(length)).data(), sizeof(length));
    return nlohmann::json::parse(Take(length));
  }
  // The next `count` values; a copy, since they may lie anywhere.
  template <typename T>
  std::vector<T> Values(uint64_t count) {
    const std::string_view bytes = Raw<T>(count);
    std::vector<T> values(count);
    if (count > 0) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  template <typename T>
  std::string_view Raw(uint64_t count) {
    if (count > left_.size() / sizeof(T)) Damaged();
    return Take(count * sizeof(T));
  }
  bool done() const { return left_.empty(); }

 private:
  std::string_view Take(uint64_t size) {
    if (size > left_.size()) Damaged();
    const std::string_view taken = left_.substr(0, size);
    left_.remove_prefix(size);
    return taken;
  }

  std::string_view left_;
};

// Head and arrays of the file, after comparing their digests.
std::string_view CheckedBytes(std::string_view file, const std::string& name, int num_threads) {
  if (file.size() < kTrailerBytes) Damaged();
  const std::string_view trailer = file.substr(file.size() - kTrailerBytes);
  uint64_t size = 0;
  std::memcpy(&size, trailer.data(), sizeof(size));
  file.remove_suffix(kTrailerBytes);
  if (size > file.size()) Damaged();
  const uint64_t pieces = (size + kPiece - 1) / kPiece;
  if (file.size() - size != pieces * (kDigestBytes + 1)) Damaged();
  const std::string_view digests = file.substr(size);
  if (TrailerDigest(name, digests, size) != trailer.substr(sizeof(size))) Damaged();
  const std::string_view bytes = file.substr(0, size);
  ForEachRow(static_cast<int64_t>(pieces), num_threads, [&](int64_t i) {
    const std::string_view digest = digests.substr(i * (kDigestBytes + 1), kDigestBytes);
    if (Sha256(bytes.substr(i * kPiece, kPiece)) != digest) Damaged();
  });
  return bytes;
}

// A file's int32 arrays as views of it.
class Viewer {
 public:
  Viewer(Arrays* arrays, std::shared_ptr<const MappedFile> file)
      : arrays_(arrays), file_(std::move(file)) {}

  // Parts of the next `tokens` values, as long as `lengths` say.
  std::vector<TokenIds> Parts(const std::vector<int32_t>& lengths, uint64_t tokens) {
    const auto* at = reinterpret_cast<const int32_t*>(arrays_->Raw<int32_t>(tokens).data());
    uint64_t left = tokens;
    std::vector<TokenIds> parts;
    parts.reserve(lengths.size());
    for (const int32_t length : lengths) {
      if (length < 0 || static_cast<uint64_t>(length) > left) Damaged();
      parts.push_back(TokenIds::View({at, static_cast<size_t>(length)}, file_));
      at += length;
      left -= length;
    }
    if (left != 0) Damaged();
    return parts;
  }

 private:
  Arrays* const arrays_;
  const std::shared_ptr<const MappedFile> file_;
};

}  // namespace

int64_t SplitBytes(const Split& split) {
  const ExampleSet& set = split.examples;
  const size_t ints = split.stats.row_lengths.size() + set.cut_answers.size() + CutTokensOf(set) +
                      set.sequences.size() + 2 * TokensOf(set);
  return static_cast<int64_t>(4 * ints + set.desirable.size() + 8 * set.pack_begins.size() + 1024);
}

void WriteSplit(const std::string& path, const std::string& name, const Split& split) {
  const ExampleSet& set = split.examples;
  PieceWriter writer(path);
  std::string head = HeadOf(split).dump();
  head.resize((head.size() + 7) / 8 * 8, ' ');
  const uint64_t head_bytes = head.size();
  writer.Add(BytesOf(&head_bytes, 1));
  writer.Add(head);
  writer.AddValues(split.stats.row_lengths);
  for (const auto& answer : set.cut_answers) {
    const auto length = static_cast<int32_t>(answer.size());
    writer.Add(BytesOf(&length, 1));
  }
  for (const auto& answer : set.cut_answers) writer.AddIds(answer);
  for (const Example& sequence : set.sequences) {
    const auto length = static_cast<int32_t>(sequence.input_ids.size());
    writer.Add(BytesOf(&length, 1));
  }
  for (const Example& sequence : set.sequences) writer.AddIds(sequence.input_ids);
  for (const Example& sequence : set.sequences) writer.AddIds(sequence.labels);
  writer.AddValues(set.pack_begins);
  writer.AddValues(set.desirable);
  writer.Finish(name);
}

Split ReadSplit(const std::string& path, const std::string& name, int num_threads) {
  const auto file = std::make_shared<const MappedFile>(path);
  try {
    Arrays arrays(CheckedBytes(file->bytes(), name, num_threads));
    const nlohmann::json head = arrays.Head();
    Split split;
    for (const auto& [count, member] : kCounts) split.stats.*member = head.at(count);
    head.at("first_dropped").get_to(split.stats.first_dropped);
    split.stats.row_lengths = arrays.Values<int32_t>(head.at("row_lengths"));
    ExampleSet& set = split.examples;
    set.kind = static_cast<RowKind>(head.at("kind").get<int>());
    set.max_length = head.at("max_length");
    set.keep_end = head.at("keep_end");
    Viewer viewer(&arrays, file);
    const auto cut_lengths = arrays.Values<int32_t>(head.at("cut_answers"));
    set.cut_answers = viewer.Parts(cut_lengths, head.at("cut_tokens"));
    const auto lengths = arrays.Values<int32_t>(head.at("sequences"));
    std::vector<TokenIds> ids = viewer.Parts(lengths, head.at("all_tokens"));
    std::vector<TokenIds> labels = viewer.Parts(lengths, head.at("all_tokens"));
    set.sequences.resize(ids.size());
    for (size_t i = 0; i < ids.size(); ++i) {
      set.sequences[i] = {std::move(ids[i]), std::move(labels[i])};
    }
    set.pack_begins = arrays.Values<int64_t>(head.at("pack_begins"));
    set.desirable = arrays.Values<uint8_t>(head.at("desirable"));
    if (!arrays.done()) Damaged();
    return split;
  } catch (const nlohmann::json::exception&) {
    Damaged();
  }
}

}  // namespace liger::trainer
