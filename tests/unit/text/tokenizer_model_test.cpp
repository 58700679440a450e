// tokenizer.model: what is refused, and what tokenizer_config.json adds. That the
// ids are right is tokenizer_golden_test.cpp's.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "liger/sentencepiece/model.pb.h"
#include "tests/paths.h"
#include "worker/trainer/error.h"
#include "worker/trainer/text/chat_template.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {
namespace {

using sentencepiece::Model;
using sentencepiece::Piece;
using sentencepiece::TrainerSpec;
using testing::ElementsAre;
using testing::HasSubstr;

class TokenizerModel : public testing::Test {
 protected:
  TokenizerModel() { std::filesystem::create_directories(dir_); }
  ~TokenizerModel() override { std::filesystem::remove_all(dir_); }

  void Write(const std::string& name, const std::string& content) const {
    std::ofstream(dir_ + "/" + name, std::ios::binary) << content;
  }

  std::string LoadError() const {
    try {
      Tokenizer::FromFolder(dir_);
    } catch (const TrainerError& error) {
      return error.what();
    }
    return "no error";
  }
  std::string ErrorOfTiktoken(const std::string& lines) const {
    Write("tokenizer.model", lines);
    return LoadError();
  }
  std::string ErrorOfChanged(const std::function<void(Model*)>& change) const {
    Model model = Small();
    change(&model);
    Write("tokenizer.model", model.SerializeAsString());
    return LoadError();
  }

  // <unk> 0, <s> 1, </s> 2, _ 3, a 4, b 5, ab 6, <tool> 7 (user defined)
  static Model Small() {
    Model model;
    model.mutable_trainer_spec()->set_model_type(TrainerSpec::BPE);
    model.mutable_normalizer_spec()->set_remove_extra_whitespaces(false);
    const auto add = [&](const char* text, Piece::Type type, float score) {
      Piece* piece = model.add_pieces();
      piece->set_piece(text);
      piece->set_type(type);
      piece->set_score(score);
    };
    add("<unk>", Piece::UNKNOWN, 0);
    add("<s>", Piece::CONTROL, 0);
    add("</s>", Piece::CONTROL, 0);
    add("\xE2\x96\x81", Piece::NORMAL, -2);
    add("a", Piece::NORMAL, -3);
    add("b", Piece::NORMAL, -4);
    add("ab", Piece::NORMAL, -1);
    add("<tool>", Piece::USER_DEFINED, 0);
    return model;
  }

  const std::string dir_ = testing::TempDir() + "/tokenizer_model_" + std::to_string(::getpid());
};

TEST_F(TokenizerModel, SentencePieceAndWhatTokenizerConfigAdds) {
  Write("tokenizer.model", Small().SerializeAsString());
  const auto plain = Tokenizer::FromFolder(dir_);
  EXPECT_THAT(plain->Encode("ab<tool>a</s>b", true), ElementsAre(1, 3, 6, 7, 4, 2, 3, 5));
  EXPECT_EQ(plain->bos_id(), 1);
  EXPECT_EQ(plain->eos_id(), 2);

  Write("tokenizer_config.json", R"({"add_bos_token": false, "add_eos_token": true,
    "eos_token": "<end>", "added_tokens_decoder": {
      "9": {"content": "<end>", "special": true}, "8": {"content": "<new>", "special": false},
      "2": {"content": "</s>", "special": true}}})");
  const auto extended = Tokenizer::FromFolder(dir_);
  EXPECT_THAT(extended->Encode("a<new>b<end>", true), ElementsAre(3, 4, 8, 5, 9, 2));
  EXPECT_EQ(extended->eos_id(), 9);
  EXPECT_EQ(extended->max_id(), 9);
  EXPECT_EQ(extended->Decode(std::vector<int32_t>{3, 4, 8, 5, 9}, true), "a<new>b");
}

TEST_F(TokenizerModel, AddedTokensWithAnotherIdAreRefused) {
  Write("tokenizer.model", Small().SerializeAsString());
  Write("tokenizer_config.json", R"({"added_tokens_decoder": {"11": {"content": "<new>"}}})");
  EXPECT_THAT(LoadError(), HasSubstr("added_tokens_decoder.11"));
  Write("tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "<new>"}}})");
  EXPECT_THAT(LoadError(), HasSubstr("not under a token id"));
}

TEST_F(TokenizerModel, WhatSentencePieceHasAndThisHasNotIsNamed) {
  EXPECT_THAT(ErrorOfChanged([](Model* m) {
                m->mutable_trainer_spec()->set_model_type(TrainerSpec::UNIGRAM);
              }),
              HasSubstr("trainer_spec.model_type is UNIGRAM"));
  EXPECT_THAT(ErrorOfChanged([](Model* m) {
                m->mutable_normalizer_spec()->set_remove_extra_whitespaces(true);
              }),
              HasSubstr("remove_extra_whitespaces"));
  EXPECT_THAT(ErrorOfChanged([](Model* m) {
                m->mutable_normalizer_spec()->set_precompiled_charsmap("rules");
              }),
              HasSubstr("precompiled_charsmap"));
  EXPECT_THAT(ErrorOfChanged([](Model* m) { m->mutable_pieces(5)->set_type(Piece::UNUSED); }),
              HasSubstr("pieces[5] is unused"));
  EXPECT_THAT(ErrorOfChanged([](Model* m) { m->mutable_pieces(5)->set_piece("a"); }),
              HasSubstr("pieces[5] is there twice"));
  EXPECT_THAT(ErrorOfChanged([](Model* m) { m->mutable_pieces(5)->set_score(NAN); }),
              HasSubstr("pieces[5] has no score"));
  EXPECT_THAT(
      ErrorOfChanged([](Model* m) { m->mutable_pieces(5)->set_piece(std::string(5000, 'a')); }),
      HasSubstr("pieces[5] is longer than 4096 bytes"));
  EXPECT_THAT(ErrorOfChanged([](Model* m) { m->mutable_trainer_spec()->set_bos_id(99); }),
              HasSubstr("trainer_spec.bos_id"));
  Write("tokenizer.model", Small().SerializeAsString().substr(0, 20));
  EXPECT_THAT(LoadError(), HasSubstr("is not a SentencePiece model"));
}

