#include "worker/trainer/text/bpe_reader.h"

#include "worker/trainer/text/bpe.h"
#include "worker/trainer/text/config_node.h"

namespace liger::trainer {
namespace {

using simdjson::dom::element;

// Reads one BPE model; `node` is its JSON without vocab and merges.
class BpeReader {
 public:
  BpeReader(const simdjson::dom::object& model, const ConfigNode& node)
      : model_(model), node_(node) {}

  BpeConfig Read() {
    if (node_.Has("dropout") && node_.At("dropout").json() != 0.0) {
      node_.At("dropout").Fail("is not implemented: encoding would be random",
                               "Set it to null in tokenizer.json.");
    }
    ReadPrefixes();
    ReadVocabulary();
    ReadMerges();
    if (node_.Has("unk_token")) {
      config_.unk_id = config_.vocabulary.Find(node_.String("unk_token"));
      if (!config_.unk_id) node_.At("unk_token").Fail("is not in the vocabulary");
    }
    return std::move(config_);
  }

 private:
  void ReadPrefixes() {
    if (node_.Has("continuing_subword_prefix")) {
      config_.continuing_subword_prefix = node_.String("continuing_subword_prefix");
    }
    if (node_.Has("end_of_word_suffix")) {
      config_.end_of_word_suffix = node_.String("end_of_word_suffix");
    }
    config_.fuse_unk = node_.Bool("fuse_unk", false);
    config_.byte_fallback = node_.Bool("byte_fallback", false);
    config_.ignore_merges = node_.Bool("ignore_merges", false);
  }

  void ReadVocabulary() {
    simdjson::dom::object vocab;
    if (model_["vocab"].get(vocab)) node_.Fail("needs \"vocab\", an object of tokens and ids");
    config_.vocabulary.Reserve(vocab.size());
    for (const auto& [token, value] : vocab) {
      int64_t id = -1;
      if (value.get(id) || id < 0 || id > Vocabulary::kMaxId) {
        node_.Fail("has the id " + std::string(simdjson::minify(value)) + " for the token \"" +
                   std::string(token) + "\" in vocab; ids are integers from 0 to " +
                   std::to_string(Vocabulary::kMaxId));
      }
      config_.vocabulary.Add(token, static_cast<int32_t>(id));
    }
  }

  void ReadMerges() {
    simdjson::dom::array merges;
    if (model_["merges"].get(merges)) node_.Fail("needs \"merges\", an array");
    config_.merges.reserve(merges.size());
    for (const element merge : merges) {
      std::string_view line;
      if (!merge.get(line)) {
        // "#version" lines are from merges.txt; they hold no rank.
        if (!line.starts_with("#version")) ReadLine(line);
      } else {
        ReadPair(merge);
      }
      ++index_;
    }
  }

  void ReadLine(std::string_view line) {
    const size_t space = line.find(' ');
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
      FailMerge("must be two tokens with a space between");
    }
    AddMerge(line.substr(0, space), line.substr(space + 1));
  }

  void ReadPair(const element& merge) {
    simdjson::dom::array pair;
    std::string_view left, right;
    if (merge.get(pair) || pair.size() != 2 || pair.at(0).get(left) || pair.at(1).get(right)) {
      FailMerge("must be \"left right\" or [\"left\", \"right\"]");
    }
    AddMerge(left, right);
  }

  void AddMerge(std::string_view left, std::string_view right) {
    joined_.assign(left);
    // Inside a word the right part carries the prefix, the joined token does not.
    const size_t prefix = config_.continuing_subword_prefix.size();
    if (right.size() < prefix) FailMerge("has a right part shorter than the subword prefix");
    joined_.append(right.substr(prefix));
    config_.merges.push_back(
        {IdOf(left), IdOf(right), IdOf(joined_), static_cast<int32_t>(config_.merges.size())});
  }

  int32_t IdOf(std::string_view token) {
    const std::optional<int32_t> id = config_.vocabulary.Find(token);
    if (!id) FailMerge("needs the token \"" + std::string(token) + "\", which vocab lacks");
    return *id;
  }

  [[noreturn]] void FailMerge(const std::string& what) const {
    node_.Fail("has a bad merge: merges[" + std::to_string(index_) + "] " + what);
  }

  const simdjson::dom::object model_;
  const ConfigNode node_;
  BpeConfig config_;
  std::string joined_;
  size_t index_ = 0;
};

}  // namespace

std::unique_ptr<Model> ReadModel(const element& model, const std::string& path) {
  nlohmann::json fields = nlohmann::json::object();
  const ConfigNode node(fields, path, "model");
  simdjson::dom::object members;
  if (model.get(members)) node.Fail("must be an object");
  for (const auto& [key, value] : members) {
    if (key == "vocab" || key == "merges") continue;
    fields[std::string(key)] = nlohmann::json::parse(simdjson::minify(value));
  }
  // Files of the first versions have no type.
  const bool untyped_bpe = !node.Has("type") && !members["merges"].error();
  if (!untyped_bpe && node.String("type") != "BPE") {
    node.At("type").FailUnknownType("tokenizer model", "BPE");
  }
  return std::make_unique<BpeModel>(BpeReader(members, node).Read());
}

}  // namespace liger::trainer
