#include "worker/trainer/text/start_offsets.h"

#include <algorithm>
#include <vector>

namespace liger::trainer {
namespace {

// The steps of a component that may be a Sequence, those of its members in their place.
void AppendSteps(const ConfigNode& node, const char* members, std::vector<ConfigNode>* steps) {
  if (node.String("type") != "Sequence") return steps->push_back(node);
  for (const ConfigNode& step : node.At(members).Array()) AppendSteps(step, members, steps);
}

std::vector<ConfigNode> StepsOf(const ConfigNode& root, const char* key, const char* members) {
  std::vector<ConfigNode> steps;
  if (root.Has(key)) AppendSteps(root.At(key), members, &steps);
  return steps;
}

bool CutsStart(const ConfigNode& normalizer) {
  const std::string type = normalizer.String("type");
  return (type == "Strip" && normalizer.Bool("strip_left", true)) ||
         (type == "Replace" && normalizer.String("content").empty());
}

bool Prepends(const ConfigNode& pre_tokenizer) {
  const std::string type = pre_tokenizer.String("type");
  return type == "ByteLevel" || type == "Metaspace";
}

bool AsksForStart(const ConfigNode& pre_tokenizer) {
  return pre_tokenizer.String("type") == "Metaspace" && pre_tokenizer.Has("prepend_scheme") &&
         pre_tokenizer.String("prepend_scheme") == "first";
}

}  // namespace

void RefuseStartsByOffset(const ConfigNode& root) {
  const std::vector<ConfigNode> normalizers = StepsOf(root, "normalizer", "normalizers");
  const std::vector<ConfigNode> steps = StepsOf(root, "pre_tokenizer", "pretokenizers");
  const bool is_cut = std::any_of(normalizers.begin(), normalizers.end(), CutsStart);
  for (auto step = steps.begin(); step != steps.end(); ++step) {
    if (!AsksForStart(*step)) continue;
    const bool is_moved = step != steps.begin() &&
                          (!normalizers.empty() || std::any_of(steps.begin(), step, Prepends));
    if (!is_cut && !is_moved) continue;
    step->At("prepend_scheme")
        .Fail(std::string("is \"first\" behind ") +
              (is_cut ? "a normalizer that may cut off a text's start (Strip, Replace by nothing)"
                      : "another pre-tokenizer and a normalizer, a ByteLevel or a Metaspace") +
              ", which is not implemented");
  }
}

}  // namespace liger::trainer
