#include "worker/trainer/parallel/gang.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <atomic>
#include <iostream>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/Types.hpp>
#include <utility>

#include "worker/trainer/error.h"
#include "worker/trainer/parallel/rendezvous.h"
#include "worker/trainer/stop_requested.h"

namespace liger::trainer {
namespace {

std::atomic<bool> left_communicators = false;

std::string MessageOf(const std::exception& error) {
  const auto* torch = dynamic_cast<const c10::Error*>(&error);
  return torch == nullptr ? error.what() : torch->what_without_backtrace();
}

c10d::AllreduceOptions ReduceOptions(c10d::ReduceOp op) {
  c10d::AllreduceOptions options;
  options.reduceOp = std::move(op);
  return options;
}

}  // namespace

void ThrowFarewell(const Farewell& farewell) {
  if (farewell.kind == Farewell::Kind::kStopped) throw StopRequested(farewell.reason);
  throw TrainerError(farewell.failure);
}

Gang::Scope::Scope(Gang& gang, int64_t number, const char* what)
    : gang_(gang), outer_(gang.waits_) {
  gang_.waits_ = {number, what};
  if (gang_.watch_) gang_.watch_->Waits(number, what);
}
Gang::Scope::~Scope() {
  if (outer_.number == 0) {
    const auto waited = std::chrono::steady_clock::now() - began_;
    gang_.waited_s_ += std::chrono::duration<double>(waited).count();
  }
  gang_.waits_ = outer_;
  if (gang_.watch_) gang_.watch_->Waits(outer_.number, outer_.what);
}

Gang::Gang(const RankInfo& rank, c10::intrusive_ptr<c10d::Store> store,
           std::chrono::milliseconds limit)
    : rank_(rank), store_(std::move(store)) {
  group_ = c10::make_intrusive<c10d::ProcessGroup>(store_, rank_.rank, rank_.world_size);
  group_->setBackend(c10::kCPU, c10d::ProcessGroup::BackendType::GLOO,
                     MakeGloo(store_, rank_, limit));
  group_->setDefaultBackend(c10d::ProcessGroup::BackendType::GLOO);
  group_->setGroupName("liger");
}

std::unique_ptr<Gang> Gang::Join(const RankInfo& rank, const Options& options) {
  const JoinTime time(rank, options.limits.join_s);
  const auto store = MeetAtStore(rank, time);
  std::unique_ptr<Gang> gang;
  try {
    gang.reset(new Gang(rank, store, time.left_to_connect()));
  } catch (const TrainerError&) {
    throw;
  } catch (const std::exception& error) {
    throw TrainerError(liger::v1::FAILURE_CLASS_INFRA,
                       "rank " + std::to_string(rank.rank) +
                           " cannot connect to the other ranks, which have joined the gang (a "
                           "firewall, or the wrong --socket-interface of a worker): " +
                           MessageOf(error),
                       "look at the other ranks' logs and the network between the hosts: ranks "
                       "listen on ports that the kernel picks, of the interface that "
                       "GLOO_SOCKET_IFNAME (--socket-interface) names")
        .FirstFailedRank(-1);
  }
  gang->watch_ = std::make_unique<Watch>(
      store->clone(), rank,
      Watch::Options{.limits = options.limits, .on_verdict = options.on_verdict});
  return gang;
}

std::unique_ptr<Gang> Gang::OfThreads(const RankInfo& rank, c10::intrusive_ptr<c10d::Store> store) {
  return std::unique_ptr<Gang>(new Gang(rank, std::move(store), kNever));
}

Gang::~Gang() {
  if (device_groups_.empty()) return;
  // Their destructors abort communicators, which throws where these have memory that ranks map.
  new auto(std::move(device_groups_));
  left_communicators = true;
}

bool Gang::LeftCommunicators() { return left_communicators; }

void Gang::OpenDevice(at::Device device) {
  device_ = device;
  if (device.is_cpu()) return;
  group_->setBoundDeviceId(device);
  device_groups_.push_back(MakeNccl(store_, rank_));
  group_->setBackend(device.type(), c10d::ProcessGroup::BackendType::NCCL, device_groups_.back());
}

c10::intrusive_ptr<c10d::Backend> Gang::MakeGroup(const std::string& name, int rank, int size) {
  RankInfo place = rank_;
  place.rank = rank;
  place.world_size = size;
  // Of a gang over several hosts any group may be: none takes loopback.
  if (rank_.local_world_size < rank_.world_size) place.local_world_size = 0;
  const c10::intrusive_ptr<c10d::Store> store =
      c10::make_intrusive<c10d::PrefixStore>(name, store_);
  if (device_.is_cpu()) return MakeGloo(store, place);
  return device_groups_.emplace_back(MakeNccl(store, place));
}

void Gang::CloseDevice() {
  const Scope scope(*this, issued_, "the end of all ranks' collectives");
  try {
    for (const auto& group : device_groups_) group->shutdown();
  } catch (const std::exception& error) {
    std::cerr << "rank " << rank_.rank << ": NCCL did not end well: " << MessageOf(error)
              << std::endl;
    return;
  }
  device_groups_.clear();
}

void Gang::Explain(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const TrainerError&) {
    throw;
  } catch (const StopRequested&) {
    throw;
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const c10::DistError& lost) {
    Fail(MessageOf(lost));
  } catch (const std::exception& lost) {
    // Gloo's errors have no class of their own.
    const std::string message = MessageOf(lost);
    if (message.find("gloo") != std::string::npos) Fail(message);
    throw;
  }
}

