#include "worker/trainer/loop/failure.h"

#include <c10/util/Exception.h>

#include <new>
#include <string>
#include <string_view>
#include <system_error>

#include "worker/trainer/error.h"
#include "worker/trainer/loop/exit_code.h"
#include "worker/trainer/pinned_memory.h"
#include "worker/trainer/stop_requested.h"

namespace liger::trainer {
namespace {

liger::v1::Failure MakeFailure(liger::v1::FailureClass failure_class, const std::string& message,
                               const std::string& action) {
  return TrainerError(failure_class, message, action).failure();
}

liger::v1::Failure HostMemoryFailure(const std::string& detail, const MemoryUser& user) {
  return MakeFailure(liger::v1::FAILURE_CLASS_OOM_HOST, "out of host memory" + detail,
                     LessHostMemory(user));
}

liger::v1::Failure DeviceMemoryFailure(const c10::Error& error, const MemoryUser& user) {
  return MakeFailure(liger::v1::FAILURE_CLASS_OOM_DEVICE,
                     std::string("out of device memory: ") + error.what_without_backtrace(),
                     LessDeviceMemory(user));
}

// PyTorch's CPU allocator makes itself known by its message alone.
bool IsHostAllocation(const c10::Error& error) {
  const std::string_view message = error.what_without_backtrace();
  return message.find("DefaultCPUAllocator") != std::string_view::npos;
}

liger::v1::Failure TorchFailure(const c10::Error& error, const MemoryUser& user) {
  const std::string message = error.what_without_backtrace();
  if (IsHostAllocation(error)) return HostMemoryFailure(": " + message, user);
  return MakeFailure(liger::v1::FAILURE_CLASS_UNSPECIFIED, "internal error: " + message,
                     "report this with the job's spec and log");
}

}  // namespace

liger::v1::Failure FailureFromException(std::exception_ptr exception, const MemoryUser& user) {
  try {
    std::rethrow_exception(exception);
  } catch (const TrainerError& error) {
    liger::v1::Failure failure = error.failure();
    const bool host = failure.class_() == liger::v1::FAILURE_CLASS_OOM_HOST;
    if (host && failure.action().empty()) failure.set_action(LessHostMemory(user));
    return failure;
  } catch (const c10::OutOfMemoryError& error) {
    if (IsHostAllocation(error)) return HostMemoryFailure("", user);
    return DeviceMemoryFailure(error, user);
  } catch (const c10::AcceleratorError& error) {
    // Of libraries that allocate beside PyTorch.
    if (error.get_error_code() == kCudaErrorMemoryAllocation) {
      return DeviceMemoryFailure(error, user);
    }
    return MakeFailure(liger::v1::FAILURE_CLASS_INFRA,
                       std::string("device fault: ") + error.what_without_backtrace(),
                       "the attempt is repeated; if it keeps failing, look at the host's GPU");
  } catch (const c10::Error& error) {
    return TorchFailure(error, user);
  } catch (const std::bad_alloc&) {
    return HostMemoryFailure("", user);
  } catch (const std::system_error& error) {
    if (error.code() == std::errc::no_space_on_device || error.code() == std::errc::io_error) {
      return MakeFailure(liger::v1::FAILURE_CLASS_STORAGE, error.what(),
                         "free space where the output is written");
    }
    return MakeFailure(liger::v1::FAILURE_CLASS_UNSPECIFIED,
                       std::string("internal error: ") + error.what(),
                       "report this with the job's spec and log");
  } catch (const std::exception& error) {
    return MakeFailure(liger::v1::FAILURE_CLASS_UNSPECIFIED,
                       std::string("internal error: ") + error.what(),
                       "report this with the job's spec and log");
  } catch (...) {
    return MakeFailure(liger::v1::FAILURE_CLASS_UNSPECIFIED, "internal error of unknown type",
                       "report this with the job's spec and log");
  }
}

Farewell FarewellOf(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const StopRequested& stopped) {
    return Farewell::Stopped(stopped.what());
  } catch (...) {
    return Farewell::Failed(FailureFromException(exception));
  }
}

int ExitCodeFor(const liger::v1::Failure& failure) {
  switch (failure.class_()) {
    case liger::v1::FAILURE_CLASS_CONFIG:
    case liger::v1::FAILURE_CLASS_DATA:
      return kExitInvalidInput;
    case liger::v1::FAILURE_CLASS_UNSPECIFIED:
      return kExitError;
    default:
      return kExitFailed;
  }
}

}  // namespace liger::trainer
