#include <ATen/ATen.h>
#include <ATen/cuda/MemPool.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>

#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#include <utility>
#include <vector>

#include "worker/trainer/parallel/nccl_module.h"

namespace liger::trainer {
namespace {

namespace allocator = c10::cuda::CUDACachingAllocator;

// What decides whether NCCL makes symmetric windows here. It asks each rank alone, and where some
// make them and some do not, those that do wait for ever.
std::string WindowFacts() {
  std::string facts;
  const auto add_line = [&](const char* path) {
    std::string line;
    std::getline(std::ifstream(path), line);
    facts += line + "\n";
  };
  add_line("/proc/sys/kernel/hostname");
  add_line("/proc/sys/kernel/random/boot_id");
  for (const char* name : {"NCCL_HOSTID", "NCCL_WIN_ENABLE", "NCCL_CUMEM_ENABLE",
                           "NCCL_P2P_DISABLE", "NCCL_P2P_LEVEL"}) {
    const char* value = std::getenv(name);
    facts += std::string(value == nullptr ? "" : value) + "\n";
  }
  return facts;
}

// Whether all ranks are on one host, with the same settings of NCCL. Collective.
bool AllAlike(c10d::Store& store, int rank, int world_size) {
  const auto key = [](int of) { return "window_facts/" + std::to_string(of); };
  const std::string own = WindowFacts();
  store.set(key(rank), own);
  bool alike = true;
  for (int other = 0; other < world_size; ++other) {
    alike = store.get_to_str(key(other)) == own && alike;
  }
  return alike;
}

// c10d's, whose allocateTensor gives memory that all ranks map (NCCL's symmetric windows), where
// all are on one host. What is gathered into such memory the devices' copy engines move (its
// zero-CTA policy, from NCCL 2.28 on), while the multiprocessors go on with the products; where
// NCCL cannot, it gathers as always.
class NcclGroup : public c10d::ProcessGroupNCCL {
 public:
  NcclGroup(c10::intrusive_ptr<c10d::Store> store, int rank, int world_size,
            c10::intrusive_ptr<Options> options)
      : ProcessGroupNCCL(store, rank, world_size, std::move(options)),
        has_windows_(world_size > 1 && AllAlike(*store, rank, world_size) &&
                     allocator::get()->name() == "native") {}

  bool supportsTensorAlloc(c10::DeviceIndex) override { return has_windows_; }

  // Collective: all ranks ask for the same sizes in the same order. `size`: elements. The tensor
  // must not outlive the group.
  at::Tensor allocateTensor(long size, at::TensorOptions options) override {
    const at::Device device = options.device();
    const c10::cuda::CUDAGuard guard(device);
    if (getNCCLComm(std::to_string(device.index())) == nullptr) eagerConnectSingleDevice(device);
    // A pool for each tensor: what is registered with NCCL is the whole of its memory, and goes
    // with it.
    auto pool = std::make_unique<at::cuda::MemPool>(
        std::static_pointer_cast<allocator::CUDAAllocator>(getMemAllocator()));
    at::Tensor memory = Empty(size, options, pool->id());
    try {
      registerMemPool(pool.get(), /*symm=*/true);
    } catch (...) {
      Forget(pool.get());
      throw;
    }
    {
      const std::lock_guard lock(mutex_);
      registered_.push_back(pool.get());
    }
    auto let_go = [this, device, memory, pool = std::shared_ptr(std::move(pool))](void*) mutable {
      LetGo(device, std::move(memory), std::move(pool));
    };
    return at::from_blob(memory.data_ptr(), {size}, std::move(let_go), options);
  }

  void shutdown() override {
    std::vector<at::cuda::MemPool*> left;  // in the order in which all ranks made them
    {
      const std::lock_guard lock(mutex_);
      left = registered_;
    }
    if (!left.empty()) c10::cuda::device_synchronize();
    for (at::cuda::MemPool* pool : left) Deregister(pool);
    ProcessGroupNCCL::shutdown();
  }

