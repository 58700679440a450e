#include "worker/trainer/text/tokenizer.h"

#include <algorithm>
#include <filesystem>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "worker/trainer/text/added_tokens.h"
#include "worker/trainer/text/decoder.h"
#include "worker/trainer/text/post_processor.h"
#include "worker/trainer/text/pre_tokenizer.h"
#include "worker/trainer/text/special_tokens.h"
#include "worker/trainer/text/start_offsets.h"
#include "worker/trainer/text/tokenizer_file.h"
#include "worker/trainer/text/tokenizer_model_file.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer {
namespace {

// Hands each Encode call a scratch of its own, warm from earlier calls, so that
// threads share nothing while they work.
class ScratchPool {
 public:
  std::unique_ptr<ModelScratch> Take(const Model& model) {
    {
      absl::MutexLock lock(&mutex_);
      if (!idle_.empty()) {
        std::unique_ptr<ModelScratch> scratch = std::move(idle_.back());
        idle_.pop_back();
        return scratch;
      }
    }
    return model.NewScratch();
  }

  void Return(std::unique_ptr<ModelScratch> scratch) {
    absl::MutexLock lock(&mutex_);
    idle_.push_back(std::move(scratch));
  }

 private:
  absl::Mutex mutex_;
  std::vector<std::unique_ptr<ModelScratch>> idle_ ABSL_GUARDED_BY(mutex_);
};

template <typename T>
std::unique_ptr<T> MakeOptional(const ConfigNode& root, const char* key,
                                std::unique_ptr<T> (*make)(const ConfigNode&)) {
  return root.Has(key) ? make(root.At(key)) : nullptr;
}

void CheckVersion(const ConfigNode& root) {
  if (root.Has("version") && root.String("version") != "1.0") {
    root.At("version").Fail("is " + root.At("version").json().dump() + "; only \"1.0\" is known");
  }
}

// tokenizer.json, or else tokenizer.model.
TokenizerFile ReadTokenizer(const std::string& model_dir) {
  namespace fs = std::filesystem;
  const fs::path dir(model_dir), path = dir / "tokenizer.json";
  if (fs::exists(path)) return ReadTokenizerFile(path.string());
  if (fs::exists(dir / "tokenizer.model")) return ReadTokenizerModelFile(model_dir);
  if (!fs::is_directory(dir)) {
    throw ConfigError("there is no model folder " + model_dir, "Check the model's path.")
        .File(model_dir);
  }
  std::string what = "the model folder " + model_dir + " has no tokenizer.json";
  for (const char* other : {"vocab.json", "vocab.txt", "spiece.model"}) {
    if (fs::exists(dir / other)) {
      what += std::string(" (it has ") + other + ", a format that is not implemented)";
      break;
    }
  }
  throw ConfigError(what,
                    "Copy tokenizer.json and tokenizer_config.json there from the model's "
                    "repository (rows of token ids need them, too), or save the tokenizer with "
                    "transformers: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR).")
      .File(path.string());
}

// Of Tokenizer::Absent.
class AbsentModel : public Model {
 public:
  explicit AbsentModel(const TrainerError& problem) : problem_(problem) {}
  std::unique_ptr<ModelScratch> NewScratch() const override {
    return std::make_unique<ModelScratch>();
  }
  void Tokenize(std::string_view, ModelScratch*, std::vector<int32_t>*) const override {
    throw problem_;
  }
  const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  const TrainerError problem_;
  Vocabulary vocabulary_;
};

}  // namespace

struct Tokenizer::Impl {
  std::unique_ptr<Model> model;
  std::unique_ptr<Normalizer> normalizer;         // may be null
  std::unique_ptr<PreTokenizer> pre_tokenizer;    // may be null
  std::unique_ptr<PostProcessor> post_processor;  // may be null
  std::unique_ptr<Decoder> decoder;               // may be null
  std::unique_ptr<AddedTokens> added;
  nlohmann::ordered_json special_tokens;
  mutable ScratchPool scratches;

  // The ids of text between added tokens.
  void EncodeText(std::string_view text, bool at_start, ModelScratch* scratch,
                  std::vector<int32_t>* ids) const {
    PreTokenized pieces(text, at_start);
    if (pre_tokenizer) pre_tokenizer->Apply(&pieces);
    for (const PreTokenized::Piece& piece : pieces.pieces()) {
      model->Tokenize(piece.text, scratch, ids);
    }
  }

  // The same for text that the normalizer has not seen.
  void EncodeRaw(std::string_view text, bool at_start, ModelScratch* scratch,
                 std::vector<int32_t>* ids) const {
    std::string storage;
    if (normalizer) {
      storage = normalizer->Normalize(std::string(text));
      text = storage;
    }
    for (const AddedTokens::Part& part : added->SplitNormalized(text)) {
      if (part.id >= 0) {
        ids->push_back(part.id);
      } else {
        EncodeText(part.text, at_start && part.text.data() == text.data(), scratch, ids);
      }
    }
  }

