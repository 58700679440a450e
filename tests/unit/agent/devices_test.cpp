#include "worker/agent/devices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "common/host_resources.h"
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
  const auto gpus = ProbeDevices(nvml.Gpus(), "w", -1);
  ASSERT_EQ(gpus.size(), 2u);
  EXPECT_EQ(gpus[0].uuid(), "GPU-a");
  EXPECT_EQ(gpus[0].kind(), v1::DEVICE_KIND_CUDA);
  EXPECT_EQ(ProbeDevices(nvml.Gpus(), "w", 1).size(), 3u);
  EXPECT_EQ(ProbeDevices({}, "w", -1).size(), 1u);
  const auto slots = ProbeDevices({}, "w", 2);
  ASSERT_EQ(slots.size(), 2u);
  EXPECT_EQ(slots[1].uuid(), "CPU-w-1");
  EXPECT_GT(slots[1].memory_bytes(), 0);
  EXPECT_LE(slots[0].memory_bytes() + slots[1].memory_bytes(), AvailableMemoryBytes());
}

std::vector<std::string> Visible(const char* variable) {
  // The one of number 2 has fallen off the bus.
  const std::vector<GpuInfo> gpus = {
      {"GPU-8a1c", "H100", 80, 0}, {"GPU-8b77", "H100", 80, 1}, {"GPU-93d0", "H100", 80, 3}};
  std::vector<std::string> uuids, missing;
  const auto visible = VisibleGpus(gpus, variable, &missing);
  if (!visible.ok()) return {std::string(visible.status().message())};
  for (const GpuInfo& gpu : *visible) uuids.push_back(gpu.uuid);
  for (const std::string& name : missing) uuids.push_back("not " + name);
  return uuids;
}

TEST(VisibleGpusTest, AreThoseThatTheEnvironmentNames) {
  using testing::ElementsAre;
  using testing::HasSubstr;
  using testing::IsEmpty;
  EXPECT_THAT(Visible(nullptr), ElementsAre("GPU-8a1c", "GPU-8b77", "GPU-93d0"));
  EXPECT_THAT(Visible(""), IsEmpty());
  EXPECT_THAT(Visible("-1"), IsEmpty());
  EXPECT_THAT(Visible("NoDevFiles"), IsEmpty());
  EXPECT_THAT(Visible("3, 0"), ElementsAre("GPU-93d0", "GPU-8a1c"));
  EXPECT_THAT(Visible("1,1,-1,0"), ElementsAre("GPU-8b77"));
  EXPECT_THAT(Visible("GPU-9,GPU-8b77"), ElementsAre("GPU-93d0", "GPU-8b77"));
  // The others can still be used.
  EXPECT_THAT(Visible("0,1,2,3"), ElementsAre("GPU-8a1c", "GPU-8b77", "GPU-93d0", "not 2"));
  EXPECT_THAT(Visible("GPU-77aa,3"), ElementsAre("GPU-93d0", "not GPU-77aa"));
  EXPECT_THAT(Visible("2"), ElementsAre(HasSubstr("names '2', which is none of this host's 3")));
  EXPECT_THAT(Visible("0,MIG-1"), ElementsAre(HasSubstr("names 'MIG-1', which is none")));
  EXPECT_THAT(Visible("GPU-8"), ElementsAre(HasSubstr("names 'GPU-8', which is more than one")));
  EXPECT_THAT(Visible("MIG-1"), ElementsAre(HasSubstr("names 'MIG-1', which is none")));
  // A host without GPUs has CPU slots, whatever is set.
  std::vector<std::string> missing;
  EXPECT_TRUE(VisibleGpus({}, "0,1", &missing).value().empty());
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
  DeviceLedger ledger(ProbeDevices(nvml.Gpus(), "w", 0));
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
    prepare.set_kind(trainer::v1::TASK_KIND_TRAIN);
    prepare.set_deadline_seconds(10);
    prepare.mutable_gang()->set_world_size(2);
    for (int i = 0; i < 2; ++i) {
      prepare.add_local_ranks()->set_rank(i);
      prepare.mutable_local_ranks(i)->set_device_uuid(i == 0 ? "GPU-b" : "GPU-a");
    }
    return prepare;
  }
  FakeNvml nvml_;
  DeviceLedger ledger_{ProbeDevices(nvml_.Gpus(), "w", 0)};
  RankPorts ports_{29300, 29399};
  Reservations reservations_{&ledger_, &ports_, "10.0.0.1"};
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
      TrainerEnvironments({{"HOME", "/root"}}, MakePrepare("a"), master, ledger_, "", "/mark");
  ASSERT_EQ(envs.size(), 2u);
  EXPECT_EQ(envs[1].at("RANK"), "1");
  EXPECT_EQ(envs[1].at("LOCAL_RANK"), "1");
  EXPECT_EQ(envs[1].at("WORLD_SIZE"), "2");
  EXPECT_EQ(envs[1].at("MASTER_ADDR"), "10.0.0.1");
  EXPECT_EQ(envs[1].at("MASTER_PORT"), "1234");
  EXPECT_EQ(envs[1].at("CUDA_VISIBLE_DEVICES"), "GPU-b,GPU-a");
  EXPECT_EQ(envs[1].at("HOME"), "/root");
  EXPECT_GE(std::stoi(envs[1].at("OMP_NUM_THREADS")), 1);
  EXPECT_EQ(TrainerEnvironments({{"OMP_NUM_THREADS", "3"}}, MakePrepare("a"), master, ledger_, "",
                                "/mark")[0]
                .at("OMP_NUM_THREADS"),
            "3");
  EXPECT_EQ(envs[0].count("GOMP_SPINCOUNT"), 1u);
  EXPECT_EQ(TrainerEnvironments({{"OMP_WAIT_POLICY", "active"}}, MakePrepare("a"), master, ledger_,
                                "", "/mark")[0]
                .count("GOMP_SPINCOUNT"),
            0u);
  EXPECT_EQ(envs[0].count("GLIBC_TUNABLES"), 0u) << "the heap of a GPU's trainer is small";
}

