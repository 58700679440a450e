// Files that are larger than the memory that reading them takes.
#include <zlib.h>
#include <zstd.h>

#include <nlohmann/json.hpp>

#include "tests/unit/data/test_util.h"
#include "worker/trainer/data/row_file.h"

namespace liger::trainer {
namespace {

constexpr int64_t kRows = 150'000;
constexpr size_t kRowBytes = 1000;  // 150 MB in all
constexpr int64_t kMost = 48 << 20;

// Memory of this process that the system cannot take back without a swap, bytes.
int64_t AnonymousMemory() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    int64_t kilobytes = 0;
    if (word == "RssAnon:" && status >> kilobytes) return kilobytes * 1024;
  }
  ADD_FAILURE() << "no RssAnon in /proc/self/status";
  return 0;
}

// Row i's text, of kRowBytes or so and unlike the others'.
std::string Text(int64_t i) {
  return std::to_string(i) + ": " + std::string(kRowBytes, static_cast<char>('a' + i % 26));
}
std::string JsonRow(int64_t i) { return R"({"prompt": "p", "completion": ")" + Text(i) + "\"}"; }
std::string CsvRow(int64_t i) { return "p,\"" + Text(i) + "\""; }

class Writer {
 public:
  virtual ~Writer() = default;
  virtual void Write(const std::string& text) = 0;
};

class PlainWriter : public Writer {
 public:
  explicit PlainWriter(const std::string& path) : out_(path, std::ios::binary) {}
  void Write(const std::string& text) override { out_ << text; }

 private:
  std::ofstream out_;
};

class GzipWriter : public Writer {
 public:
  explicit GzipWriter(const std::string& path) : file_(gzopen(path.c_str(), "wb1")) {}
  ~GzipWriter() override { gzclose(file_); }
  void Write(const std::string& text) override {
    gzwrite(file_, text.data(), static_cast<unsigned>(text.size()));
  }

 private:
  gzFile file_;
};

// Each piece is a frame.
class ZstdWriter : public PlainWriter {
 public:
  using PlainWriter::PlainWriter;
  void Write(const std::string& text) override {
    std::string packed(ZSTD_compressBound(text.size()), '\0');
    packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 1));
    PlainWriter::Write(packed);
  }
};

struct Case {
  const char* name;
  std::string (*row)(int64_t);
  const char *before, *between, *after;
  std::unique_ptr<Writer> (*open)(const std::string& path);
};

template <typename T>
std::unique_ptr<Writer> Open(const std::string& path) {
  return std::make_unique<T>(path);
}

class RowMemoryTest : public testing::TestWithParam<Case> {};

TEST_P(RowMemoryTest, AFileSeveralTimesTheMemory) {
  const Case& c = GetParam();
  const TempFile file("", c.name);
  {
    const auto out = c.open(file.path());
    std::string text = c.before;
    for (int64_t i = 0; i < kRows; ++i) {
      text += (i == 0 ? "" : c.between) + c.row(i);
      if (text.size() < (1 << 20) && i + 1 < kRows) continue;
      if (i + 1 == kRows) text += c.after;
      out->Write(text);
      text.clear();
    }
  }
  const int64_t before = AnonymousMemory();
  const auto rows = OpenRows(file.path(), 0);
  int64_t most = AnonymousMemory() - before;
  ASSERT_EQ(rows->size(), kRows);
  // There and back, as a shuffled epoch would have it.
  for (int64_t i = 0; i < kRows; ++i) {
    const int64_t index = i % 2 == 0 ? i : kRows - i;
    ASSERT_EQ(rows->Parse(index)["completion"], Text(index));
    if (i % 1000 == 0) most = std::max(most, AnonymousMemory() - before);
  }
  EXPECT_LT(most, kMost);
  RecordProperty("most_bytes", std::to_string(most));
}

INSTANTIATE_TEST_SUITE_P(
    Formats, RowMemoryTest,
    testing::Values(Case{"rows.jsonl", JsonRow, "", "\n", "\n", Open<PlainWriter>},
                    Case{"rows.json", JsonRow, "[", ",\n", "]", Open<PlainWriter>},
                    Case{"rows.csv", CsvRow, "prompt,completion\n", "\n", "\n", Open<PlainWriter>},
                    Case{"rows.jsonl.gz", JsonRow, "", "\n", "\n", Open<GzipWriter>},
                    Case{"rows.csv.zst", CsvRow, "prompt,completion\n", "\n", "\n",
                         Open<ZstdWriter>}),
    [](const auto& info) {
      std::string name = info.param.name;
      std::replace(name.begin(), name.end(), '.', '_');
      return name;
    });

TEST(UnpackedTextTest, NoRoomToUnpackNamesTheFolder) {
  const TempFile file("", "rows.jsonl.gz");
  {
    GzipWriter out(file.path());
    const std::string piece(1 << 20, ' ');
    for (int i = 0; i < 20; ++i) out.Write(piece);
  }
  const auto failure = FailureOf([&] { OpenRows(file.path(), 0, "/no/such/folder"); });
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_STORAGE);
  EXPECT_THAT(failure.message(), testing::HasSubstr("/no/such/folder"));
}

}  // namespace
}  // namespace liger::trainer