  std::optional<int32_t> Role(const char* role) const {
    if (!special_tokens.contains(role)) return std::nullopt;
    const std::string token = special_tokens[role].get<std::string>();
    const std::optional<int32_t> id = added->Find(token);
    return id ? id : model->vocabulary().Find(token);
  }
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

std::unique_ptr<Tokenizer> Tokenizer::FromFolder(const std::string& model_dir) {
  TokenizerFile file = ReadTokenizer(model_dir);
  ConfigTokens config_tokens = ConfigTokens::Read(model_dir);
  const ConfigNode root(file.config, file.path, "");
  // transformers takes the token that the file pads with where no other file names one.
  if (root.Has("padding") && !config_tokens.roles.contains("pad_token")) {
    const std::string pad = root.At("padding").String("pad_token");
    config_tokens.roles["pad_token"] = pad;
    config_tokens.named.push_back({{"content", pad}, {"special", true}, {"normalized", false}});
  }
  if (!root.Has("added_tokens")) file.config["added_tokens"] = nlohmann::json::array();
  config_tokens.AppendTo(&file.config["added_tokens"]);
  CheckVersion(root);
  auto impl = std::make_unique<Impl>();
  impl->model = std::move(file.model);
  impl->normalizer = MakeOptional(root, "normalizer", MakeNormalizer);
  impl->pre_tokenizer = MakeOptional(root, "pre_tokenizer", MakePreTokenizer);
  RefuseStartsByOffset(root);
  impl->post_processor = MakeOptional(root, "post_processor", MakePostProcessor);
  impl->decoder = MakeOptional(root, "decoder", MakeDecoder);
  impl->added = std::make_unique<AddedTokens>(
      root.At("added_tokens"), impl->model->vocabulary(),
      file.added_tokens_are_normalized ? nullptr : impl->normalizer.get());
  impl->special_tokens = std::move(config_tokens.roles);
  for (const auto& [role, token] : file.roles.items()) {
    if (!impl->special_tokens.contains(role)) impl->special_tokens[role] = token;
  }
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

std::unique_ptr<Tokenizer> Tokenizer::Absent(const TrainerError& problem) {
  auto impl = std::make_unique<Impl>();
  impl->model = std::make_unique<AbsentModel>(problem);
  static const nlohmann::json none = nlohmann::json::array();
  impl->added =
      std::make_unique<AddedTokens>(ConfigNode(none, "", ""), impl->model->vocabulary(), nullptr);
  impl->special_tokens = nlohmann::ordered_json::object();
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

std::vector<int32_t> Tokenizer::Encode(std::string_view text, bool add_special_tokens) const {
  std::string repaired;
  if (!unicode::IsValidUtf8(text)) {
    repaired = unicode::Utf8Lossy(text);
    text = repaired;
  }
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3 + 8);
  std::unique_ptr<ModelScratch> scratch = impl_->scratches.Take(*impl_->model);
  for (const AddedTokens::Part& part : impl_->added->SplitRaw(text)) {
    if (part.id >= 0) {
      ids.push_back(part.id);
    } else {
      impl_->EncodeRaw(part.text, part.text.data() == text.data(), scratch.get(), &ids);
    }
  }
  impl_->scratches.Return(std::move(scratch));
  if (impl_->post_processor) impl_->post_processor->Process(add_special_tokens, &ids);
  return ids;
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int32_t id : ids) {
    const std::string* token = impl_->added->DecodedContent(id);
    if (token == nullptr) token = impl_->model->vocabulary().Token(id);
    if (token == nullptr) continue;
    if (skip_special_tokens && impl_->added->IsSpecial(*token)) continue;
    tokens.push_back(*token);
  }
  if (impl_->decoder) tokens = impl_->decoder->Decode(std::move(tokens));
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) {
    // Without a decoder tokens are words.
    if (i > 0 && !impl_->decoder) text += ' ';
    text += tokens[i];
  }
  return text;
}

std::optional<int32_t> Tokenizer::TokenToId(std::string_view token) const {
  const std::optional<int32_t> id = impl_->added->Find(token);
  return id ? id : impl_->model->vocabulary().Find(token);
}

std::optional<std::string> Tokenizer::IdToToken(int32_t id) const {
  const std::string* token = impl_->added->Content(id);
  if (token == nullptr) token = impl_->model->vocabulary().Token(id);
  return token == nullptr ? std::nullopt : std::optional(*token);
}

bool Tokenizer::IsAdded(int32_t id) const { return impl_->added->Content(id) != nullptr; }

bool Tokenizer::TakesSpacesBehind(int32_t id) const {
  return impl_->added->TakesSpacesBehind(id);
}

std::optional<int32_t> Tokenizer::bos_id() const { return impl_->Role("bos_token"); }
std::optional<int32_t> Tokenizer::eos_id() const { return impl_->Role("eos_token"); }
std::optional<int32_t> Tokenizer::pad_id() const { return impl_->Role("pad_token"); }
std::optional<int32_t> Tokenizer::unk_id() const { return impl_->Role("unk_token"); }

int64_t Tokenizer::vocab_size() const {
  return impl_->model->vocabulary().size() + impl_->added->num_new();
}

int32_t Tokenizer::max_id() const {
  return std::max(impl_->model->vocabulary().max_id(), impl_->added->max_id());
}

}  // namespace liger::trainer
