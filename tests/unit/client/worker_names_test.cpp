#include "client/worker_names.h"

#include <gtest/gtest.h>

namespace liger::client {
namespace {

constexpr char kId[] = "0f8fad5b";

WorkerNames Names() {
  liger::v1::ListWorkersResponse workers;
  workers.add_workers()->set_worker_id(kId);
  workers.mutable_workers(0)->set_name("node-1");
  // Ids are what an operator chose.
  workers.add_workers()->set_worker_id("gpu");
  workers.mutable_workers(1)->set_name("node-2");
  return WorkerNames(workers);
}

TEST(WorkerNamesTest, InSentencesOnlyWhereAWorkerIsMeant) {
  const WorkerNames names = Names();
  EXPECT_EQ(names.PutInto("placed on worker gpu"), "placed on worker node-2");
  EXPECT_EQ(names.PutInto("worker gpu did not start it: no gpu is free, worker 0f8fad5b."),
            "worker node-2 did not start it: no gpu is free, worker node-1.");
  EXPECT_EQ(names.PutInto("a newer agent runs as worker 'gpu'; stop it"),
            "a newer agent runs as worker 'node-2'; stop it");
  EXPECT_EQ(names.PutInto("worker:gpu"), "worker:node-2");
  EXPECT_EQ(names.PutInto("worker gpu-7 and /data/gpu/worker gpus"),
            "worker gpu-7 and /data/gpu/worker gpus");
}

TEST(WorkerNamesTest, InFieldsThatHoldIdsAndNotInWhatPeopleNamed) {
  liger::v1::Job job;
  job.set_name("gpu");
  job.mutable_spec()->mutable_output()->set_uri("/out/gpu");
  job.mutable_status()->set_message("worker gpu stopped answering");
  job.mutable_status()->add_attempts()->set_worker_id("gpu");
  liger::v1::Job expected = job;
  expected.mutable_status()->set_message("worker node-2 stopped answering");
  expected.mutable_status()->mutable_attempts(0)->set_worker_id("node-2");
  Names().PutInto(&job);
  EXPECT_EQ(job.DebugString(), expected.DebugString());

  liger::v1::CatalogModel model;
  model.set_name("gpu");
  model.add_present_on(kId);
  Names().PutInto(&model);
  EXPECT_EQ(model.name(), "gpu");
  EXPECT_EQ(model.present_on(0), "node-1");
}

}  // namespace
}  // namespace liger::client
