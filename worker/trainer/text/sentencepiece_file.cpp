#include "worker/trainer/text/sentencepiece_file.h"

#include <algorithm>
#include <functional>
#include <map>

#include "liger/sentencepiece/model.pb.h"
#include "worker/trainer/error.h"
#include "worker/trainer/text/bpe.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer {
namespace {

using nlohmann::json;
using pipeline::AddedToken;
using pipeline::Component;
using pipeline::Sequence;
using sentencepiece::Piece;

constexpr const char* kSpace = "\xE2\x96\x81";  // U+2581, what a space is in a piece

class SentencePieceReader {
 public:
  SentencePieceReader(const std::string& bytes, std::string path, SpacePrefix prefix)
      : path_(std::move(path)), prefix_(prefix) {
    if (!model_.ParseFromString(bytes) || model_.pieces_size() == 0) {
      throw ConfigError(path_ + " is not a SentencePiece model",
                        "Copy it again from the model's original; it may be truncated.")
          .File(path_);
    }
  }

  ModelFileContents Read() {
    CheckIsImplemented();
    ReadPieces();
    AddMerges();
    ModelFileContents contents;
    contents.file.path = path_;
    contents.file.config = Pipeline();
    contents.file.added_tokens_are_normalized = true;
    contents.file.model = std::make_unique<BpeModel>(std::move(config_));
    contents.framing = {IdOf("bos_id", model_.trainer_spec().bos_id()),
                        IdOf("eos_id", model_.trainer_spec().eos_id())};
    return contents;
  }

 private:
  [[noreturn]] void Fail(const std::string& what) const {
    throw ConfigError(path_ + ": " + what,
                      "Save the tokenizer with transformers: "
                      "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR).")
        .File(path_);
  }

  void CheckIsImplemented() const {
    const auto& trainer = model_.trainer_spec();
    const auto& normalizer = model_.normalizer_spec();
    using Trainer = sentencepiece::TrainerSpec;
    if (trainer.model_type() != Trainer::BPE) {
      Fail("trainer_spec.model_type is " + Trainer::ModelType_Name(trainer.model_type()) +
           "; only BPE is implemented");
    }
    const std::pair<bool, const char*> unknown[] = {
        {trainer.treat_whitespace_as_suffix(), "trainer_spec.treat_whitespace_as_suffix is true"},
        {!normalizer.precompiled_charsmap().empty(),
         "normalizer_spec.precompiled_charsmap has rules (the identity has none)"},
        {normalizer.remove_extra_whitespaces(), "normalizer_spec.remove_extra_whitespaces is true"},
        {!normalizer.escape_whitespaces(), "normalizer_spec.escape_whitespaces is false"},
    };
    for (const auto& [asked, what] : unknown) {
      if (asked) Fail(std::string(what) + ", which is not implemented");
    }
  }

  void ReadPieces() {
    config_.fuse_unk = true;
    config_.byte_fallback = model_.trainer_spec().byte_fallback();
    config_.vocabulary.Reserve(model_.pieces_size());
    if (model_.pieces_size() > Vocabulary::kMaxId) Fail("has too many pieces");
    for (int id = 0; id < model_.pieces_size(); ++id) {
      const Piece& piece = model_.pieces(id);
      const std::string where = "pieces[" + std::to_string(id) + "]";
      if (piece.piece().empty()) Fail(where + " is empty");
      if (!unicode::IsValidUtf8(piece.piece())) Fail(where + " is not UTF-8");
      if (config_.vocabulary.Find(piece.piece())) Fail(where + " is there twice");
      if (piece.type() == Piece::UNUSED) Fail(where + " is unused, which is not implemented");
      if (piece.type() == Piece::UNKNOWN) config_.unk_id = id;
      config_.vocabulary.Add(piece.piece(), id);
    }
    if (!config_.unk_id) Fail("has no piece for what is unknown");
  }

