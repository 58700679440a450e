// Tokenised rows kept on disk: the same rows bit for bit, and nothing stale or damaged.
#include "worker/trainer/data/token_cache.h"

#include <signal.h>
#include <sys/resource.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/unit/data/test_util.h"
#include "worker/trainer/data/dataset.h"
#include "worker/trainer/data/token_cache_file.h"
#include "worker/trainer/text/chat_template.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;
using liger::v1::DatasetSpec;
using liger::v1::JobSpec;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

const std::string kGolden = std::string(LIGER_SOURCE_DIR) + "/tests/golden/data/";
const std::string kData = std::string(LIGER_SOURCE_DIR) + "/tests/data/";

void ExpectSameSet(const ExampleSet& actual, const ExampleSet& expected) {
  EXPECT_EQ(actual.kind, expected.kind);
  EXPECT_EQ(actual.max_length, expected.max_length);
  EXPECT_EQ(actual.keep_end, expected.keep_end);
  EXPECT_EQ(actual.desirable, expected.desirable);
  EXPECT_EQ(actual.cut_answers, expected.cut_answers);
  EXPECT_EQ(actual.pack_begins, expected.pack_begins);
  ASSERT_EQ(actual.sequences.size(), expected.sequences.size());
  for (size_t i = 0; i < actual.sequences.size(); ++i) {
    ASSERT_EQ(actual.sequences[i].input_ids, expected.sequences[i].input_ids) << i;
    ASSERT_EQ(actual.sequences[i].labels, expected.sequences[i].labels) << i;
  }
}

void ExpectSameStats(const DataStats& actual, const DataStats& expected) {
  EXPECT_EQ(actual.rows, expected.rows);
  EXPECT_EQ(actual.dropped_rows, expected.dropped_rows);
  EXPECT_EQ(actual.truncated_rows, expected.truncated_rows);
  EXPECT_EQ(actual.tokens, expected.tokens);
  EXPECT_EQ(actual.target_tokens, expected.target_tokens);
  EXPECT_EQ(actual.boundary_merges, expected.boundary_merges);
  EXPECT_EQ(actual.packs, expected.packs);
  EXPECT_EQ(actual.dropped_packs, expected.dropped_packs);
  EXPECT_EQ(actual.pairs, expected.pairs);
  EXPECT_EQ(actual.equal_pairs, expected.equal_pairs);
  EXPECT_EQ(actual.empty_answers, expected.empty_answers);
  EXPECT_EQ(actual.empty_prompts, expected.empty_prompts);
  EXPECT_EQ(actual.without_response_template, expected.without_response_template);
  EXPECT_EQ(actual.row_lengths, expected.row_lengths);
  EXPECT_EQ(actual.first_dropped, expected.first_dropped);
}

void ExpectSame(const Dataset& actual, const Dataset& expected) {
  ExpectSameSet(actual.train, expected.train);
  ExpectSameSet(actual.eval, expected.eval);
  ExpectSameStats(actual.train_stats, expected.train_stats);
  ExpectSameStats(actual.eval_stats, expected.eval_stats);
  EXPECT_EQ(actual.warnings, expected.warnings);
  EXPECT_EQ(actual.format, expected.format);
}

class TokenCacheTest : public testing::Test {
 protected:
  TokenCacheTest() { options_.max_length = 200; }

  // A load by a cache of its own, as a process has it.
  Dataset Load(const DatasetSpec& spec) {
    TokenCache cache(cache_options_, [this] { return inputs_; });
    LoadOptions options = options_;
    options.cache = &cache;
    Dataset dataset = LoadDataset(spec, options, *tokenizer_, &*chat_template_);
    notes_ = cache.notes();
    warnings_ = cache.warnings();
    return dataset;
  }
  Dataset LoadPlain(const DatasetSpec& spec) const {
    return LoadDataset(spec, options_, *tokenizer_, &*chat_template_);
  }
  // "hit" or "miss", of the one split that was asked for last.
  std::string Outcome() const {
    EXPECT_THAT(notes_, SizeIs(1));
    return notes_.at(0).substr(std::string("data cache: ").size(), 4);
  }
  std::vector<fs::path> Files() const {
    std::vector<fs::path> files;
    if (!fs::exists(cache_options_.dir)) return files;
    for (const auto& entry : fs::directory_iterator(cache_options_.dir)) {
      files.push_back(entry.path());
    }
    return files;
  }
  static DatasetSpec SpecOf(const std::string& path) {
    DatasetSpec spec;
    spec.set_uri(path);
    return spec;
  }

  const TempFile folder_{"", "empty"};
  TokenCacheOptions cache_options_{.dir =
                                       fs::path(folder_.path()).parent_path() / "a" / "tokenized"};
  std::string inputs_ = "tokenizer and template";
  LoadOptions options_;
  std::vector<std::string> notes_, warnings_;
  const std::unique_ptr<Tokenizer> tokenizer_ = Tokenizer::FromFolder(kGolden + "chat");
  const std::optional<ChatTemplate> chat_template_ = ChatTemplate::FromFolder(kGolden + "chat");
};

struct Case {
  const char* name;
  const char* file;
  JobSpec::MethodCase method;
  PackingStrategy packing = PackingStrategy::kNone;
};

class SameRowsTest : public TokenCacheTest, public testing::WithParamInterface<Case> {};

