#include "client/worker_names.h"

#include <regex>

#include "absl/strings/strip.h"
#include "client/errors.h"

namespace liger::client {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using liger::v1::FineTuning;

WorkerNames::WorkerNames(const liger::v1::ListWorkersResponse& workers) {
  for (const auto& worker : workers.workers()) {
    const bool named = !worker.name().empty() && !worker.worker_id().empty();
    if (named) names_.emplace_back(worker.worker_id(), worker.name());
  }
}

WorkerNames WorkerNames::Of(Connection& connection) {
  try {
    return WorkerNames(connection.Call(&FineTuning::StubInterface::ListWorkers,
                                       liger::v1::ListWorkersRequest(), /*deadline_seconds=*/5));
  } catch (const CliError&) {
    return {};
  }
}

WorkerNames::Holds WorkerNames::What(const FieldDescriptor& field) {
  if (field.type() != FieldDescriptor::TYPE_STRING) return Holds::kNeither;
  for (const char* name : {"worker_id", "present_on"}) {
    if (field.name() == name) return Holds::kId;
  }
  for (const char* name : {"message", "action", "detail", "hint", "actor", "notices"}) {
    if (field.name() == name) return Holds::kSentence;
  }
  return Holds::kNeither;
}

void WorkerNames::PutInto(Message* message) const {
  if (names_.empty()) return;
  const auto* reflection = message->GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection->ListFields(*message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->is_map()) continue;
    const Holds what = What(*field);
    const bool inner = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (what == Holds::kNeither && !inner) continue;
    if (!field->is_repeated() && inner) {
      PutInto(reflection->MutableMessage(message, field));
    } else if (!field->is_repeated()) {
      reflection->SetString(message, field, Renamed(what, reflection->GetString(*message, field)));
    }
    for (int i = 0; field->is_repeated() && i < reflection->FieldSize(*message, field); ++i) {
      if (inner) {
        PutInto(reflection->MutableRepeatedMessage(message, field, i));
      } else {
        reflection->SetRepeatedString(
            message, field, i, Renamed(what, reflection->GetRepeatedString(*message, field, i)));
      }
    }
  }
}

std::string WorkerNames::Renamed(Holds what, const std::string& text) const {
  if (what == Holds::kSentence) return PutInto(text);
  for (const auto& [id, name] : names_) {
    if (text == id) return name;
  }
  return text;
}

std::string WorkerNames::PutInto(const std::string& text) const {
  static const auto& mention = *new std::regex("(worker[: ]'?)([A-Za-z0-9._-]+)");
  std::string result;
  auto at = text.cbegin();
  for (std::sregex_iterator it(text.begin(), text.end(), mention), end; it != end; ++it) {
    // A full stop behind an id is the sentence's.
    const std::string word = (*it)[2];
    const std::string id(absl::StripSuffix(word, "."));
    result.append(at, (*it)[2].first).append(Renamed(Holds::kId, id)).append(word, id.size());
    at = (*it)[2].second;
  }
  return result.append(at, text.cend());
}

}  // namespace liger::client
