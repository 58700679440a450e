// The cache's files: none stale or damaged is taken, and their number is bounded.
#include <signal.h>
#include <sys/resource.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/unit/data/token_cache_fixture.h"
#include "worker/trainer/data/token_cache_file.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;
using liger::v1::DatasetSpec;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class TokenCacheFilesTest : public TokenCacheTest {};

TEST_F(TokenCacheFilesTest, DamagedFilesAreMadeAgainWithAWarning) {
  const DatasetSpec spec = SpecOf(kData + "alpaca_en_demo.json");
  const Dataset plain = LoadPlain(spec);
  Load(spec);
  ASSERT_THAT(Files(), SizeIs(1));
  const fs::path path = Files()[0];
  const auto size = static_cast<int64_t>(fs::file_size(path));
  for (const int64_t at : {int64_t{0}, int64_t{9}, size / 2, size - 100, size - 79, size - 1}) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(at);
    const char byte = static_cast<char>(file.get());
    file.seekp(at);
    file.put(static_cast<char>(byte ^ 0x10));
    file.close();
    ExpectSame(Load(spec), plain);
    EXPECT_EQ(Outcome(), "miss") << at;
    EXPECT_THAT(warnings_,
                ElementsAre(AllOf(HasSubstr(path.string()), HasSubstr("damaged or cut short"))));
  }
  for (const int64_t left : {size - 1, size / 2, int64_t{8}, int64_t{0}}) {
    fs::resize_file(path, left);
    ExpectSame(Load(spec), plain);
    EXPECT_THAT(warnings_, ElementsAre(HasSubstr("damaged or cut short"))) << left;
  }
  Load(spec);
  EXPECT_EQ(Outcome(), "hit ");
  // A whole file, but of other rows.
  const TempFile other(R"({"text": "one two"})");
  fs::remove(path);
  Load(SpecOf(other.path()));
  fs::rename(Files().at(0), path);
  ExpectSame(Load(spec), plain);
  EXPECT_THAT(warnings_, SizeIs(1));
}

TEST_F(TokenCacheFilesTest, FoldersThatCannotBeWrittenAreAWarning) {
  const DatasetSpec spec = SpecOf(kData + "alpaca_en_demo.json");
  cache_options_.dir = folder_.path();  // a file
  ExpectSame(Load(spec), LoadPlain(spec));
  EXPECT_EQ(Outcome(), "miss");
  EXPECT_THAT(warnings_, ElementsAre(AllOf(HasSubstr("cannot be kept in " + folder_.path()),
                                           HasSubstr("LIGER_DATA_CACHE"))));
}

// As a full disk, the limit on a file's size lets a write fail in the middle.
TEST_F(TokenCacheFilesTest, AFailedWriteIsAWarningAndLeavesNothing) {
  const DatasetSpec spec = SpecOf(kData + "alpaca_en_demo.json");
  const Dataset plain = LoadPlain(spec);
  const auto old_handler = signal(SIGXFSZ, SIG_IGN);
  rlimit old_limit{};
  getrlimit(RLIMIT_FSIZE, &old_limit);
  const rlimit limit{100000, old_limit.rlim_max};
  setrlimit(RLIMIT_FSIZE, &limit);
  const Dataset dataset = Load(spec);
  setrlimit(RLIMIT_FSIZE, &old_limit);
  signal(SIGXFSZ, old_handler);
  ExpectSame(dataset, plain);
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("cannot be kept")));
  EXPECT_THAT(Files(), IsEmpty());
}

TEST_F(TokenCacheFilesTest, TheBoundRemovesWhatWasUsedLongestAgo) {
  std::vector<std::unique_ptr<TempFile>> files;
  for (int i = 0; i < 4; ++i) {
    std::string text;
    for (int word = 0; word < 100; ++word) text += "word number " + std::to_string(i) + ", ";
    files.push_back(std::make_unique<TempFile>("{\"text\": \"" + text + "\"}"));
  }
  const auto load = [&](int i) {
    Load(SpecOf(files[i]->path()));
    // The times of files are coarse.
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return Outcome();
  };
  load(0);
  const auto size = static_cast<int64_t>(fs::file_size(Files().at(0)));
  ASSERT_GT(size, 1500);
  cache_options_.max_bytes = 3 * size + 1024;  // three of them
  // What else lies in the folder.
  const fs::path dir = cache_options_.dir;
  const fs::path foreign = dir / "notes.tokens", foreign_part = dir / "download.part";
  const fs::path abandoned = dir / (std::string(64, 'a') + ".0123456789abcdef.part");
  const fs::path being_written = dir / (std::string(64, 'b') + ".0123456789abcdef.part");
  for (const fs::path& path : {foreign, foreign_part, abandoned, being_written}) {
    std::ofstream(path) << (path == foreign ? std::string(10000, 'x') : "x");
    if (path == being_written) continue;
    fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::hours(2));
  }
  load(1);
  EXPECT_EQ(load(0), "hit ");
  load(2);
  load(3);
  EXPECT_FALSE(fs::exists(abandoned));
  for (const fs::path& path : {foreign, foreign_part, being_written}) {
    EXPECT_TRUE(fs::exists(path)) << path;
  }
  for (const int i : {0, 2, 3}) EXPECT_EQ(load(i), "hit ") << i;
  EXPECT_EQ(load(1), "miss");
  EXPECT_EQ(load(0), "miss") << "the one used longest ago when 1 came again";
  EXPECT_EQ(load(3), "hit ");

  cache_options_.max_bytes = 10;
  EXPECT_EQ(load(2), "miss");
  EXPECT_THAT(notes_, ElementsAre(HasSubstr("LIGER_DATA_CACHE_GB allows")));
  EXPECT_THAT(warnings_, IsEmpty());
}