 private:
  // While it lives, what this thread allocates is the pool's.
  class Allocating {
   public:
    Allocating(c10::DeviceIndex device, c10::MempoolId_t pool) : device_(device), pool_(pool) {
      allocator::beginAllocateToPool(device_, pool_, [thread = std::this_thread::get_id()](auto) {
        return std::this_thread::get_id() == thread;
      });
    }
    ~Allocating() {
      allocator::endAllocateToPool(device_, pool_);
      allocator::releasePool(device_, pool_);
    }

   private:
    const c10::DeviceIndex device_;
    const c10::MempoolId_t pool_;
  };

  // at::empty in the pool. ncclMemAlloc's failure is no OutOfMemoryError, after which the allocator
  // would give back what it holds, which it does only while nothing is allocated to a pool, and try
  // again.
  static at::Tensor Empty(long size, const at::TensorOptions& options, c10::MempoolId_t pool) {
    const c10::DeviceIndex device = options.device().index();
    const auto make = [&] {
      const Allocating allocating(device, pool);
      return at::empty({size}, options);
    };
    try {
      return make();
    } catch (const c10::Error&) {
      allocator::emptyCache();
    }
    try {
      return make();
    } catch (const c10::Error& error) {
      const size_t bytes = static_cast<size_t>(size) * options.dtype().itemsize();
      const size_t free = allocator::get()->getMemoryInfo(device).first;
      TORCH_CHECK_WITH(OutOfMemoryError, free >= bytes, "no ", bytes, " bytes of ", free,
                       " that are free for gathered weights: ", error.what_without_backtrace());
      throw;
    }
  }

  // After an error, when c10d may know the pool, and would have its destructor throw.
  void Forget(at::cuda::MemPool* pool) {
    try {
      deregisterMemPool(pool);
    } catch (const std::exception&) {
    }
  }

  // What reads and writes the memory ends, NCCL lets go of it, then it goes. Throws nothing: after
  // an error of the device, which is to be told, everything here fails. After any other error the
  // process is on its way out, and must not wait for ranks that are gone.
  void LetGo(at::Device device, at::Tensor memory, std::shared_ptr<at::cuda::MemPool> pool) {
    try {
      if (std::uncaught_exceptions() > 0) throw std::runtime_error("the task has failed");
      const c10::cuda::CUDAGuard guard(device);
      c10::cuda::device_synchronize();
      Deregister(pool.get());
      memory.reset();
      pool.reset();
    } catch (const std::exception& error) {
      if (std::uncaught_exceptions() == 0) {
        std::cerr << "a buffer is not given back: " << error.what() << std::endl;
      }
      // Their destructors would throw.
      new at::Tensor(std::move(memory));
      new std::shared_ptr<at::cuda::MemPool>(std::move(pool));
    }
  }

  void Deregister(at::cuda::MemPool* pool) {
    {
      const std::lock_guard lock(mutex_);
      if (std::erase(registered_, pool) == 0) return;
    }
    try {
      deregisterMemPool(pool);
    } catch (const std::exception& error) {  // the process is on its way out
      std::cerr << "NCCL did not let go of a buffer: " << error.what() << std::endl;
    }
  }

  const bool has_windows_;
  std::mutex mutex_;
  std::vector<at::cuda::MemPool*> registered_;
};

}  // namespace
}  // namespace liger::trainer

// See nccl_module.h.
extern "C" __attribute__((visibility("default"))) c10::intrusive_ptr<c10d::Backend> LigerMakeNccl(
    const c10::intrusive_ptr<c10d::Store>& store, int rank, int world_size, int64_t timeout_ms) {
  // The trainer's own watch ends the process, with a message that names ranks; c10d's would abort
  // it, and its monitor takes a long save of rank 0 for a hang of the host.
  setenv("TORCH_NCCL_ENABLE_MONITORING", "0", /*overwrite=*/0);
  setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0", /*overwrite=*/0);
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = std::chrono::milliseconds(timeout_ms);
  options->config.CTAPolicy = NCCL_CTA_POLICY_ZERO;
  return c10::make_intrusive<liger::trainer::NcclGroup>(store, rank, world_size, options);
}
