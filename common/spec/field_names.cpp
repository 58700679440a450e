#include "common/spec/field_names.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/spec/spec.h"
#include "common/spec/suggest.h"

namespace liger {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// Messages inside one another below a job file; a bound, should a type hold itself.
constexpr int kMaxDepth = 4;

// May `field` be written, given the members of oneofs that are set?
bool MayBeSet(const Message& message, const FieldDescriptor* field) {
  const auto* oneof = field->real_containing_oneof();
  if (oneof == nullptr) return true;
  const auto* set = message.GetReflection()->GetOneofFieldDescriptor(message, oneof);
  return set == nullptr || set == field;
}

// Appends the paths of fields called `name` in the messages below `message`.
void FindBelow(const Message& message, const std::string& path, const std::string& name, int depth,
               std::vector<std::string>* found) {
  if (depth > kMaxDepth) return;
  const Descriptor& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor* field = type.field(i);
    const bool is_message = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (!is_message || field->is_repeated() || !MayBeSet(message, field)) continue;
    const std::string below = absl::StrCat(path, path.empty() ? "" : ".", field->name());
    if (field->message_type()->FindFieldByName(name) != nullptr) {
      found->push_back(absl::StrCat(below, ".", name));
    }
    FindBelow(message.GetReflection()->GetMessage(message, field), below, name, depth + 1, found);
  }
}

}  // namespace

std::vector<std::string> FieldNames(const Descriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.field_count(); ++i) names.push_back(type.field(i)->name());
  return names;
}

std::string MeantField(const Message& message, const std::string& path, const std::string& name,
                       bool whole_path) {
  const bool of_job = message.GetDescriptor() == liger::v1::JobSpec::descriptor();
  if (of_job && (name == "trainer" || name == "method")) {
    return absl::StrCat("; a trainer is named by its own section, ",
                        absl::StrJoin(kTrainableMethods, ":, "), ": ('sft:' in place of '", name,
                        ": sft'), or by --trainer");
  }
  std::vector<std::string> found;
  FindBelow(message, path, name, 0, &found);
  if (found.empty()) {
    const std::string prefix = whole_path && !path.empty() ? path + "." : "";
    std::vector<std::string> names = FieldNames(*message.GetDescriptor());
    for (std::string& one : names) one = prefix + one;
    return DidYouMean(prefix + name, names);
  }
  return absl::StrCat("; did you mean '", absl::StrJoin(found, "' or '"), "'?");
}

}  // namespace liger