TEST_F(TokenCacheFilesTest, AFileThatChangesMeanwhileIsNotKept) {
  const TempFile file(R"({"text": "one two"})");
  TokenCache cache(cache_options_, [this] { return inputs_; });
  const auto make = [] { return Split(); };
  cache.Get(
      "key", "rows", [] { return false; }, make);
  EXPECT_THAT(Files(), IsEmpty());
  cache.Get(
      "key", "rows", [] { return true; },
      [&] {
        inputs_ = "the next day";
        return make();
      });
  EXPECT_THAT(Files(), IsEmpty());
  EXPECT_THAT(cache.notes(), SizeIs(2));
  EXPECT_THAT(cache.notes()[1], HasSubstr("not kept: a file or the date has changed"));
}

TEST_F(TokenCacheFilesTest, ManyAtOnce) {
  const DatasetSpec spec = SpecOf(kData + "alpaca_en_demo.json");
  const Dataset plain = LoadPlain(spec);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 3; ++i) {
        TokenCache cache(cache_options_, [this] { return inputs_; });
        LoadOptions options = options_;
        options.cache = &cache;
        ExpectSame(LoadDataset(spec, options, *tokenizer_, &*chat_template_), plain);
        EXPECT_THAT(cache.warnings(), IsEmpty());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(Files(), SizeIs(1));
}

// Several pieces, sequences that lie across their borders, and an empty one.
TEST_F(TokenCacheFilesTest, LargeFilesComeBack) {
  Split split;
  split.examples.kind = RowKind::kLabelled;
  split.stats.rows = 5000;
  for (int i = 0; i < 5000; ++i) {
    Example& example = split.examples.sequences.emplace_back();
    for (int t = 0; t < i % 700; ++t) {
      example.input_ids.push_back(i * 7919 + t);
      example.labels.push_back(t % 3 == 0 ? kIgnoredLabel : t);
    }
    split.examples.desirable.push_back(i % 2);
    split.stats.row_lengths.push_back(i);
  }
  const std::string path = folder_.path() + ".tokens";
  WriteSplit(path, "name", split);
  EXPECT_GT(fs::file_size(path), size_t{12} << 20);
  EXPECT_NEAR(static_cast<double>(fs::file_size(path)), static_cast<double>(SplitBytes(split)),
              2000);
  const Split read = ReadSplit(path, "name", 2);
  ExpectSameSet(read.examples, split.examples);
  ExpectSameStats(read.stats, split.stats);
  EXPECT_THROW(ReadSplit(path, "another name", 2), std::runtime_error);
}

TEST_F(TokenCacheFilesTest, TheEnvironmentSaysWhereAndHowMuch) {
  const auto from = [](const char* dir, const char* bound) {
    dir == nullptr ? unsetenv("LIGER_DATA_CACHE") : setenv("LIGER_DATA_CACHE", dir, 1);
    setenv("LIGER_DATA_CACHE_GB", bound, 1);
    return TokenCacheOptions::FromEnvironment();
  };
  EXPECT_EQ(from("/somewhere", "").dir, "/somewhere");
  EXPECT_EQ(from("/somewhere", "").max_bytes, int64_t{20} * 1000 * 1000 * 1000);
  EXPECT_EQ(from("off", "1.5").dir, "");
  EXPECT_EQ(from("off", "1.5").max_bytes, 1500000000);
  setenv("XDG_CACHE_HOME", "/xdg", 1);
  EXPECT_EQ(from(nullptr, "").dir, "/xdg/liger/tokenized");
  unsetenv("XDG_CACHE_HOME");
  setenv("HOME", "/home/me", 1);
  EXPECT_EQ(from(nullptr, "").dir, "/home/me/.cache/liger/tokenized");
  for (const char* wrong : {"much", "-1", "1e30", "nan", "3 "}) {
    EXPECT_THAT(FailureOf([&] { from("off", wrong); }).message(),
                HasSubstr("LIGER_DATA_CACHE_GB='" + std::string(wrong) + "'"));
  }
  setenv("LIGER_DATA_CACHE_GB", "", 1);
}

}  // namespace
}  // namespace liger::trainer
