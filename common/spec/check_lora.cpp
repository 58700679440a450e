#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/spec/checks.h"
#include "common/spec/suggest.h"

namespace liger {
namespace {

using google::protobuf::FieldDescriptor;

constexpr Checks::Range kRanges[] = {
    {"lora.r", 1, false, Checks::kInfinity, true},
    {"lora.lora_alpha", 0, true, Checks::kInfinity, true},
    {"lora.lora_dropout", 0, false, 1, true},
};
constexpr char kAllLinear[] = "all-linear";

template <typename List>
bool Contains(const List& list, const std::string& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

// Everything but the folder itself and what becomes of the result is the folder's.
void CheckAdapterUri(Checks& checks) {
  const auto& lora = checks.spec().lora();
  checks.Scheme("lora.adapter_uri", lora.adapter_uri());
  if (lora.adapter_uri().empty()) return;
  std::vector<const FieldDescriptor*> given;
  lora.GetReflection()->ListFields(lora, &given);
  for (const FieldDescriptor* field : given) {
    const std::string name(field->name());
    if (name == "adapter_uri" || name == "merge") continue;
    checks.Add("lora." + name,
               "cannot be given together with lora.adapter_uri, whose folder says it; keep one");
  }
}

// Whose commas need not be between names: layers\.\d{1,2}\.q_proj.
bool HoldsRegex(const std::string& name) {
  return name.find_first_of("{}\\()^$*+|?") != std::string::npos;
}

template <typename List>
void CheckLayers(Checks& checks, const char* field, const List& names) {
  for (const std::string& name : names) {
    if (name.empty()) checks.Add(field, "has an empty name; remove it");
    const std::string several = HoldsRegex(name) ? "" : SeveralAsList(name);
    if (!several.empty()) checks.Add(field, absl::StrCat("'", name, "' is no layer", several));
  }
}

void CheckTargets(Checks& checks) {
  const auto& lora = checks.spec().lora();
  if (Contains(lora.target_modules(), kAllLinear) && lora.target_modules_size() > 1) {
    checks.Add("lora.target_modules", "names all-linear and other layers; keep one of the two");
  }
  CheckLayers(checks, "lora.target_modules", lora.target_modules());
  CheckLayers(checks, "lora.modules_to_save", lora.modules_to_save());
  for (const std::string& name : lora.target_modules()) {
    // TRL refuses it, too: losses take the head's weight as it is.
    if (name == "lm_head") {
      checks.Add("lora.target_modules",
                 "'lm_head' cannot carry an adapter; name it in lora.modules_to_save instead");
    }
    if (Contains(lora.modules_to_save(), name)) {
      checks.Add("lora.modules_to_save",
                 absl::StrCat("'", name, "' is in lora.target_modules, too; keep one"));
    }
  }
}

}  // namespace

void CheckLora(Checks& checks) {
  if (!checks.spec().has_lora()) return;
  checks.InRanges(kRanges);
  CheckAdapterUri(checks);
  CheckTargets(checks);
  if (checks.spec().dpo().sync_ref_model()) {
    checks.Add("dpo.sync_ref_model",
               "cannot be given together with lora, whose reference is the model without the "
               "adapter; remove one of them");
  }
}

}  // namespace liger