TEST_F(ReservationsTest, TheRanksAreToldHowToReachEachOther) {
  worker::v1::Prepare prepare = MakePrepare("a");
  const auto of = [&](const std::map<std::string, std::string>& base,
                      const std::string& interface) {
    return CommunicationPart(TrainerEnvironments(base, prepare, {}, ledger_, interface, "/m")[0]);
  };
  auto part = of({{"HOME", "/root"}}, "");
  EXPECT_EQ(part.at("NCCL_SOCKET_IFNAME"), "lo") << "one host";
  EXPECT_EQ(part.at("WORLD_SIZE"), "2");
  EXPECT_EQ(part.count("TORCH_NCCL_ASYNC_ERROR_HANDLING"), 1u);
  EXPECT_EQ(part.count("HOME"), 0u);
  prepare.mutable_gang()->set_nnodes(2);
  EXPECT_EQ(of({}, "").count("GLOO_SOCKET_IFNAME"), 0u) << "they choose";
  EXPECT_EQ(of({{"NCCL_SOCKET_IFNAME", "ib0"}}, "").at("NCCL_SOCKET_IFNAME"), "ib0");
  part = of({{"NCCL_SOCKET_IFNAME", "ib0"}}, "eth1");
  EXPECT_EQ(part.at("NCCL_SOCKET_IFNAME"), "eth1");
  EXPECT_EQ(part.at("GLOO_SOCKET_IFNAME"), "eth1");
  prepare.mutable_gang()->set_world_size(1);
  EXPECT_EQ(of({}, "").count("NCCL_SOCKET_IFNAME"), 0u);
}

TEST_F(ReservationsTest, ADeviceThatFailedIsNotReserved) {
  EXPECT_TRUE(ledger_.NoteFault("GPU-b", "Xid 79"));
  EXPECT_FALSE(ledger_.NoteFault("GPU-b", "Xid 79")) << "known";
  EXPECT_EQ(ledger_.devices()[1].fault(), "Xid 79");
  const auto refused = reservations_.Prepare(MakePrepare("a"), now_);
  EXPECT_EQ(refused.status().message(), "device GPU-b failed: Xid 79");
  EXPECT_EQ(ledger_.Holder("GPU-a"), "");
}

TEST(RankPortsTest, ARangeIsTwoPorts) {
  EXPECT_TRUE(RankPorts::Parse("29500-29999").ok());
  for (const char* range : {"", "29500", "29500-", "0-10", "20-10", "1-70000", "a-b"}) {
    EXPECT_THAT(RankPorts::Parse(range).status().message(), testing::HasSubstr("--rank-ports"));
  }
}

TEST(RankPortsTest, NoPortIsGivenTwiceOnAHost) {
  RankPorts ports(29401, 29402);
  RankPorts another_agent(29401, 29402);
  EXPECT_EQ(*ports.Hold("a"), 29401);
  EXPECT_EQ(*ports.Hold("a"), 29401);
  EXPECT_EQ(*another_agent.Hold("b"), 29402);
  const auto none = ports.Hold("c");
  EXPECT_TRUE(absl::IsResourceExhausted(none.status()));
  EXPECT_THAT(none.status().message(), testing::HasSubstr("every port from 29401 to 29402"));
  another_agent.Release("b");
  EXPECT_EQ(*ports.Hold("c"), 29402);
}

// As torch's store listens: the agent goes on holding the port for it.
TEST(RankPortsTest, TheTrainerMayListenAtAPortThatIsHeld) {
  RankPorts ports(29403, 29403);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(*ports.Hold("a")));
  UniqueFd trainer(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  setsockopt(trainer.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  EXPECT_EQ(bind(trainer.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(listen(trainer.get(), 1), 0);
  ports.Release("a");
  EXPECT_FALSE(ports.Hold("b").ok()) << "in use by the trainer";
}

}  // namespace
}  // namespace liger::agent
