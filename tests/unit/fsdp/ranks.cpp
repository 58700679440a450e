#include "tests/unit/fsdp/ranks.h"

#include <exception>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <vector>

namespace liger::trainer::testing_ranks {
namespace {

c10::intrusive_ptr<c10d::Backend> Group(const c10::intrusive_ptr<c10d::Store>& store,
                                        const std::string& name, int rank, int size) {
  const auto options = c10d::ProcessGroupGloo::Options::create();
  options->timeout = std::chrono::seconds(60);
  options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1"));
  return c10::make_intrusive<c10d::ProcessGroupGloo>(
      c10::make_intrusive<c10d::PrefixStore>(name, store), rank, size, options);
}

}  // namespace

void RunRanks(int ranks, int shards, const std::function<void(const Groups&)>& work) {
  const c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::HashStore>();
  std::vector<std::exception_ptr> errors(ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        Groups groups{.rank = rank};
        const int copy = rank / shards, place = rank % shards;
        groups.world = Group(store, "world", rank, ranks);
        groups.shards = Group(store, "shards" + std::to_string(copy), place, shards);
        if (ranks > shards) {
          groups.replicas = Group(store, "replicas" + std::to_string(place), copy, ranks / shards);
        }
        work(groups);
      } catch (...) {
        errors[rank] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace liger::trainer::testing_ranks
