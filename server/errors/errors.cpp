#include "server/errors/errors.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"

namespace liger::server {
namespace {

constexpr absl::string_view kTypePrefix = "type.googleapis.com/";

void Attach(const google::protobuf::Message& detail, absl::Status* status) {
  status->SetPayload(absl::StrCat(kTypePrefix, detail.GetDescriptor()->full_name()),
                     absl::Cord(detail.SerializeAsString()));
}

}  // namespace

absl::Status InvalidArgument(const std::vector<liger::v1::Violation>& violations) {
  google::rpc::BadRequest bad_request;
  std::string message;
  for (const liger::v1::Violation& violation : violations) {
    google::rpc::BadRequest::FieldViolation* field = bad_request.add_field_violations();
    field->set_field(violation.field());
    field->set_description(violation.message());
    absl::StrAppend(&message, message.empty() ? "" : "; ", violation.field(),
                    violation.field().empty() ? "" : ": ", violation.message());
  }
  absl::Status status = absl::InvalidArgumentError(message);
  Attach(bad_request, &status);
  return status;
}

absl::Status InvalidArgument(absl::string_view field, absl::string_view message) {
  liger::v1::Violation violation;
  violation.set_field(std::string(field));
  violation.set_message(std::string(message));
  return InvalidArgument({violation});
}

std::vector<liger::v1::Violation> ViolationsOf(const absl::Status& status) {
  const auto payload = status.GetPayload(
      absl::StrCat(kTypePrefix, google::rpc::BadRequest::descriptor()->full_name()));
  google::rpc::BadRequest bad_request;
  std::vector<liger::v1::Violation> violations;
  if (!payload.has_value() || !bad_request.ParseFromString(std::string(*payload))) return {};
  for (const auto& field : bad_request.field_violations()) {
    liger::v1::Violation& violation = violations.emplace_back();
    violation.set_field(field.field());
    violation.set_message(field.description());
  }
  return violations;
}

absl::Status ErrorWithReason(absl::StatusCode code, absl::string_view reason,
                             absl::string_view message,
                             const std::vector<std::pair<std::string, std::string>>& metadata) {
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(reason));
  info.set_domain("liger");
  for (const auto& [key, value] : metadata) (*info.mutable_metadata())[key] = value;
  absl::Status status(code, message);
  Attach(info, &status);
  return status;
}

std::string ReasonOf(const absl::Status& status) {
  const auto payload = status.GetPayload(
      absl::StrCat(kTypePrefix, google::rpc::ErrorInfo::descriptor()->full_name()));
  google::rpc::ErrorInfo info;
  if (!payload.has_value() || !info.ParseFromString(std::string(*payload))) return "";
  return info.reason();
}

}  // namespace liger::server
