#include "common/spec/yaml_proto.h"

#include <google/protobuf/util/time_util.h>
#include <yaml-cpp/yaml.h>

#include <limits>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/file.h"
#include "common/spec/enum_names.h"
#include "common/spec/field_names.h"
#include "common/spec/suggest.h"
#include "common/spec/violations.h"
#include "common/spec/yaml_text.h"
#include "liger/v1/job_spec.pb.h"

namespace liger {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::util::TimeUtil;
using liger::v1::Violation;

// Nesting beyond this is no job file; it bounds recursion on hostile input.
constexpr int kMaxDepth = 32;

// YAML's .inf, -.inf and .nan as absl::SimpleAtod spells them.
std::string WithoutYamlDot(const std::string& text) {
  const size_t dot = text.find('.');
  if (dot == text.npos) return text;
  const std::string rest = text.substr(dot + 1);
  const bool special = absl::EqualsIgnoreCase(rest, "inf") || absl::EqualsIgnoreCase(rest, "nan");
  return special ? text.substr(0, dot) + rest : text;
}

// Fills messages from YAML nodes and collects every mistake on the way.
class Reader {
 public:
  // `root` is the message of the whole file, which outlives the reader; null: it is of no interest.
  explicit Reader(std::string file_name, const Message* root = nullptr)
      : file_name_(std::move(file_name)), root_(root) {}

  void ReadMessage(const YAML::Node& node, const std::string& path, Message* message, int depth);
  void ReadField(const YAML::Node& node, const std::string& path, Message* message,
                 const FieldDescriptor* field, int depth);
  void AddViolation(const YAML::Mark& mark, const std::string& path, const std::string& text);

  // The messages that were read must still be there.
  std::vector<Violation> TakeViolations();

 private:
  void ReadKey(const YAML::Node& key, const YAML::Node& value, const std::string& path,
               Message* message, std::set<std::string>* seen, int depth);
  void ReadRepeated(const YAML::Node& node, const std::string& path, Message* message,
                    const FieldDescriptor* field, int depth);
  void ReadMap(const YAML::Node& node, const std::string& path, Message* message,
               const FieldDescriptor* field);
  // Sets (or adds, for a repeated field) one scalar.
  void ReadScalar(const YAML::Node& node, const std::string& path, Message* message,
                  const FieldDescriptor* field);
  bool ReadNumber(const std::string& text, Message* message, const FieldDescriptor* field,
                  std::string* problem);
  bool ReadEnum(const std::string& text, Message* message, const FieldDescriptor* field,
                std::string* problem);
  template <typename T>
  static void Store(Message* message, const FieldDescriptor* field, T value,
                    void (Reflection::*set)(Message*, const FieldDescriptor*, T) const,
                    void (Reflection::*add)(Message*, const FieldDescriptor*, T) const) {
    const Reflection* reflection = message->GetReflection();
    if (field->is_repeated()) {
      (reflection->*add)(message, field, value);
    } else {
      (reflection->*set)(message, field, value);
    }
  }