// As transformers 5.23 (tools/fixtures/spm_config_fixtures.py) reads `legacy` and
// `add_prefix_space`.
TEST_F(TokenizerModel, PrefixesAreThoseOfTransformersLlamaTokenizer) {
  const std::string golden = SourceDir() + "/tests/golden/text/";
  std::ifstream file(golden + "spm_config.json");
  const auto cases = nlohmann::json::parse(file);
  EXPECT_EQ(cases.size(), 3u);
  std::filesystem::copy_file(golden + "tokenizers/spm_mistral/tokenizer.model",
                             dir_ + "/tokenizer.model");
  for (const auto& one : cases) {
    Write("tokenizer_config.json", one.at("config").dump());
    const auto tokenizer = Tokenizer::FromFolder(dir_);
    for (const auto& row : one.at("rows")) {
      const auto ids = row.at("ids").get<std::vector<int32_t>>();
      EXPECT_EQ(tokenizer->Encode(row.at("text").get<std::string>(), true), ids)
          << one.at("config") << row;
      EXPECT_EQ(tokenizer->Decode(ids, true), row.at("decoded").get<std::string>()) << row;
    }
  }
}

// The lists of Meta's tokenizer.py of Llama 3 and of Llama 3.1.
TEST_F(TokenizerModel, TiktokensSpecialTokensAreTheFoldersOwn) {
  Write("tokenizer.model", "YQ== 0\nYg== 1\nYWI= 2\n");
  const auto id_of = [&](const char* text) {
    return Tokenizer::FromFolder(dir_)->TokenToId(text).value_or(-1);
  };
  EXPECT_EQ(id_of("<|finetune_right_pad_id|>"), 7);
  EXPECT_EQ(id_of("<|reserved_special_token_2|>"), 8);
  EXPECT_EQ(id_of("<|reserved_special_token_247|>"), 258);

  Write("config.json", R"({"model_type": "llama", "rope_scaling": null})");
  EXPECT_EQ(id_of("<|finetune_right_pad_id|>"), -1);
  EXPECT_EQ(id_of("<|reserved_special_token_2|>"), 7);
  EXPECT_EQ(id_of("<|reserved_special_token_3|>"), 8);
  EXPECT_EQ(id_of("<|reserved_special_token_4|>"), 11);
  EXPECT_EQ(id_of("<|eot_id|>"), 12);
  EXPECT_EQ(id_of("<|reserved_special_token_250|>"), 258);
  Write("config.json", R"({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}})");
  EXPECT_EQ(id_of("<|python_tag|>"), 13);

  // What tokenizer_config.json names goes first.
  Write("tokenizer_config.json", R"({"added_tokens_decoder": {
    "7": {"content": "<|reserved_special_token_2|>"},
    "8": {"content": "<|reserved_special_token_3|>"}, "13": {"content": "<|mine|>"}}})");
  EXPECT_EQ(id_of("<|reserved_special_token_3|>"), 8);
  EXPECT_EQ(id_of("<|mine|>"), 13);
  EXPECT_EQ(id_of("<|reserved_special_token_6|>"), 14);
}

// transformers' tokenizer takes the names from the model file too.
TEST_F(TokenizerModel, ItsRolesReachTheChatTemplate) {
  Write("tokenizer.model", Small().SerializeAsString());
  Write("chat_template.jinja", "{{ bos_token }}{{ messages[0]['content'] }}{{ eos_token }}");
  const nlohmann::ordered_json messages = {{{"role", "user"}, {"content", "ab"}}};
  EXPECT_EQ(ChatTemplate::FromFolder(dir_)->Render(messages, false), "<s>ab</s>");
  Write("tokenizer_config.json", R"({"eos_token": "<tool>"})");
  EXPECT_EQ(ChatTemplate::FromFolder(dir_)->Render(messages, false), "<s>ab<tool>");
}

TEST_F(TokenizerModel, TiktokenNamesTheLine) {
  EXPECT_EQ(ErrorOfTiktoken("YQ== 0\nYg== 1\r\nYWI= 2\n"), "no error");
  EXPECT_THAT(Tokenizer::FromFolder(dir_)->Encode("abb<|eot_id|>", true), ElementsAre(3, 2, 1, 12));
  EXPECT_THAT(ErrorOfTiktoken(""), HasSubstr("there is no token"));
  EXPECT_THAT(ErrorOfTiktoken("x"), HasSubstr("line 1: has no token in base64"));
  EXPECT_THAT(ErrorOfTiktoken("YQ== 0\n!!!! 1\n"), HasSubstr("line 2: has no token in base64"));
  EXPECT_THAT(ErrorOfTiktoken("YQ== 0\nYg== 2\n"), HasSubstr("line 2: has not the rank 1"));
  EXPECT_THAT(ErrorOfTiktoken("YQ== 0\nYg== 1x\n"), HasSubstr("line 2: has not the rank 1"));
  EXPECT_THAT(ErrorOfTiktoken("YQ== 0\nYQ== 1\n"),
              HasSubstr("line 2: has a token that an earlier"));
}

}  // namespace
}  // namespace liger::trainer
