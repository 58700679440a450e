#include "worker/trainer/parallel/rendezvous.h"

#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "common/address.h"
#include "common/route.h"
#include "worker/trainer/error.h"
#include "worker/trainer/parallel/nccl_module.h"
#include "worker/trainer/parallel/rank_status.h"

namespace liger::trainer {
namespace {

// Of the store's waits for a key that another rank sets, from when all have joined.
constexpr std::chrono::minutes kStoreTimeout(5);

std::string Place(const RankInfo& rank) {
  return rank.master_addr + ":" + std::to_string(rank.master_port);
}

// What may keep a rank from coming there.
std::string PlaceAdvice(const RankInfo& rank) {
  if (IsLoopbackHost(rank.master_addr) && rank.local_world_size < rank.world_size) {
    return rank.master_addr +
           " is reached from rank 0's own host alone: give its worker the --advertise-address at "
           "which the other hosts reach it";
  }
  return "look at firewalls, and at the --advertise-address and --rank-ports of rank 0's worker";
}

TrainerError Infra(const std::string& message, const std::string& action) {
  return TrainerError(liger::v1::FAILURE_CLASS_INFRA, message, action);
}

std::string JoinedKey(int rank) { return "joined/" + std::to_string(rank); }

// Rank 0's view of a gang that is not complete, for all of it.
constexpr char kGivenUpKey[] = "given-up";
// For how much longer than rank 0 the others wait: they are to end for what it has seen.
constexpr std::chrono::seconds kFollowers(5);
// In which those that wait look for it.
constexpr absl::Duration kHeard = absl::Seconds(1);
// In which ranks that have all come connect to each other, whatever their coming left of it.
constexpr std::chrono::milliseconds kLeastToConnect(25000);
// In which a store that is there lets a rank connect, whatever the wait for it left.
constexpr std::chrono::milliseconds kLeastToMeet(10000);
// So often does Gloo try to, each time for as long as it is told.
constexpr int kGlooTries = 5;

std::string Text(std::chrono::milliseconds time) {
  return absl::FormatDuration(absl::FromChrono(time));
}

// Ranks whose key is not there.
std::vector<int> Absent(c10d::Store& store, const RankInfo& rank) {
  std::vector<int> absent;
  for (int other = 0; other < rank.world_size; ++other) {
    if (!store.check({JoinedKey(other)})) absent.push_back(other);
  }
  return absent;
}

TrainerError NotComplete(c10d::Store& store, const RankInfo& rank,
                         std::chrono::milliseconds waited) {
  const std::vector<int> absent = Absent(store, rank);
  return Infra(absl::StrCat(absent.size() == 1 ? "rank " : "ranks ", absl::StrJoin(absent, ", "),
                            " of ", rank.world_size, " did not join the gang at ", Place(rank),
                            " within ", Text(waited), ": not started, or cannot reach it (",
                            PlaceAdvice(rank), ")"),
               "look at their logs; every rank of WORLD_SIZE must be started, with the same "
               "MASTER_ADDR and MASTER_PORT")
      .FirstFailedRank(absent.empty() ? -1 : absent[0]);
}

void ThrowIfGivenUp(c10d::Store& store) {
  if (!store.check({kGivenUpKey})) return;
  const std::vector<uint8_t> bytes = store.get(kGivenUpKey);
  throw TrainerError(Farewell::FromText({bytes.begin(), bytes.end()}).failure);
}

// Throws that, after the others could hear of it where it is rank 0's.
void GiveUp(c10d::Store& store, const RankInfo& rank, const TrainerError& why) {
  if (rank.rank == 0) {
    const std::string text = Farewell::Failed(why.failure()).ToText();
    store.set(kGivenUpKey, std::vector<uint8_t>(text.begin(), text.end()));
    absl::SleepFor(kHeard);
  }
  throw why;
}

void AwaitAll(c10d::Store& store, const RankInfo& rank, const JoinTime& time) {
  store.set(JoinedKey(rank.rank), std::vector<uint8_t>{1});
  store.add("joined", 1);
  while (store.add("joined", 0) < rank.world_size) {
    ThrowIfGivenUp(store);
    if (time.left() <= time.left().zero()) {
      if (Absent(store, rank).empty()) return;  // the last one came just now
      GiveUp(store, rank, NotComplete(store, rank, time.whole));
    }
    absl::SleepFor(absl::Milliseconds(20));
  }
}

bool Serves(const RankInfo& rank) { return rank.rank == 0 && !rank.store_is_served; }

// The store goes with rank 0.
TrainerError LostRank0(const RankInfo& rank, const std::string& why) {
  return Infra(absl::StrCat("rank ", rank.rank, " lost rank 0 at ", Place(rank),
                            " before all ranks had joined the gang: ", why),
               "look at rank 0's log and host")
      .FirstFailedRank(rank.store_is_served ? -1 : 0);
}

std::shared_ptr<gloo::transport::Device> GlooDevice(const RankInfo& rank) {
  using c10d::ProcessGroupGloo;
  if (rank.local_world_size >= rank.world_size) {
    return ProcessGroupGloo::createDeviceForHostname("127.0.0.1");
  }
  if (const char* interface = std::getenv("GLOO_SOCKET_IFNAME")) {
    try {
      return ProcessGroupGloo::createDeviceForInterface(interface);
    } catch (const std::exception&) {
      throw Infra(absl::StrCat("rank ", rank.rank, " has no network interface ", interface,
                               " (GLOO_SOCKET_IFNAME, --socket-interface of its worker)"),
                  "name one that `ip address` shows with an address on its host");
    }
  }
  const std::optional<Route> route = RouteTo(rank.master_addr);
  return route ? ProcessGroupGloo::createDeviceForHostname(route->own)
               : ProcessGroupGloo::createDefaultDevice();
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

// Says more of why it is not reached than TCPStore.
void AwaitRank0(const RankInfo& rank, const JoinTime& time) {
  constexpr std::chrono::milliseconds kTry(5000), kPause(100);
  while (true) {
    const std::string why = WhyNotConnected(rank.master_addr, rank.master_port, kTry);
    if (why.empty()) return;
    if (time.left() <= time.left().zero()) {
      throw Infra(
          absl::StrCat("rank ", rank.rank, " cannot reach rank 0 at ", Place(rank), " for ",
                       Text(time.whole), ": ", why, " (", PlaceAdvice(rank), ")"),
          "look whether rank 0 was started there, and whether the port is open between hosts")
          .FirstFailedRank(rank.store_is_served ? -1 : 0);
    }
    std::this_thread::sleep_for(kPause);
  }
}

c10::intrusive_ptr<c10d::Store> ConnectAndAwaitAll(const RankInfo& rank, const JoinTime& time) {
  const bool serves = Serves(rank);
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(rank.master_port);
  options.isServer = serves;
  options.waitWorkers = false;
  options.timeout = std::max(time.left(), kLeastToMeet) / 2;  // its waiting takes up to twice that
  c10::intrusive_ptr<c10d::Store> store;
  try {
    store = c10::make_intrusive<c10d::TCPStore>(rank.master_addr, options);
  } catch (const c10::Error& error) {
    const std::string why(error.what_without_backtrace());
    if (serves) {
      throw Infra("rank 0 cannot serve the gang's store at " + Place(rank) + ": " + why,
                  "free the port, or choose another one (MASTER_PORT, --rank-ports); the address "
                  "must be this host's (MASTER_ADDR, --advertise-address)");
    }
    throw LostRank0(rank, why);
  }
  auto own = c10::make_intrusive<c10d::PrefixStore>("liger/" + rank.gang_name, store);
  try {
    AwaitAll(*own, rank, time);
  } catch (const c10::Error& error) {
    throw LostRank0(rank, error.what_without_backtrace());
  }
  own->setTimeout(kStoreTimeout);
  return own;
}

}  // namespace

JoinTime::JoinTime(const RankInfo& rank, double seconds)
    : whole(std::chrono::duration_cast<std::chrono::milliseconds>(
                std::chrono::duration<double>(seconds)) +
            (rank.rank == 0 ? std::chrono::seconds(0) : kFollowers)) {}

std::chrono::milliseconds JoinTime::left() const {
  return whole - std::chrono::duration_cast<std::chrono::milliseconds>(
                     std::chrono::steady_clock::now() - began);
}

std::chrono::milliseconds JoinTime::left_to_connect() const {
  return std::max(left(), kLeastToConnect);
}

c10::intrusive_ptr<c10d::Store> MeetAtStore(const RankInfo& rank, const JoinTime& time) {
  if (!Serves(rank)) AwaitRank0(rank, time);
  constexpr std::chrono::seconds kMore(5);  // for what ends by itself, to say why
  const std::chrono::milliseconds limit = std::max(time.left(), kLeastToMeet) + kMore;
  // In a thread, as c10d waits for ever for the answer of what accepts its connection.
  std::packaged_task<c10::intrusive_ptr<c10d::Store>()> meet(
      [rank, time] { return ConnectAndAwaitAll(rank, time); });
  auto store = meet.get_future();
  std::thread(std::move(meet)).detach();
  if (store.wait_for(limit) == std::future_status::ready) return store.get();
  throw Infra(
      absl::StrCat("rank ", rank.rank, " gets no answer from rank 0 at ", Place(rank),
                   ", which accepts connections (it hangs, or another program listens ", "there)"),
      "look at rank 0's log and host")
      .FirstFailedRank(rank.store_is_served ? -1 : 0);
}

c10::intrusive_ptr<c10d::Backend> MakeGloo(const c10::intrusive_ptr<c10d::Store>& store,
                                           const RankInfo& rank, std::chrono::milliseconds limit) {
  auto options = c10d::ProcessGroupGloo::Options::create(limit / kGlooTries);
  options->devices.push_back(GlooDevice(rank));
  auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(
      c10::make_intrusive<c10d::PrefixStore>("gloo", store), rank.rank, rank.world_size, options);
  gloo->setTimeout(kNever);
  return gloo;
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