int64_t Gang::NoteIssued() { return issued_ = watch_ ? watch_->Issue() : issued_ + 1; }

std::shared_ptr<void> Gang::WaitForIssued(const char* what) {
  return std::make_shared<Scope>(*this, issued_, what);
}

Gang::Pending Gang::SumLater(at::Tensor values) {
  std::vector<at::Tensor> tensors = {std::move(values)};
  const int64_t number = NoteIssued();
  return {group_->allreduce(tensors, ReduceOptions(c10d::ReduceOp::SUM)), number};
}

void Gang::Wait(const Pending& pending, const char* what) {
  const Scope scope(*this, pending.number, what);
  try {
    pending.work->wait();
  } catch (const std::exception& error) {
    Fail(MessageOf(error));
  }
}

void Gang::Reduce(at::Tensor values, c10d::ReduceOp op, const char* what) {
  std::vector<at::Tensor> tensors = {std::move(values)};
  const int64_t number = NoteIssued();
  const Scope scope(*this, number, what);
  try {
    group_->allreduce(tensors, ReduceOptions(std::move(op)))->wait();
  } catch (const std::exception& error) {
    Fail(MessageOf(error));
  }
}

void Gang::Sum(at::Tensor values, const char* what) {
  Reduce(std::move(values), c10d::ReduceOp::SUM, what);
}
void Gang::Max(at::Tensor values, const char* what) {
  Reduce(std::move(values), c10d::ReduceOp::MAX, what);
}

std::vector<std::string> Gang::Gather(const std::string& own, const char* what) {
  // Texts of ranks differ in length, and a collective's tensors do not.
  at::Tensor sizes = at::zeros({rank_.world_size}, at::kLong);
  sizes[rank_.rank] = static_cast<int64_t>(own.size());
  Sum(sizes, what);
  const int64_t longest = sizes.max().item<int64_t>();
  at::Tensor all = at::zeros({rank_.world_size, std::max<int64_t>(longest, 1)}, at::kByte);
  std::copy(own.begin(), own.end(), reinterpret_cast<char*>(all[rank_.rank].data_ptr<uint8_t>()));
  Sum(all, what);  // every byte is of one rank, and 0 of the others
  std::vector<std::string> texts;
  for (int rank = 0; rank < rank_.world_size; ++rank) {
    const auto* begin = reinterpret_cast<const char*>(all[rank].const_data_ptr<uint8_t>());
    texts.emplace_back(begin, begin + sizes[rank].item<int64_t>());
  }
  return texts;
}

void Gang::Barrier(const char* what) { Sum(at::zeros({1}, at::kLong), what); }

void Gang::Fail(const std::string& error) {
  if (watch_) ThrowFarewell(watch_->Explain(error));
  throw TrainerError(liger::v1::FAILURE_CLASS_INFRA, "a collective failed: " + error);
}

void Gang::Leave(const Farewell& farewell) {
  // After a failure others may be gone: then the process ends with its communicators.
  if (farewell.kind == Farewell::Kind::kDone) CloseDevice();
  if (watch_) watch_->Leave(farewell);
}

}  // namespace liger::trainer
