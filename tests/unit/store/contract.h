#ifndef LIGER_TESTS_UNIT_STORE_CONTRACT_H_
#define LIGER_TESTS_UNIT_STORE_CONTRACT_H_

#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "server/store/store.h"
#include "tests/unit/store/store_testing.h"

namespace liger::server::testing {

// Runs a test over every implementation of the store.
class StoreContract : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { Open({}); }

  void Open(const StoreOptions& options) {
    store.reset();
    if (GetParam() == "memory") {
      store = NewMemoryStore(options);
    } else {
      auto opened = OpenSqliteStore(folder.path(), options);
      ASSERT_TRUE(opened.ok()) << opened.status();
      store = *std::move(opened);
    }
    driver = std::make_unique<Driver>(store.get());
  }
  void AddWorker(const std::string& worker_id, int slots, int64_t incarnation = 1) {
    driver->Do(ReconcileWorker{NewHello(worker_id, incarnation, slots)});
  }

  TempFolder folder;
  std::unique_ptr<Store> store;
  std::unique_ptr<Driver> driver;
};

// w1 with two devices and w2 with one, for jobs to run on.
class StoreWithWorkers : public StoreContract {
 protected:
  void SetUp() override {
    StoreContract::SetUp();
    AddWorker("w1", 2);
    AddWorker("w2", 1);
  }
};

#define LIGER_STORE_CONTRACT(Suite)                                              \
  INSTANTIATE_TEST_SUITE_P(Stores, Suite, ::testing::Values("memory", "sqlite"), \
                           [](const auto& info) { return info.param; })

}  // namespace liger::server::testing

#endif  // LIGER_TESTS_UNIT_STORE_CONTRACT_H_
