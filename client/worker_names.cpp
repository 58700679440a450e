#include "client/worker_names.h"

#include "absl/strings/str_replace.h"
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

void WorkerNames::PutInto(Message* message) const {
  if (names_.empty()) return;
  const auto* reflection = message->GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection->ListFields(*message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->is_map()) continue;
    const bool text = field->type() == FieldDescriptor::TYPE_STRING;
    if (!text && field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated() && text) {
      reflection->SetString(message, field, PutInto(reflection->GetString(*message, field)));
    } else if (!field->is_repeated()) {
      PutInto(reflection->MutableMessage(message, field));
    }
    for (int i = 0; field->is_repeated() && i < reflection->FieldSize(*message, field); ++i) {
      if (text) {
        reflection->SetRepeatedString(message, field, i,
                                      PutInto(reflection->GetRepeatedString(*message, field, i)));
      } else {
        PutInto(reflection->MutableRepeatedMessage(message, field, i));
      }
    }
  }
}

std::string WorkerNames::PutInto(const std::string& text) const {
  return absl::StrReplaceAll(text, names_);
}

}  // namespace liger::client
