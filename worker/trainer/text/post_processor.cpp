#include "worker/trainer/text/post_processor.h"

namespace liger::trainer {
namespace {

using Ptr = std::unique_ptr<PostProcessor>;

// Special tokens before, after and between copies of the sequence. What
// TemplateProcessing, BertProcessing and RobertaProcessing come to for one
// sequence (pairs of sequences are not encoded here).
class Template : public PostProcessor {
 public:
  struct Piece {
    bool is_sequence;
    std::vector<int32_t> special_ids;
  };
  explicit Template(std::vector<Piece> pieces) : pieces_(std::move(pieces)) {}

  void Process(bool add_special_tokens, std::vector<int32_t>* ids) const override {
    std::vector<int32_t> out;
    for (const Piece& piece : pieces_) {
      if (piece.is_sequence) {
        out.insert(out.end(), ids->begin(), ids->end());
      } else if (add_special_tokens) {
        out.insert(out.end(), piece.special_ids.begin(), piece.special_ids.end());
      }
    }
    ids->swap(out);
  }

 private:
  const std::vector<Piece> pieces_;
};

int32_t TokenId(const ConfigNode& node) {
  const int64_t id = node.Int();
  if (id < 0 || id > INT32_MAX) node.Fail("is not a token id");
  return static_cast<int32_t>(id);
}

Template::Piece MakeSpecial(const ConfigNode& piece, const ConfigNode& special_tokens) {
  const std::string name = piece.String("id");
  if (!special_tokens.Has(name.c_str())) {
    piece.At("id").Fail("names " + name + ", which special_tokens lacks");
  }
  Template::Piece made{false, {}};
  for (const ConfigNode& id : special_tokens.At(name.c_str()).At("ids").Array()) {
    made.special_ids.push_back(TokenId(id));
  }
  return made;
}

Ptr MakeTemplate(const ConfigNode& node) {
  std::vector<Template::Piece> pieces;
  for (const ConfigNode& piece : node.At("single").Array()) {
    if (piece.Has("Sequence")) {
      const ConfigNode id = piece.At("Sequence").At("id");
      if (id.String() != "A") id.Fail("must be A in the template of a single sequence");
      pieces.push_back({true, {}});
    } else {
      pieces.push_back(MakeSpecial(piece.At("SpecialToken"), node.At("special_tokens")));
    }
  }
  return std::make_unique<Template>(std::move(pieces));
}

// BERT's and RoBERTa's: [cls] sequence [sep], each given as [token, id].
Ptr MakeClsSep(const ConfigNode& node) {
  std::vector<Template::Piece> pieces;
  for (const char* key : {"cls", "sep"}) {
    const std::vector<ConfigNode> pair = node.At(key).Array();
    if (pair.size() != 2) node.At(key).Fail("must be [token, id]");
    pieces.push_back({false, {TokenId(pair[1])}});
  }
  pieces.insert(pieces.begin() + 1, Template::Piece{true, {}});
  return std::make_unique<Template>(std::move(pieces));
}

// Only moves offsets, which nothing here uses.
class ByteLevel : public PostProcessor {
 public:
  void Process(bool, std::vector<int32_t>*) const override {}
};

class Sequence : public PostProcessor {
 public:
  explicit Sequence(const ConfigNode& node) {
    for (const ConfigNode& step : node.At("processors").Array()) {
      steps_.push_back(MakePostProcessor(step));
    }
  }
  void Process(bool add_special_tokens, std::vector<int32_t>* ids) const override {
    for (const Ptr& step : steps_) step->Process(add_special_tokens, ids);
  }

 private:
  std::vector<Ptr> steps_;
};

constexpr ComponentEntry<Ptr> kTable[] = {
    {"TemplateProcessing", MakeTemplate},
    {"ByteLevel", [](const ConfigNode&) -> Ptr { return std::make_unique<ByteLevel>(); }},
    {"RobertaProcessing", MakeClsSep},
    {"BertProcessing", MakeClsSep},
    {"Sequence", [](const ConfigNode& node) -> Ptr { return std::make_unique<Sequence>(node); }},
};

}  // namespace

Ptr MakePostProcessor(const ConfigNode& node) {
  return MakeComponent(kTable, "post-processor", node);
}

}  // namespace liger::trainer
