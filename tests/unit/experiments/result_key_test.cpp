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
  add("code", "", "sha256:c");
  return worker;
}

// What a job on that worker says at its end.
liger::v1::RunEnvironment Ran() {
  liger::v1::RunEnvironment environment;
  environment.set_build("0.1.0+abc");
  auto& versions = *environment.mutable_versions();
  versions["torch"] = "2.10.0";
  versions["code"] = "sha256:c";
  versions["model files"] = "sha256:m";
  versions["dataset file"] = "sha256:d";
  return environment;
}

liger::v1::JobSpec SpecOfOne() {
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
  return PlannedKey(spec, "hash", worker, device);
}

TEST(ResultKeyTest, ChangesWithEachThingThatItStandsFor) {
  const std::string key = Key(SpecOfOne(), Worker());
  EXPECT_NE(key, "");
  EXPECT_EQ(key, Key(SpecOfOne(), Worker()));
  EXPECT_NE(key, Key(SpecOfOne(), Worker(), "NVIDIA H200"));
  EXPECT_NE(key, Key(SpecOfOne(), Worker(), "NVIDIA H100", 40'000'000'000)) << "a slice of one";
  EXPECT_NE(key, PlannedKey(SpecOfOne(), "another", Worker(), Worker().hello.devices(0)));
  WorkerRow other = Worker();
  other.hello.set_build("0.1.0+def");
  EXPECT_NE(key, Key(SpecOfOne(), other));
  other = Worker();
  other.hello.mutable_inventory(1)->set_digest("sha256:new");
  EXPECT_NE(key, Key(SpecOfOne(), other));
  other = Worker();
  other.hello.mutable_inventory(2)->set_digest("sha256:another libtorch");
  EXPECT_NE(key, Key(SpecOfOne(), other));
  other.hello.mutable_inventory()->RemoveLast();
  EXPECT_EQ(Key(SpecOfOne(), other), "") << "what trains there is not known";
}

TEST(ResultKeyTest, AJobIsFoundByWhatItSaysOfItself) {
  const liger::worker::v1::DeviceInfo device = Worker().hello.devices(0);
  const auto key = [&](const std::vector<liger::v1::RunEnvironment>& environments) {
    std::vector<RanAttempt> attempts;
    for (const auto& environment : environments) attempts.push_back({environment, {device}});
    return ResultKey(SpecOfOne(), "hash", attempts);
  };
  EXPECT_EQ(key({Ran()}), PlannedKey(SpecOfOne(), "hash", Worker(), device));
  EXPECT_EQ(key({Ran(), Ran()}), key({Ran()})) << "paused, and went on";
  EXPECT_EQ(key({}), "");
  liger::v1::RunEnvironment replaced = Ran();
  (*replaced.mutable_versions())["code"] = "sha256:another";
  EXPECT_NE(key({replaced}), key({Ran()})) << "the trainer was replaced while the agent ran";
  EXPECT_EQ(key({Ran(), replaced}), "");
  for (const char* name : {"code", "model files", "dataset file"}) {
    liger::v1::RunEnvironment changed = Ran();
    changed.mutable_versions()->erase(name);
    EXPECT_EQ(key({changed}), "") << name << " has changed while it ran";
    EXPECT_EQ(key({changed, Ran()}), "") << name << " of an attempt that was killed";
  }
  liger::v1::RunEnvironment dated = Ran();
  (*dated.mutable_versions())["clock"] = "read by the chat template";
  EXPECT_EQ(key({dated}), "") << "another text tomorrow";
}

TEST(ResultKeyTest, NoneWithoutTheDevicesThatTheSpecAsksFor) {
  const liger::worker::v1::DeviceInfo one = Worker().hello.devices(0);
  liger::worker::v1::DeviceInfo other = one;
  other.set_model("NVIDIA H200");
  liger::v1::JobSpec two = SpecOfOne();
  two.mutable_resources()->set_count(2);
  EXPECT_EQ(ResultKey(two, "hash", {{Ran(), {one, one}}}), PlannedKey(two, "hash", Worker(), one));
  EXPECT_EQ(ResultKey(two, "hash", {{Ran(), {one}}}), "") << "elastic, and on fewer";
  EXPECT_EQ(ResultKey(two, "hash", {{Ran(), {one, one}}, {Ran(), {one}}}), "");
  EXPECT_EQ(ResultKey(two, "hash", {{Ran(), {one, other}}}), "") << "of two types";
  EXPECT_EQ(ResultKey(SpecOfOne(), "hash", {{Ran(), {one}}, {Ran(), {other}}}), "");
  EXPECT_EQ(ResultKey(SpecOfOne(), "hash", {{Ran(), {}}}), "") << "its worker has it no more";
}

TEST(ResultKeyTest, NoneForFilesThatAreNotKnown) {
  liger::v1::JobSpec spec = SpecOfOne();
  spec.mutable_dataset()->set_uri("elsewhere.jsonl");
  EXPECT_EQ(Key(spec, Worker()), "");
  spec = SpecOfOne();
  spec.mutable_training()->set_resume_from_checkpoint("/somewhere");
  EXPECT_EQ(Key(spec, Worker()), "");
  spec = SpecOfOne();
  spec.mutable_dataset()->set_eval_uri("eval.jsonl");
  EXPECT_EQ(Key(spec, Worker()), "");
}

TEST(ResultKeyTest, PossibleKeysAreOfReadyWorkersWithTheDevice) {
  EXPECT_THAT(PossibleKeys(SpecOfOne(), "hash", {Worker()}),
              ::testing::ElementsAre(Key(SpecOfOne(), Worker())));
  WorkerRow lost = Worker();
  lost.state = WorkerState::kLost;
  EXPECT_THAT(PossibleKeys(SpecOfOne(), "hash", {lost}), ::testing::IsEmpty());
  liger::v1::JobSpec cpu = SpecOfOne();
  cpu.mutable_resources()->set_device_kind(liger::v1::DEVICE_KIND_CPU);
  EXPECT_THAT(PossibleKeys(cpu, "hash", {Worker()}), ::testing::IsEmpty());
}

}  // namespace
}  // namespace liger::server
