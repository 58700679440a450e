#include "server/experiments/result_key.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace liger::server {
namespace {

WorkerRow Worker() {
  WorkerRow worker;
  worker.worker_id = "w";
  worker.hello.set_build("0.1.0+abc");
  worker.hello.set_model_root("/models");
  auto* device = worker.hello.add_devices();
  device->set_kind(liger::v1::DEVICE_KIND_CUDA);
  device->set_model("NVIDIA H100");
  const auto add = [&](const char* kind, const char* uri, const char* digest) {
    auto* item = worker.hello.add_inventory();
    item->set_kind(kind);
    item->set_uri(uri);
    item->set_digest(digest);
  };
  add("model", "tiny", "sha256:m");
  add("dataset", "rows.jsonl", "sha256:d");
  return worker;
}

liger::v1::JobSpec Spec() {
  liger::v1::JobSpec spec;
  spec.mutable_model()->set_uri("/models/tiny");
  spec.mutable_dataset()->set_uri("rows.jsonl");
  spec.mutable_resources()->set_device_kind(liger::v1::DEVICE_KIND_CUDA);
  return spec;
}

std::string Key(const liger::v1::JobSpec& spec, const WorkerRow& worker,
                const std::string& model = "NVIDIA H100", int64_t memory_bytes = 0) {
  liger::worker::v1::DeviceInfo device;
  device.set_model(model);
  device.set_memory_bytes(memory_bytes);
  return ResultKey(spec, "hash", worker, device);
}

TEST(ResultKeyTest, ChangesWithEachThingThatItStandsFor) {
  const std::string key = Key(Spec(), Worker());
  EXPECT_NE(key, "");
  EXPECT_EQ(key, Key(Spec(), Worker()));
  EXPECT_NE(key, Key(Spec(), Worker(), "NVIDIA H200"));
  EXPECT_NE(key, Key(Spec(), Worker(), "NVIDIA H100", 40'000'000'000)) << "a slice of one";
  EXPECT_NE(key, ResultKey(Spec(), "another", Worker(), Worker().hello.devices(0)));
  WorkerRow other = Worker();
  other.hello.set_build("0.1.0+def");
  EXPECT_NE(key, Key(Spec(), other));
  other = Worker();
  other.hello.mutable_inventory(1)->set_digest("sha256:new");
  EXPECT_NE(key, Key(Spec(), other));
}

TEST(ResultKeyTest, NoneForFilesThatAreNotKnown) {
  liger::v1::JobSpec spec = Spec();
  spec.mutable_dataset()->set_uri("elsewhere.jsonl");
  EXPECT_EQ(Key(spec, Worker()), "");
  spec = Spec();
  spec.mutable_training()->set_resume_from_checkpoint("/somewhere");
  EXPECT_EQ(Key(spec, Worker()), "");
  spec = Spec();
  spec.mutable_dataset()->set_eval_uri("eval.jsonl");
  EXPECT_EQ(Key(spec, Worker()), "");
}

TEST(ResultKeyTest, PossibleKeysAreOfReadyWorkersWithTheDevice) {
  EXPECT_THAT(PossibleKeys(Spec(), "hash", {Worker()}),
              ::testing::ElementsAre(Key(Spec(), Worker())));
  WorkerRow lost = Worker();
  lost.state = WorkerState::kLost;
  EXPECT_THAT(PossibleKeys(Spec(), "hash", {lost}), ::testing::IsEmpty());
  liger::v1::JobSpec cpu = Spec();
  cpu.mutable_resources()->set_device_kind(liger::v1::DEVICE_KIND_CPU);
  EXPECT_THAT(PossibleKeys(cpu, "hash", {Worker()}), ::testing::IsEmpty());
}

}  // namespace
}  // namespace liger::server
