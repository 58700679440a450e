#include "worker/trainer/loop/failure.h"

#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <new>
#include <system_error>

#include "worker/trainer/error.h"
#include "worker/trainer/loop/exit_code.h"

namespace liger::trainer {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;

template <typename F>
liger::v1::Failure FailureOf(F thrower) {
  try {
    thrower();
  } catch (...) {
    return FailureFromException(std::current_exception());
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

TEST(FailureTest, TrainerErrorsPassAsTheyAre) {
  const auto failure =
      FailureOf([] { throw DataError("row is empty", "fill it").File("a.jsonl").Row(17); });
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_DATA);
  EXPECT_EQ(failure.row(), 17);
  EXPECT_EQ(failure.action(), "fill it");
  EXPECT_EQ(ExitCodeFor(failure), kExitInvalidInput);
}

TEST(FailureTest, OutOfDeviceMemorySaysWhatToLower) {
  const auto failure = FailureOf(
      [] { TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory. Tried to allocate"); });
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_OOM_DEVICE);
  EXPECT_THAT(failure.action(), HasSubstr("per_device_train_batch_size"));
  EXPECT_EQ(ExitCodeFor(failure), kExitFailed);
}

TEST(FailureTest, WhatTheJobDoesAlreadyIsNotAdvised) {
  const auto action = [](const liger::v1::JobSpec& spec, bool evaluating = false) {
    try {
      TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory. Tried to allocate");
    } catch (...) {
      return FailureFromException(std::current_exception(), {&spec, evaluating}).action();
    }
    return std::string();
  };
  liger::v1::JobSpec spec;
  spec.mutable_resources()->set_device_kind(liger::v1::DEVICE_KIND_CUDA);
  auto& training = *spec.mutable_training();
  training.set_per_device_train_batch_size(2);
  EXPECT_THAT(action(spec), AllOf(HasSubstr("per_device_train_batch_size"),
                                  EndsWith(" or set training.gradient_checkpointing")));
  training.set_gradient_checkpointing(true);
  training.set_gradient_checkpointing_every(2);
  EXPECT_THAT(action(spec), EndsWith(" or set training.gradient_checkpointing_every: 1"));
  training.set_gradient_checkpointing_every(1);
  EXPECT_THAT(action(spec), EndsWith(" or set training.activation_offloading"));
  training.set_activation_offloading(true);
  training.set_per_device_train_batch_size(1);
  EXPECT_EQ(action(spec), "lower training.max_length");
  training.set_per_device_eval_batch_size(8);
  EXPECT_EQ(action(spec, true),
            "lower training.per_device_eval_batch_size or lower training.max_length");
  spec.mutable_kernels()->set_mode(liger::v1::KERNEL_MODE_BASELINE);
  EXPECT_THAT(action(spec), EndsWith(" or use kernels: LIGER"));
}

TEST(FailureTest, MemoryThatCudaDidNotGiveIsNoFaultOfTheDevice) {
  const auto failure = FailureOf([] {
    throw c10::AcceleratorError({__func__, __FILE__, __LINE__}, 2, "CUDA error: out of memory");
  });
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_OOM_DEVICE);
  EXPECT_EQ(FailureOf([] {
              throw c10::AcceleratorError({__func__, __FILE__, __LINE__}, 700, "CUDA error");
            }).class_(),
            liger::v1::FAILURE_CLASS_INFRA);
  const auto of_host =
      FailureOf([] { throw TrainerError(liger::v1::FAILURE_CLASS_OOM_HOST, "out of memory"); });
  EXPECT_THAT(of_host.action(), HasSubstr("max_length"));
}

TEST(FailureTest, HostMemoryIsRecognisedFromPyTorchsOwnAllocator) {
  const auto failure = FailureOf([] { c10::GetCPUAllocator()->allocate(size_t{1} << 60); });
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_OOM_HOST) << failure.message();
  EXPECT_EQ(FailureOf([] { throw std::bad_alloc(); }).class_(), liger::v1::FAILURE_CLASS_OOM_HOST);
}

TEST(FailureTest, FullDiskIsStorage) {
  const auto failure = FailureOf([] {
    throw std::system_error(std::make_error_code(std::errc::no_space_on_device), "write");
  });
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_STORAGE);
}

TEST(FailureTest, AnythingElseIsAnInternalErrorAndNotRetried) {
  for (const auto& failure : {FailureOf([] { TORCH_CHECK(false, "shapes differ"); }),
                              FailureOf([] { throw std::logic_error("shapes differ"); })}) {
    EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_UNSPECIFIED);
    EXPECT_THAT(failure.message(), HasSubstr("shapes differ"));
    EXPECT_EQ(ExitCodeFor(failure), kExitError);
  }
  EXPECT_EQ(FailureOf([] { throw 3; }).message(), "internal error of unknown type");
}

}  // namespace
}  // namespace liger::trainer
