#include "worker/agent/devices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/agent/reservations.h"
#include "worker/agent/steady_time.h"
#include "worker/agent/trainer_environment.h"

namespace liger::agent {
namespace {

class FakeNvml : public Nvml {
 public:
  std::vector<GpuInfo> Gpus() override { return {{"GPU-a", "H100", 80}, {"GPU-b", "H100", 80}}; }
  GpuUsage Usage(const std::string&) override { return {}; }
  std::map<std::string, std::string> Facts(const std::string&) override { return {}; }
};

TEST(ProbeDevicesTest, GpusOrCpuSlots) {
  FakeNvml nvml;
  const auto gpus = ProbeDevices(&nvml, "w", -1);
  ASSERT_EQ(gpus.size(), 2u);
  EXPECT_EQ(gpus[0].uuid(), "GPU-a");
  EXPECT_EQ(gpus[0].kind(), v1::DEVICE_KIND_CUDA);
  EXPECT_EQ(ProbeDevices(&nvml, "w", 1).size(), 3u);
  EXPECT_EQ(ProbeDevices(nullptr, "w", -1).size(), 1u);
  const auto slots = ProbeDevices(nullptr, "w", 2);
  ASSERT_EQ(slots.size(), 2u);
  EXPECT_EQ(slots[1].uuid(), "CPU-w-1");
  EXPECT_GT(slots[1].memory_bytes(), 0);
  EXPECT_LE(slots[0].memory_bytes() + slots[1].memory_bytes(), AvailableMemoryBytes());
}

TEST(HostResourcesTest, SomeMemoryIsInUse) {
  const std::optional<int64_t> used = UsedMemoryBytes();
  ASSERT_TRUE(used.has_value());
  EXPECT_GT(*used, 0);
  EXPECT_LE(*used, AvailableMemoryBytes());
}

TEST(NvmlTest, LoadsOrSaysThatThereIsNone) {
  std::unique_ptr<Nvml> nvml = Nvml::Load();  // works either way
  if (nvml != nullptr) {
    for (const GpuInfo& gpu : nvml->Gpus()) EXPECT_GT(gpu.memory_bytes, 0);
  }
}

TEST(DeviceLedgerTest, ReservesAllOrNothing) {
  FakeNvml nvml;
  DeviceLedger ledger(ProbeDevices(&nvml, "w", 0));
  ASSERT_TRUE(ledger.Reserve("one", {"GPU-b"}).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(ledger.Reserve("two", {"GPU-a", "GPU-b"})));
  EXPECT_EQ(ledger.Holder("GPU-a"), "");
  EXPECT_TRUE(absl::IsNotFound(ledger.Reserve("two", {"GPU-a", "GPU-z"})));
  EXPECT_EQ(ledger.Holder("GPU-a"), "");
  EXPECT_TRUE(ledger.Reserve("one", {"GPU-b"}).ok()) << "again";
  ledger.Release("one");
  EXPECT_TRUE(ledger.Reserve("two", {"GPU-a", "GPU-b"}).ok());
}

class ReservationsTest : public testing::Test {
 protected:
  worker::v1::Prepare MakePrepare(const std::string& job) {
    worker::v1::Prepare prepare;
    prepare.mutable_ref()->set_job_uid(job);
    prepare.set_deadline_seconds(10);
    prepare.mutable_gang()->set_world_size(2);
    for (int i = 0; i < 2; ++i) {
      prepare.add_local_ranks()->set_rank(i);
      prepare.mutable_local_ranks(i)->set_device_uuid(i == 0 ? "GPU-b" : "GPU-a");
    }
    return prepare;
  }
  FakeNvml nvml_;
  DeviceLedger ledger_{ProbeDevices(&nvml_, "w", 0)};
  Reservations reservations_{&ledger_, "10.0.0.1"};
  const absl::Time now_ = SteadyNow();
};

TEST_F(ReservationsTest, AnswersTheSameWhenAskedAgain) {
  const auto first = reservations_.Prepare(MakePrepare("a"), now_);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(first->addr(), "10.0.0.1");
  EXPECT_GT(first->port(), 0);
  EXPECT_EQ(reservations_.Prepare(MakePrepare("a"), now_)->port(), first->port());
  EXPECT_FALSE(reservations_.Prepare(MakePrepare("b"), now_).ok());
}

TEST_F(ReservationsTest, ReleasesWhatIsNotStartedInTime) {
  ASSERT_TRUE(reservations_.Prepare(MakePrepare("a"), now_).ok());
  reservations_.Expire(now_ + absl::Seconds(9));
  EXPECT_EQ(reservations_.size(), 1u);
  reservations_.Expire(now_ + absl::Seconds(11));
  EXPECT_EQ(reservations_.size(), 0u);
  EXPECT_TRUE(reservations_.Prepare(MakePrepare("b"), now_).ok());
}

TEST_F(ReservationsTest, ANewerEpochAndANewSessionDropThem) {
  worker::v1::Prepare prepare = MakePrepare("a");
  prepare.mutable_ref()->set_epoch(3);
  ASSERT_TRUE(reservations_.Prepare(prepare, now_).ok());
  trainer::v1::Ref ref = prepare.ref();
  reservations_.AbortOlder(ref);
  EXPECT_EQ(reservations_.size(), 1u) << "its own";
  ref.set_job_uid("b");
  ref.set_epoch(4);
  reservations_.AbortOlder(ref);
  EXPECT_EQ(reservations_.size(), 1u) << "another job's";
  ref.set_job_uid("a");
  reservations_.AbortOlder(ref);
  EXPECT_EQ(reservations_.size(), 0u);
  ASSERT_TRUE(reservations_.Prepare(MakePrepare("b"), now_).ok());
  reservations_.AbortAll();
  EXPECT_EQ(ledger_.Holder("GPU-a"), "");
}

TEST_F(ReservationsTest, AStartedTaskKeepsItsDevices) {
  const worker::v1::Prepare prepare = MakePrepare("a");
  ASSERT_TRUE(reservations_.Prepare(prepare, now_).ok());
  EXPECT_TRUE(reservations_.Take(prepare.ref()).has_value());
  EXPECT_FALSE(reservations_.Take(prepare.ref()).has_value());
  reservations_.Abort(prepare.ref());
  EXPECT_FALSE(reservations_.Prepare(MakePrepare("b"), now_).ok());
}

TEST_F(ReservationsTest, TheEnvironmentIsTorchrunsWithGpusByUuid) {
  worker::v1::Master master;
  master.set_addr("10.0.0.1");
  master.set_port(1234);
  const auto envs =
      TrainerEnvironments({{"HOME", "/root"}}, MakePrepare("a"), master, ledger_, "/mark");
  ASSERT_EQ(envs.size(), 2u);
  EXPECT_EQ(envs[1].at("RANK"), "1");
  EXPECT_EQ(envs[1].at("LOCAL_RANK"), "1");
  EXPECT_EQ(envs[1].at("WORLD_SIZE"), "2");
  EXPECT_EQ(envs[1].at("MASTER_ADDR"), "10.0.0.1");
  EXPECT_EQ(envs[1].at("MASTER_PORT"), "1234");
  EXPECT_EQ(envs[1].at("CUDA_VISIBLE_DEVICES"), "GPU-b,GPU-a");
  EXPECT_EQ(envs[1].at("HOME"), "/root");
  EXPECT_GE(std::stoi(envs[1].at("OMP_NUM_THREADS")), 1);
  EXPECT_EQ(
      TrainerEnvironments({{"OMP_NUM_THREADS", "3"}}, MakePrepare("a"), master, ledger_, "/mark")[0]
          .at("OMP_NUM_THREADS"),
      "3");
  EXPECT_EQ(envs[0].count("GOMP_SPINCOUNT"), 1u);
  EXPECT_EQ(TrainerEnvironments({{"OMP_WAIT_POLICY", "active"}}, MakePrepare("a"), master, ledger_,
                                "/mark")[0]
                .count("GOMP_SPINCOUNT"),
            0u);
  EXPECT_EQ(envs[0].count("GLIBC_TUNABLES"), 0u) << "the heap of a GPU's trainer is small";
}

}  // namespace
}  // namespace liger::agent
