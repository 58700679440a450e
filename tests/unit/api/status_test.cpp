#include "server/api/status.h"

#include "absl/strings/cord.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "server/errors/errors.h"

namespace liger::server {
namespace {

TEST(StatusTest, EveryCodeCrossesTheBridgeBothWays) {
  for (int code = 0; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), code == 0 ? "" : "why");
    const grpc::Status wire = ToGrpc(status);
    EXPECT_EQ(static_cast<int>(wire.error_code()), code);
    EXPECT_EQ(wire.error_message(), code == 0 ? "" : "why");
    EXPECT_EQ(FromGrpc(wire), status);
  }
}

TEST(StatusTest, FieldViolationsTravelAsBadRequest) {
  liger::v1::Violation first, second;
  first.set_field("training.learning_rate");
  first.set_message("must be positive");
  second.set_field("model.name");
  second.set_message("is required");
  const grpc::Status wire = ToGrpc(InvalidArgument({first, second}));
  EXPECT_EQ(wire.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(wire.error_message(),
            "training.learning_rate: must be positive; model.name: is required");

  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(wire.error_details()));
  EXPECT_EQ(details.code(), 3);
  ASSERT_EQ(details.details_size(), 1);
  google::rpc::BadRequest bad_request;
  ASSERT_TRUE(details.details(0).UnpackTo(&bad_request));
  ASSERT_EQ(bad_request.field_violations_size(), 2);
  EXPECT_EQ(bad_request.field_violations(0).field(), "training.learning_rate");
  EXPECT_EQ(bad_request.field_violations(1).description(), "is required");
}

TEST(StatusTest, ReasonsTravelAsErrorInfo) {
  const absl::Status status =
      ErrorWithReason(absl::StatusCode::kNotFound, "JOB_NOT_FOUND", "no job 'x'", {{"job", "x"}});
  const grpc::Status wire = ToGrpc(status);
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(wire.error_details()));
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(details.details(0).UnpackTo(&info));
  EXPECT_EQ(info.reason(), "JOB_NOT_FOUND");
  EXPECT_EQ(info.domain(), "liger");
  EXPECT_EQ(info.metadata().at("job"), "x");
  EXPECT_EQ(ReasonOf(FromGrpc(wire)), "JOB_NOT_FOUND");
}

TEST(StatusTest, OtherPayloadsStayInside) {
  absl::Status status = absl::InternalError("oops");
  status.SetPayload("internal/stack", absl::Cord("secret"));
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(ToGrpc(status).error_details()));
  EXPECT_EQ(details.details_size(), 0);
  // Details at all tell a client that the coordinator spoke, and not its channel.
  EXPECT_EQ(details.message(), "oops");
}

}  // namespace
}  // namespace liger::server
