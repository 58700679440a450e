// Tokenised rows kept on disk: the same rows bit for bit, under a key of all they depend on.
#include "worker/trainer/data/token_cache.h"

#include <filesystem>
#include <fstream>

#include "tests/unit/data/token_cache_fixture.h"

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

}  // namespace
}  // namespace liger::trainer
