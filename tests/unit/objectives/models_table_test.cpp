// The tables of docs/models.md: the families, and what each tiny model's largest error
// against transformers is. `make models-table` writes them (LIGER_WRITE_DOCS=1); the test
// compares the page with what it measures.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "common/model_shapes/model_families.h"
#include "tests/unit/models/golden.h"
#include "tests/unit/objectives/doc_table.h"
#include "worker/trainer/error.h"
#include "worker/trainer/models/registry.h"
#include "worker/trainer/objectives/orpo.h"
#include "worker/trainer/objectives/sft.h"
#include "worker/trainer/objectives/token_logprobs.h"

namespace liger::trainer {
namespace {

constexpr double kTolerance = 1e-5;
constexpr char kPage[] = "docs/models.md";

std::string Size(int64_t n) { return std::to_string(n); }

// What the config switches on, in words.
std::string Features(const ModelConfig& c) {
  std::vector<std::string> words;
  const auto add = [&](bool on, const std::string& word) {
    if (on) words.push_back(word);
  };
  add(true, Size(c.num_attention_heads) + " heads over " + Size(c.num_key_value_heads));
  add(c.head_dim * c.num_attention_heads != c.hidden_size, "head_dim " + Size(c.head_dim));
  static const std::map<RopeConfig::Type, std::string> kRopes = {
      {RopeConfig::Type::kLinear, "linear rope"},
      {RopeConfig::Type::kDynamic, "dynamic rope"},
      {RopeConfig::Type::kYarn, "yarn"},
      {RopeConfig::Type::kLlama3, "llama3 rope"},
      {RopeConfig::Type::kLongRope, "longrope"}};
  if (const auto rope = kRopes.find(c.rope.type); rope != kRopes.end()) add(true, rope->second);
  add(c.rope.rotary_dim < c.head_dim, "partial rotary");
  const int64_t windowed = std::count_if(c.sliding_windows.begin(), c.sliding_windows.end(),
                                         [](int64_t window) { return window > 0; });
  const int64_t window = *std::max_element(c.sliding_windows.begin(), c.sliding_windows.end());
  add(windowed > 0, "window of " + Size(window) + " in " + Size(windowed) + " of " +
                        Size(c.num_hidden_layers) + " layers");
  add(c.qkv_bias && c.out_bias, "attention biases");
  add(c.qkv_bias && !c.out_bias, "q, k, v biases");
  add(c.mlp_bias, "MLP biases");
  add(c.activation == Activation::kGelu, "gelu");
  add(c.activation == Activation::kGeluTanh, "gelu (tanh)");
  add(c.attn_logit_softcapping > 0, "capped scores");
  add(c.final_logit_softcapping > 0, "capped logits");
  add(c.num_local_experts > 0,
      Size(c.num_experts_per_tok) + " of " + Size(c.num_local_experts) + " experts");
  add(c.router_aux_loss_coef > 0, "load-balancing loss");
  add(c.tie_word_embeddings, "tied head");
  add(c.pad_token_id.has_value(), "padding token");
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

class Errors {
 public:
  Errors(const std::string& folder, const std::string& kernels)
      : folder_(folder),
        kernels_(kernels),
        expected_(golden::ReadJson(folder + "/expected.json")),
        tensors_(SafetensorsFile::Open(folder + "/expected.safetensors")) {}

  double Logits() const {
    const auto model = Model();
    const at::NoGradGuard no_grad;
    const at::Tensor hidden = model->Hidden(ToModelInput(Batches("sft")[0], *model));
    return golden::RelativeError(model->Logits(hidden), tensors_->View("logits"));
  }

  double Gradients() const {
    double largest = 0;
    for (const std::string method : {"sft", "orpo"}) {
      const auto model = Model();
      const auto objective = Make(method);
      golden::WholeStep(*objective, *model, Batches(method)[0]).loss.backward();
      for (const auto& item : model->named_parameters()) {
        largest = std::max(
            largest,
            golden::RelativeError(item.value().grad(), tensors_->View(method + "." + item.key())));
      }
    }
    return largest;
  }

  // Of the losses of ten SFT and ten ORPO steps.
  double Curves() const {
    double largest = 0;
    for (const std::string method : {"sft", "orpo"}) {
      const auto model = Model();
      const auto objective = Make(method);
      const auto history = golden::Train(*objective, *model, Batches(method), expected_.at("lr"));
      for (size_t step = 0; step < history.size(); ++step) {
        const double loss = expected_.at(method)[step].at("loss");
        largest = std::max(largest, std::abs(history[step].at("loss") - loss));
      }
    }
    return largest;
  }

 private:
  std::shared_ptr<CausalLM> Model() const { return golden::LoadModel(folder_, kernels_); }
  std::unique_ptr<Objective> Make(const std::string& method) const {
    if (method == "sft") return std::make_unique<SftObjective>();
    return std::make_unique<OrpoObjective>(expected_.at("beta").get<double>());
  }
  std::vector<Batch> Batches(const std::string& method) const {
    std::vector<Batch> batches;
    for (const auto& rows : expected_.at(method + "_batches")) {
      batches.push_back(method == "sft" ? golden::SftBatch(rows) : golden::PairBatch(rows));
    }
    return batches;
  }

  const std::string folder_, kernels_;
  const nlohmann::json expected_;
  const std::shared_ptr<const SafetensorsFile> tensors_;
};

TEST(ModelsTableTest, Errors) {
  std::map<std::string, std::string> rows;  // in the order of families, then cases
  std::set<std::string> covered;
  for (const std::string& name : golden::TinyCases()) {
    const std::string folder = golden::Folder("tiny/" + name);
    const ModelConfig config = ModelConfig::FromFolder(folder);
    covered.insert(config.model_type);
    double logits = 0, gradients = 0, curves = 0;
    for (const char* kernels : {"LIGER", "BASELINE"}) {
      const Errors errors(folder, kernels);
      logits = std::max(logits, errors.Logits());
      gradients = std::max(gradients, errors.Gradients());
      curves = std::max(curves, errors.Curves());
    }
    EXPECT_LT(logits, kTolerance) << name;
    EXPECT_LT(gradients, kTolerance) << name;
    EXPECT_LT(curves, kTolerance) << name;
    rows[config.model_type + " " + name] =
        "| `" + config.model_type + "` | " + Features(config) + " | " + RoundedError(logits) +
        " | " + RoundedError(gradients) + " | " + RoundedError(curves) + " |\n";
  }
  EXPECT_EQ(covered.size(), std::size(kModelFamilies)) << "a family has no tiny model";
  std::string table =
      "| model_type | tiny model | logits | gradients | ten losses |\n|---|---|---|---|---|\n";
  for (const auto& [key, row] : rows) table += row;
  WriteOrCompare(kPage, "errors", table);
}

TEST(ModelsTableTest, Families) {
  std::string table = "| model_type | models | what it has beyond Llama |\n|---|---|---|\n";
  std::string known;
  for (const ModelFamily& family : kModelFamilies) {
    EXPECT_EQ(FindModelType(std::string(family.model_type)).name, family.model_type);
    known += (known.empty() ? "" : ", ") + std::string(family.model_type);
    table += "| `" + std::string(family.model_type) + "` | " + std::string(family.models) + " | " +
             std::string(family.features) + " |\n";
  }
  try {
    FindModelType("unknown");
    FAIL() << "known";
  } catch (const TrainerError& error) {
    EXPECT_NE(error.failure().action().find(": " + known + "."), std::string::npos)
        << "the registry has other types: " << error.failure().action();
  }
  WriteOrCompare(kPage, "families", table);
}

}  // namespace
}  // namespace liger::trainer