  // Pieces of equal score get equal ranks: the leftmost pair is joined first,
  // as runs of spaces in the models of Llama 2 and Mistral need it.
  void AddMerges() {
    std::map<float, std::vector<int>, std::greater<>> by_score;
    for (int id = 0; id < model_.pieces_size(); ++id) {
      const Piece& piece = model_.pieces(id);
      if (piece.type() != Piece::NORMAL) continue;
      if (piece.piece().size() > BpeConfig::kMaxSplitBytes) {
        Fail("pieces[" + std::to_string(id) + "] is longer than " +
             std::to_string(BpeConfig::kMaxSplitBytes) + " bytes");
      }
      // NaN has no order, and a map's keys need one.
      if (piece.score() != piece.score()) Fail("pieces[" + std::to_string(id) + "] has no score");
      by_score[piece.score()].push_back(id);
    }
    int32_t rank = 0;
    for (const auto& [score, ids] : by_score) {
      for (const int id : ids) config_.AddSplits(model_.pieces(id).piece(), rank);
      ++rank;
    }
    // A pair is of ordinary pieces: the others are cut out before, or are bytes.
    std::erase_if(config_.merges, [&](const BpeConfig::Merge& merge) {
      return model_.pieces(merge.left).type() != Piece::NORMAL ||
             model_.pieces(merge.right).type() != Piece::NORMAL;
    });
  }

  static json Replace(const char* from, const char* to) {
    return Component("Replace", {{"pattern", {{"String", from}}}, {"content", to}});
  }

  json WithMetaspace(const json& added) const {
    const bool first = prefix_ == SpacePrefix::kFirst;
    std::vector<json> decoders = {Replace(kSpace, " "), Component("ByteFallback"),
                                  Component("Fuse")};
    if (first) {
      decoders.push_back(Component("Strip", {{"content", " "}, {"start", 1}, {"stop", 0}}));
    }
    return {{"added_tokens", added},
            {"pre_tokenizer", Component("Metaspace", {{"replacement", kSpace},
                                                      {"prepend_scheme", first ? "first" : "never"},
                                                      {"split", false}})},
            {"decoder", Sequence("decoders", std::move(decoders))}};
  }

  json Pipeline() const {
    const bool dummy_prefix = model_.normalizer_spec().add_dummy_prefix();
    json added = json::array();
    for (int id = 0; id < model_.pieces_size(); ++id) {
      const Piece& piece = model_.pieces(id);
      if (piece.type() == Piece::NORMAL || piece.type() == Piece::BYTE) continue;
      added.push_back(AddedToken(id, piece.piece(), piece.type() != Piece::USER_DEFINED));
    }
    if (dummy_prefix && prefix_ != SpacePrefix::kEach) return WithMetaspace(added);
    std::vector<json> normalizers = {Replace(" ", kSpace)};
    std::vector<json> decoders = {Replace(kSpace, " "), Component("ByteFallback"),
                                  Component("Fuse")};
    if (dummy_prefix) {
      normalizers.insert(normalizers.begin(), Component("Prepend", {{"prepend", kSpace}}));
      decoders.push_back(Component("Strip", {{"content", " "}, {"start", 1}, {"stop", 0}}));
    }
    return {{"added_tokens", added},
            {"normalizer", Sequence("normalizers", std::move(normalizers))},
            {"decoder", Sequence("decoders", std::move(decoders))}};
  }

  int32_t IdOf(const char* field, int32_t id) const {
    if (id >= model_.pieces_size()) Fail(std::string("trainer_spec.") + field + " is no piece");
    return std::max(id, -1);
  }

  const std::string path_;
  const SpacePrefix prefix_;
  sentencepiece::Model model_;
  BpeConfig config_;
};

}  // namespace

ModelFileContents ReadSentencePiece(const std::string& bytes, const std::string& path,
                                    SpacePrefix prefix) {
  return SentencePieceReader(bytes, path, prefix).Read();
}

}  // namespace liger::trainer