TEST_P(SameRowsTest, WithTheCacheAndWithout) {
  options_.method = GetParam().method;
  options_.packing = GetParam().packing;
  DatasetSpec spec = SpecOf(kData + GetParam().file);
  spec.set_eval_fraction(0.1);
  const Dataset plain = LoadPlain(spec);
  EXPECT_GT(plain.eval.num_rows(), 0);
  ExpectSame(Load(spec), plain);
  EXPECT_THAT(notes_, ElementsAre(HasSubstr("cache: miss for evaluation rows of"),
                                  AllOf(HasSubstr("cache: miss for training rows of"),
                                        HasSubstr(" s, kept in " + cache_options_.dir))));
  ExpectSame(Load(spec), plain);
  EXPECT_THAT(notes_, ElementsAre(HasSubstr("cache: hit for evaluation rows of"),
                                  HasSubstr("cache: hit for training rows of")));
  EXPECT_THAT(warnings_, IsEmpty());
  EXPECT_THAT(Files(), SizeIs(2));
}

INSTANTIATE_TEST_SUITE_P(
    Methods, SameRowsTest,
    testing::Values(Case{"sft", "alpaca_en_demo.json", JobSpec::kSft},
                    Case{"bfd", "alpaca_en_demo.json", JobSpec::kSft, PackingStrategy::kBfd},
                    Case{"wrapped", "c4_demo.jsonl", JobSpec::kSft, PackingStrategy::kWrapped},
                    Case{"dpo", "dpo_en_demo.json", JobSpec::kDpo},
                    Case{"orpo", "dpo_en_demo.json", JobSpec::kOrpo},
                    Case{"kto", "kto_en_demo.json", JobSpec::kKto},
                    Case{"kto_pairs", "dpo_en_demo.json", JobSpec::kKto}),
    [](const auto& info) { return info.param.name; });

// Every setting and input that rows depend on.
TEST_F(TokenCacheTest, EachInputHasAKeyOfItsOwn) {
  const TempFile file(R"([{"a": "one two three four", "text": "five<|im_start|>six", "label": true},
                          {"a": "seven eight", "text": "nine<|im_start|>ten", "label": false}])");
  DatasetSpec spec = SpecOf(file.path());
  size_t kept = 0;
  const auto check = [&](const std::string& what) {
    SCOPED_TRACE(what);
    Load(spec);
    EXPECT_EQ(Outcome(), "miss");
    EXPECT_THAT(Files(), SizeIs(++kept));
    Load(spec);
    EXPECT_EQ(Outcome(), "hit ");
  };
  check("the first");
  inputs_ = "another tokenizer";
  check("inputs");
  options_.max_length = 100;
  check("max_length");
  options_.keep_end = true;
  check("truncation_mode");
  options_.packing = PackingStrategy::kBfd;
  check("packing");
  options_.packing = PackingStrategy::kWrapped;
  check("packing_strategy");
  options_.packing = PackingStrategy::kNone;
  options_.vocab_size = 100000;
  check("vocab_size");
  options_.sft_loss.response_template = "<|im_start|>";
  check("response_template");
  options_.sft_loss.instruction_template = "<|im_end|>";
  check("instruction_template");
  options_.sft_loss = {};
  (*spec.mutable_columns())["text"] = "a";
  check("columns");
  (*spec.mutable_roles())["customer"] = "user";
  check("roles");
  spec.set_format(liger::v1::DATASET_FORMAT_TEXT);
  check("format");
  spec.set_strict(true);
  check("strict");
  spec.set_max_samples(1);
  check("max_samples");
  std::ofstream(file.path(), std::ios::app) << "\n";
  check("content");
  const fs::path renamed = fs::path(file.path()).parent_path() / "rows.jsonl";
  fs::rename(file.path(), renamed);
  spec.set_uri(renamed);
  check("name");
}

TEST_F(TokenCacheTest, AMovedFileIsTheSame) {
  const TempFile one(R"({"text": "one two"})"), two(R"({"text": "one two"})");
  Load(SpecOf(one.path()));
  const Dataset dataset = Load(SpecOf(two.path()));
  EXPECT_EQ(Outcome(), "hit ");
  ExpectSame(dataset, LoadPlain(SpecOf(two.path())));
}

TEST_F(TokenCacheTest, WarningsNameTheRowsAgain) {
  const TempFile file(R"([{"prompt": "Hi", "completion": " Hello"},
                          {"prompt": "a b c d e f g h i j k l m n o p q r", "completion": "x"}])");
  options_.max_length = 12;
  const Dataset first = Load(SpecOf(file.path()));
  ASSERT_THAT(first.warnings, ElementsAre(HasSubstr("(row 2)")));
  const Dataset second = Load(SpecOf(file.path()));
  EXPECT_EQ(Outcome(), "hit ");
  EXPECT_EQ(second.warnings, first.warnings);
}

TEST_F(TokenCacheTest, DamagedFilesAreMadeAgainWithAWarning) {
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

TEST_F(TokenCacheTest, FoldersThatCannotBeWrittenAreAWarning) {
  const DatasetSpec spec = SpecOf(kData + "alpaca_en_demo.json");
  cache_options_.dir = folder_.path();  // a file
  ExpectSame(Load(spec), LoadPlain(spec));
  EXPECT_EQ(Outcome(), "miss");
  EXPECT_THAT(warnings_, ElementsAre(AllOf(HasSubstr("cannot be kept in " + folder_.path()),
                                           HasSubstr("LIGER_DATA_CACHE"))));
}

// As a full disk, the limit on a file's size lets a write fail in the middle.
TEST_F(TokenCacheTest, AFailedWriteIsAWarningAndLeavesNothing) {
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

TEST_F(TokenCacheTest, TheBoundRemovesWhatWasUsedLongestAgo) {
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

TEST_F(TokenCacheTest, AFileThatChangesMeanwhileIsNotKept) {
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

TEST_F(TokenCacheTest, ManyAtOnce) {
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
TEST_F(TokenCacheTest, LargeFilesComeBack) {
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

TEST_F(TokenCacheTest, TheEnvironmentSaysWhereAndHowMuch) {
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
