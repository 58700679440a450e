#include "worker/trainer/parallel/rendezvous.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "absl/time/clock.h"
#include "common/unique_fd.h"
#include "worker/trainer/error.h"
#include "worker/trainer/parallel/nccl_module.h"

namespace liger::trainer {
namespace {

// Of c10d's own timeouts, which name addresses and know nothing of progress: the Watch ends what
// hangs.
constexpr std::chrono::hours kNever(24 * 30);

std::string Place(const RankInfo& rank) {
  return rank.master_addr + ":" + std::to_string(rank.master_port);
}

TrainerError Infra(const std::string& message, const std::string& action) {
  return TrainerError(liger::v1::FAILURE_CLASS_INFRA, message, action);
}

std::string JoinedKey(int rank) { return "joined/" + std::to_string(rank); }

// Ranks whose key is not there.
std::string Absent(c10d::Store& store, const RankInfo& rank) {
  std::string ranks;
  int count = 0;
  for (int other = 0; other < rank.world_size; ++other) {
    if (store.check({JoinedKey(other)})) continue;
    ranks += (count++ == 0 ? "" : ", ") + std::to_string(other);
  }
  return (count == 1 ? "rank " : "ranks ") + ranks;
}

void AwaitAll(c10d::Store& store, const RankInfo& rank, absl::Duration timeout) {
  store.set(JoinedKey(rank.rank), std::vector<uint8_t>{1});
  store.add("joined", 1);
  const absl::Time end = absl::Now() + timeout;
  while (store.add("joined", 0) < rank.world_size) {
    if (absl::Now() > end) {
      throw Infra(Absent(store, rank) + " of " + std::to_string(rank.world_size) +
                      " did not join the gang at " + Place(rank) + " within " +
                      absl::FormatDuration(timeout),
                  "look at their logs; every rank of WORLD_SIZE must be started, with the same "
                  "MASTER_ADDR and MASTER_PORT");
    }
    absl::SleepFor(absl::Milliseconds(20));
  }
}

// Of the interface from which MASTER_ADDR is reached. No packet is sent.
std::string OwnAddress(const RankInfo& rank) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  const std::string port = std::to_string(rank.master_port);
  if (getaddrinfo(rank.master_addr.c_str(), port.c_str(), &hints, &found) != 0) return "";
  std::string address;
  for (const addrinfo* info = found; info != nullptr && address.empty(); info = info->ai_next) {
    const UniqueFd fd(socket(info->ai_family, SOCK_DGRAM, 0));
    sockaddr_storage own = {};
    socklen_t size = sizeof(own);
    char name[NI_MAXHOST];
    auto* generic = reinterpret_cast<sockaddr*>(&own);
    if (fd.valid() && connect(fd.get(), info->ai_addr, info->ai_addrlen) == 0 &&
        getsockname(fd.get(), generic, &size) == 0 &&
        getnameinfo(generic, size, name, sizeof(name), nullptr, 0, NI_NUMERICHOST) == 0) {
      address = name;
    }
  }
  freeaddrinfo(found);
  return address;
}

std::shared_ptr<gloo::transport::Device> GlooDevice(const RankInfo& rank) {
  using c10d::ProcessGroupGloo;
  if (rank.local_world_size >= rank.world_size) {
    return ProcessGroupGloo::createDeviceForHostname("127.0.0.1");
  }
  if (const char* interface = std::getenv("GLOO_SOCKET_IFNAME")) {
    return ProcessGroupGloo::createDeviceForInterface(interface);
  }
  const std::string own = OwnAddress(rank);
  return own.empty() ? ProcessGroupGloo::createDefaultDevice()
                     : ProcessGroupGloo::createDeviceForHostname(own);
}

// Beside the program, then where the loader looks.
void* OpenNcclModule() {
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string beside = (program.parent_path() / kNcclModule).string();
  if (void* module = dlopen(beside.c_str(), RTLD_NOW | RTLD_LOCAL)) return module;
  const std::string why = dlerror();
  if (void* module = dlopen(kNcclModule, RTLD_NOW | RTLD_LOCAL)) return module;
  throw ConfigError("resources.count: several GPUs need the module " + std::string(kNcclModule) +
                        ", which cannot be loaded: " + why,
                    "build liger-trainer where the CUDA build of torch is installed, or set "
                    "resources.count to 1")
      .Field("resources.count");
}

}  // namespace

c10::intrusive_ptr<c10d::Store> MeetAtStore(const RankInfo& rank, absl::Duration timeout) {
  const bool serves = rank.rank == 0 && !rank.store_is_served;
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(rank.master_port);
  options.isServer = serves;
  options.waitWorkers = false;
  options.timeout = std::chrono::milliseconds(absl::ToInt64Milliseconds(timeout));
  c10::intrusive_ptr<c10d::Store> store;
  try {
    store = c10::make_intrusive<c10d::TCPStore>(rank.master_addr, options);
  } catch (const c10::Error& error) {
    const std::string why(error.what_without_backtrace());
    if (serves) {
      throw Infra("rank 0 cannot serve the gang's store at " + Place(rank) + ": " + why,
                  "free the port, or choose another one (MASTER_PORT)");
    }
    throw Infra(
        "rank " + std::to_string(rank.rank) + " cannot reach the gang's store at " + Place(rank) +
            ": " + why,
        "look whether rank 0 was started there, and whether the port is open between hosts");
  }
  auto own = c10::make_intrusive<c10d::PrefixStore>("liger/" + rank.gang_name, store);
  AwaitAll(*own, rank, timeout);
  return own;
}

c10::intrusive_ptr<c10d::Backend> MakeGloo(const c10::intrusive_ptr<c10d::Store>& store,
                                           const RankInfo& rank) {
  auto options = c10d::ProcessGroupGloo::Options::create(kNever);
  options->devices.push_back(GlooDevice(rank));
  return c10::make_intrusive<c10d::ProcessGroupGloo>(
      c10::make_intrusive<c10d::PrefixStore>("gloo", store), rank.rank, rank.world_size, options);
}

c10::intrusive_ptr<c10d::Backend> MakeNccl(const c10::intrusive_ptr<c10d::Store>& store,
                                           const RankInfo& rank) {
  void* module = OpenNcclModule();
  const auto make = reinterpret_cast<MakeNcclFunction>(dlsym(module, kMakeNccl));
  TORCH_CHECK(make != nullptr, kNcclModule, " is of another release");
  return make(c10::make_intrusive<c10d::PrefixStore>("nccl", store), rank.rank, rank.world_size,
              std::chrono::duration_cast<std::chrono::milliseconds>(kNever).count());
}

}  // namespace liger::trainer