  std::string file_name_;
  const Message* root_;
  std::vector<Violation> violations_;
  // Fields that are none, whose hints depend on what stands behind them, too.
  struct UnknownField {
    size_t violation;
    const Message* message;
    std::string path, name;
  };
  std::vector<UnknownField> unknown_;
};

std::vector<Violation> Reader::TakeViolations() {
  for (const UnknownField& field : unknown_) {
    const Message& root = root_ == nullptr ? *field.message : *root_;
    violations_[field.violation].mutable_message()->append(
        MeantField(root, *field.message, field.path, field.name));
  }
  unknown_.clear();
  return std::move(violations_);
}

// Why `field` may not be set: another member of its oneof is. Empty: it may.
std::string OneofConflict(const Message& message, const FieldDescriptor* field) {
  const auto* oneof = field->real_containing_oneof();
  if (oneof == nullptr) return "";
  const auto* set = message.GetReflection()->GetOneofFieldDescriptor(message, oneof);
  if (set == nullptr || set == field) return "";
  return absl::StrCat("cannot be given together with '", set->name(), "'; keep one of them");
}

std::string Join(const std::string& path, const std::string& name) {
  return path.empty() ? name : absl::StrCat(path, ".", name);
}

void Reader::AddViolation(const YAML::Mark& mark, const std::string& path,
                          const std::string& text) {
  Violation violation;
  violation.set_field(path);
  violation.set_message(text);
  violation.set_file(file_name_);
  violation.set_line(mark.is_null() ? 0 : mark.line + 1);
  violations_.push_back(std::move(violation));
}

void Reader::ReadMessage(const YAML::Node& node, const std::string& path, Message* message,
                         int depth) {
  if (depth > kMaxDepth) return AddViolation(node.Mark(), path, "is nested too deeply");
  if (node.IsNull()) return;
  const Descriptor* type = message->GetDescriptor();
  if (auto* time = dynamic_cast<google::protobuf::Timestamp*>(message)) {
    if (node.IsScalar() && TimeUtil::FromString(node.Scalar(), time)) return;
    return AddViolation(node.Mark(), path, "must be a time such as 2026-01-31T12:00:00Z");
  }
  if (node.IsScalar() && depth > 0 && type->field_count() > 0) {
    const FieldDescriptor* first = type->field(0);
    const bool shorthand =
        !first->is_repeated() && (first->type() == FieldDescriptor::TYPE_STRING ||
                                  first->type() == FieldDescriptor::TYPE_ENUM);
    if (shorthand) return ReadScalar(node, path, message, first);
  }
  if (!node.IsMap()) {
    return AddViolation(
        node.Mark(), path,
        absl::StrCat("must be a mapping, or empty where the defaults are meant, with the fields ",
                     absl::StrJoin(FieldNames(*type), ", ")));
  }
  std::set<std::string> seen;
  for (const auto& entry : node) ReadKey(entry.first, entry.second, path, message, &seen, depth);
}

void Reader::ReadKey(const YAML::Node& key, const YAML::Node& value, const std::string& path,
                     Message* message, std::set<std::string>* seen, int depth) {
  if (!key.IsScalar()) return AddViolation(key.Mark(), path, "has a key that is not a name");
  const Descriptor* type = message->GetDescriptor();
  const std::string& name = key.Scalar();
  const FieldDescriptor* field = type->FindFieldByName(name);
  if (field == nullptr) field = type->FindFieldByCamelcaseName(name);
  const std::string field_path = Join(path, field == nullptr ? name : field->name());
  if (field == nullptr) {
    unknown_.push_back({violations_.size(), message, path, name});
    return AddViolation(key.Mark(), field_path, "is not a field");
  }
  if (!seen->insert(field->name()).second) {
    return AddViolation(key.Mark(), field_path, "is given twice; keep one");
  }
  if (const std::string conflict = OneofConflict(*message, field); !conflict.empty()) {
    return AddViolation(key.Mark(), field_path, conflict);
  }
  ReadField(value, field_path, message, field, depth);
}

void Reader::ReadField(const YAML::Node& node, const std::string& path, Message* message,
                       const FieldDescriptor* field, int depth) {
  if (field->is_map()) return ReadMap(node, path, message, field);
  if (field->is_repeated()) return ReadRepeated(node, path, message, field, depth);
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    return ReadMessage(node, path, message->GetReflection()->MutableMessage(message, field),
                       depth + 1);
  }
  ReadScalar(node, path, message, field);
}

void Reader::ReadRepeated(const YAML::Node& node, const std::string& path, Message* message,
                          const FieldDescriptor* field, int depth) {
  if (node.IsNull()) return;
  // One value stands for a list of one.
  if (node.IsScalar() && field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
    return ReadScalar(node, path, message, field);
  }
  if (!node.IsSequence()) return AddViolation(node.Mark(), path, "must be a list");
  for (size_t i = 0; i < node.size(); ++i) {
    const std::string item_path = absl::StrCat(path, "[", i, "]");
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      ReadMessage(node[i], item_path, message->GetReflection()->AddMessage(message, field),
                  depth + 1);
    } else {
      ReadScalar(node[i], item_path, message, field);
    }
  }
}

void Reader::ReadMap(const YAML::Node& node, const std::string& path, Message* message,
                     const FieldDescriptor* field) {
  if (node.IsNull()) return;
  if (!node.IsMap()) return AddViolation(node.Mark(), path, "must be a mapping");
  const Descriptor* entry_type = field->message_type();
  std::set<std::string> seen;
  for (const auto& entry : node) {
    const std::string entry_path = Join(path, entry.first.IsScalar() ? entry.first.Scalar() : "?");
    if (entry.first.IsScalar() && !seen.insert(entry.first.Scalar()).second) {
      AddViolation(entry.first.Mark(), entry_path, "is given twice; keep one");
      continue;
    }
    Message* item = message->GetReflection()->AddMessage(message, field);
    ReadScalar(entry.first, entry_path, item, entry_type->map_key());
    ReadScalar(entry.second, entry_path, item, entry_type->map_value());
  }
}

void Reader::ReadScalar(const YAML::Node& node, const std::string& path, Message* message,
                        const FieldDescriptor* field) {
  if (node.IsNull()) return AddViolation(node.Mark(), path, "has no value; give one or remove it");
  if (!node.IsScalar()) {
    const bool sets = node.IsSequence() &&
                      message->GetDescriptor() == liger::v1::DatasetSpec::descriptor() &&
                      (field->name() == "name" || field->name() == "uri");
    return AddViolation(node.Mark(), path,
                        sets ? "must be a single value; several are dataset.sources, each with uri"
                             : "must be a single value");
  }
  const std::string& text = node.Scalar();
  std::string problem;
  bool ok = true;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      Store<std::string>(message, field, text, &Reflection::SetString, &Reflection::AddString);
      break;
    case FieldDescriptor::CPPTYPE_ENUM:
      ok = ReadEnum(text, message, field, &problem);
      break;
    case FieldDescriptor::CPPTYPE_BOOL: {
      bool value = false;
      ok = YAML::convert<bool>::decode(node, value);
      if (!ok) problem = absl::StrCat("must be true or false, not '", text, "'");
      if (ok) Store(message, field, value, &Reflection::SetBool, &Reflection::AddBool);
      break;
    }
    default:
      ok = ReadNumber(text, message, field, &problem);
  }
  if (!ok && field->is_repeated()) problem += SeveralAsList(text);
  if (!ok) AddViolation(node.Mark(), path, problem);
}

