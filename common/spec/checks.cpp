#include "common/spec/checks.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/spec/suggest.h"

namespace liger {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// The field at a dotted path with its message, or null when a message on the
// way or the field itself is not set.
const FieldDescriptor* FindSetField(const Message& root, std::string_view path,
                                    const Message** owner) {
  const Message* message = &root;
  const std::vector<std::string> names = absl::StrSplit(std::string(path), '.');
  for (size_t i = 0; i < names.size(); ++i) {
    const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(names[i]);
    if (!message->GetReflection()->HasField(*message, field)) return nullptr;
    if (i + 1 == names.size()) {
      *owner = message;
      return field;
    }
    message = &message->GetReflection()->GetMessage(*message, field);
  }
  return nullptr;
}

double NumberOf(const Message& message, const FieldDescriptor* field) {
  const auto* reflection = message.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection->GetDouble(message, field);
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection->GetInt32(message, field);
    default:
      return static_cast<double>(reflection->GetInt64(message, field));
  }
}

std::string DescribeRange(const Checks::Range& range) {
  if (range.low == range.high) return absl::StrCat("be ", range.low);
  std::string text = absl::StrCat("be ", range.low_open ? "> " : ">= ", range.low);
  if (range.high != Checks::kInfinity) {
    absl::StrAppend(&text, " and ", range.high_open ? "< " : "<= ", range.high);
  }
  return text;
}

}  // namespace

void Checks::Add(const std::string& field, const std::string& message) {
  liger::v1::Violation& violation = violations_.emplace_back();
  violation.set_field(field);
  violation.set_message(message);
}

void Checks::OneOf(const std::string& field, const std::string& value,
                   const std::vector<std::string>& known) {
  if (std::find(known.begin(), known.end(), value) != known.end()) return;
  Add(field, absl::StrCat("'", value, "' is not one of ", absl::StrJoin(known, ", "),
                          DidYouMean(value, known)));
}

void Checks::Scheme(const std::string& field, const std::string& uri) {
  const auto control = std::find_if(uri.begin(), uri.end(), [](unsigned char c) {
    return c < 0x20 || c == 0x7f;
  });
  if (control != uri.end()) {
    return Add(field, absl::StrCat("has the control character ", static_cast<int>(*control),
                                   " at byte ", control - uri.begin() + 1, "; remove it"));
  }
  const size_t scheme = uri.find("://");
  if (scheme == std::string::npos || uri.compare(0, scheme, "file") == 0) return;
  Add(field,
      absl::StrCat("scheme '", uri.substr(0, scheme), "' is not supported; use a path or file://"));
}

void Checks::InRanges(std::span<const Range> ranges) {
  for (const Range& range : ranges) InRange(range);
}

void Checks::InRange(const Range& range) {
  const Message* owner = nullptr;
  const FieldDescriptor* field = FindSetField(spec_, range.field, &owner);
  if (field == nullptr) return;
  const double value = NumberOf(*owner, field);
  const bool above = range.low_open ? value > range.low : value >= range.low;
  const bool below = range.high_open ? value < range.high : value <= range.high;
  if (above && below) return;  // also false for NaN
  const char* finite = std::isinf(value) ? "be finite and " : "";
  Add(range.field, absl::StrCat(value, " is out of range; it must ", finite, DescribeRange(range)));
}

}  // namespace liger