bool Reader::ReadEnum(const std::string& text, Message* message, const FieldDescriptor* field,
                      std::string* problem) {
  const EnumValueDescriptor* value = FindEnumValue(*field->enum_type(), text);
  if (value == nullptr) {
    *problem = absl::StrCat("'", text, "' is not one of ",
                            absl::StrJoin(EnumChoices(*field->enum_type()), ", "));
    return false;
  }
  Store(message, field, value, &Reflection::SetEnum, &Reflection::AddEnum);
  return true;
}

bool Reader::ReadNumber(const std::string& text, Message* message, const FieldDescriptor* field,
                        std::string* problem) {
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
    double value = 0;
    if (!absl::SimpleAtod(WithoutYamlDot(text), &value)) {
      *problem = absl::StrCat("must be a number, not '", text, "'");
      return false;
    }
    Store(message, field, value, &Reflection::SetDouble, &Reflection::AddDouble);
    return true;
  }
  const bool narrow = field->cpp_type() == FieldDescriptor::CPPTYPE_INT32;
  int64_t value = 0;
  const bool in_range =
      absl::SimpleAtoi(text, &value) && (!narrow || (value >= std::numeric_limits<int32_t>::min() &&
                                                     value <= std::numeric_limits<int32_t>::max()));
  if (!in_range) {
    *problem = absl::StrCat("must be a whole number of at most ", narrow ? 32 : 64, " bits, not '",
                            text, "'");
    return false;
  }
  if (narrow) {
    Store(message, field, static_cast<int32_t>(value), &Reflection::SetInt32,
          &Reflection::AddInt32);
  } else {
    Store(message, field, value, &Reflection::SetInt64, &Reflection::AddInt64);
  }
  return true;
}

}  // namespace

std::vector<Violation> ParseYaml(std::string_view text, const std::string& file_name,
                                 Message* message) {
  Reader reader(file_name, message);
  try {
    const YamlDocuments documents = LoadDocuments(std::string(text));
    reader.ReadMessage(documents.first, "", message, 0);
    if (documents.second) {
      reader.AddViolation(*documents.second, "",
                          "a second document begins here; one file holds one, put it into its own");
    }
  } catch (const YAML::Exception& error) {
    const auto [place, message] = FindYamlProblem(text, error);
    reader.AddViolation(place, "", message);
  }
  return reader.TakeViolations();
}

absl::Status LoadYaml(const std::string& path, Message* message) {
  auto text = ReadFile(path, /*max_bytes=*/4 << 20);
  if (!text.ok()) return text.status();
  return ViolationsToStatus(ParseYaml(*text, path, message));
}

// A value that was given alone has no lines.
absl::Status WithoutLines(std::vector<Violation> violations) {
  for (Violation& violation : violations) violation.clear_line();
  return ViolationsToStatus(violations);
}

absl::Status SetField(Message* message, std::string_view path, std::string_view value) {
  const std::vector<std::string> names = absl::StrSplit(std::string(path), '.');
  const Message& root = *message;
  std::string walked;
  for (size_t i = 0; i < names.size(); ++i) {
    const Descriptor* type = message->GetDescriptor();
    const FieldDescriptor* field = type->FindFieldByName(names[i]);
    walked = Join(walked, names[i]);
    if (field == nullptr) {
      const std::vector<std::string> above(names.begin(), names.begin() + static_cast<int64_t>(i));
      return absl::InvalidArgumentError(absl::StrCat(
          walked, ": is not a field",
          MeantField(root, *message, absl::StrJoin(above, "."), names[i], /*whole_path=*/true)));
    }
    if (const std::string conflict = OneofConflict(*message, field); !conflict.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(walked, ": ", conflict));
    }
    if (i + 1 < names.size() && field->is_map()) {
      // labels.team=nlp: the rest of the path is the key.
      const std::string key =
          absl::StrJoin(names.begin() + static_cast<int64_t>(i) + 1, names.end(), ".");
      YAML::Node entry;
      entry[key] = std::string(value);
      Reader reader("", &root);
      reader.ReadField(entry, walked, message, field, 1);
      return WithoutLines(reader.TakeViolations());
    }
    if (i + 1 < names.size()) {
      if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || field->is_repeated()) {
        return absl::InvalidArgumentError(absl::StrCat(walked, ": has no fields inside"));
      }
      message = message->GetReflection()->MutableMessage(message, field);
      continue;
    }
    message->GetReflection()->ClearField(message, field);
    Reader reader("", &root);
    try {
      reader.ReadField(ValueNode(*field, std::string(value)), walked, message, field, 1);
    } catch (const YAML::Exception& error) {
      return absl::InvalidArgumentError(absl::StrCat(walked, ": ", error.msg));
    }
    return WithoutLines(reader.TakeViolations());
  }
  return absl::OkStatus();
}

}  // namespace liger
