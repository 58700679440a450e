// Where jobs put their results, who holds a place, and how results go.

#include <gmock/gmock.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/checkpoints.h"
#include "server/store/outputs.h"
#include "tests/unit/store/contract.h"

namespace liger::server::testing {
namespace {

class StoreOutputs : public StoreContract {};
LIGER_STORE_CONTRACT(StoreOutputs);

TEST_P(StoreOutputs, AnOutputBelongsToOneJob) {
  AddWorker("w1", 1);  // output root /out
  const auto with_output = [](const std::string& uid, const std::string& uri) {
    CreateJob command = NewJob(uid, "job-" + uid);
    command.job.resolved_spec.mutable_output()->set_uri(uri);
    return command;
  };
  driver->Do(with_output("u1", "tuned"));
  for (const char* uri : {"tuned", "./tuned/", "file:///out/tuned", "/out//tuned"}) {
    const std::string refusal = Refusal(driver->Try(with_output("u2", uri)));
    EXPECT_EQ(refusal, std::string("output.uri: '") + uri +
                           "' is the output of job 'job-u1'; choose another name or output.uri, "
                           "or set output.overwrite");
  }
  CreateJob overwrite = with_output("u3", "tuned");
  overwrite.job.resolved_spec.mutable_output()->set_overwrite(true);
  driver->Do(overwrite);
  driver->Do(with_output("u4", "tuned2"));
  CreateJob elsewhere = with_output("u5", "tuned");
  elsewhere.job.tenant = "elsewhere";
  driver->Do(elsewhere);
  // A job that ended without a model holds nothing.
  driver->Do(CancelJob{"default", "u1"});
  driver->Do(CancelJob{"default", "u3"});
  driver->Do(with_output("u6", "tuned"));
}

TEST_P(StoreOutputs, OutputsDoNotNest) {
  AddWorker("w1", 1);  // output root /out
  const auto create = [&](const std::string& uid, const std::string& uri, bool overwrite) {
    CreateJob command = NewJob(uid, "job-" + uid);
    command.job.resolved_spec.mutable_output()->set_uri(uri);
    command.job.resolved_spec.mutable_output()->set_overwrite(overwrite);
    return driver->Try(command);
  };
  ASSERT_TRUE(create("u1", "team/tuned", false).ok());
  const std::vector<std::pair<const char*, const char*>> nested = {
      {"team/tuned/sub", "lies in"},
      {"file:///out/team/tuned/a/b", "lies in"},
      {"team", "would hold"},
      {"/out/team/", "would hold"},
      {"team/tuned.checkpoints", "lies among the checkpoints of"},
      {"team/tuned.checkpoints/checkpoint-1", "lies among the checkpoints of"}};
  for (const auto& [uri, how] : nested) {
    for (const bool overwrite : {false, true}) {
      EXPECT_EQ(Refusal(create("u2", uri, overwrite)),
                std::string("output.uri: '") + uri + "' " + how +
                    " 'team/tuned', the output of job 'job-u1'; outputs do not nest, choose a "
                    "place beside it");
    }
  }
  ASSERT_TRUE(create("u3", "x.checkpoints/best", false).ok());
  EXPECT_NE(Refusal(create("u4", "x", true)).find("has its checkpoints around"), std::string::npos);
  ASSERT_TRUE(create("u5", "y.checkpoints", false).ok());
  EXPECT_NE(Refusal(create("u4", "/out/y", true)).find("has its checkpoints in"),
            std::string::npos);
  for (const char* uri :
       {"team/tuned2", "team/tune", "team/tuned-sub", "team/tuned.old", "tuned"}) {
    EXPECT_TRUE(create(std::string("beside-") + uri, uri, false).ok()) << uri;
  }
  // One that ended with nothing there is in nobody's way.
  driver->Do(CancelJob{"default", "u1"});
  EXPECT_TRUE(create("u6", "team/tuned/sub", false).ok());
}

TEST_P(StoreOutputs, ADeletedModelIsNotBuiltUpon) {
  AddWorker("w1", 1);
  const int64_t epoch = driver->RunJob("u1", "w1");
  driver->PublishModel("u1", "w1", epoch, 2);
  driver->Exit("u1", "w1", epoch, 3, Succeeded());
  driver->Do(DeleteJob{"default", "u1"});
  CreateJob below = NewJob("u2", "job-u2");
  below.job.resolved_spec.mutable_output()->set_uri("job-u1/sub");
  EXPECT_NE(Refusal(driver->Try(below)).find("the output of the deleted job 'job-u1'"),
            std::string::npos);
}

TEST_P(StoreOutputs, ADeletedJobsModelStillLiesThere) {
  AddWorker("w1", 1);
  const int64_t epoch = driver->RunJob("u1", "w1");
  driver->PublishModel("u1", "w1", epoch, 2);
  driver->Exit("u1", "w1", epoch, 3, Succeeded());
  EXPECT_TRUE(driver->Do(DeleteJob{"default", "u1"}).reclaims.empty());
  EXPECT_EQ(
      driver->Read<size_t>([](const ReadView& v) { return v.Artifacts("default", "").size(); }), 0u)
      << "of a deleted job";
  CreateJob again = NewJob("u2", "job-u1");
  EXPECT_NE(Refusal(driver->Try(again)).find("the model of the deleted job 'job-u1'"),
            std::string::npos);
  again.job.resolved_spec.mutable_output()->set_overwrite(true);
  driver->Do(again);
  driver->PassCheck("u2", "w1");
  const int64_t second = driver->Place("u2", "w1");
  driver->Begin("u2", "w1", second);
  EXPECT_TRUE(driver->PublishModel("u2", "w1", second, 2).publish->granted);
  driver->Exit("u2", "w1", second, 3, Succeeded());
  // It took the place of the first, so that once it is removed the place is free.
  const DeleteJob::Result deleted = driver->Do(DeleteJob{"default", "u2", true});
  ASSERT_EQ(deleted.reclaims.size(), 1u);
  EXPECT_EQ(deleted.reclaims[0].worker_id, "w1");
  EXPECT_EQ(deleted.reclaims[0].uri, "file:///out/job-u1");
  EXPECT_EQ(deleted.reclaims[0].digest, "sha256:abc");
  driver->Do(NewJob("u3", "job-u1"));
}

TEST_P(StoreOutputs, AModelIsReplacedWhenTheNextIsThereAndNotBefore) {
  AddWorker("w1", 1);
  const int64_t epoch = driver->RunJob("u1", "w1");
  driver->PublishModel("u1", "w1", epoch, 2);
  driver->Exit("u1", "w1", epoch, 3, Succeeded());
  const auto models = [&] {
    return driver->Read<std::vector<std::string>>([](const ReadView& view) {
      std::vector<std::string> uids;
      for (const ArtifactRow& artifact : view.Artifacts("default", "")) {
        uids.push_back(artifact.job_uid);
      }
      std::sort(uids.begin(), uids.end());
      return uids;
    });
  };
  const auto overwrite = [&](const std::string& uid, TaskExit exit) {
    CreateJob command = NewJob(uid, "job-" + uid);
    command.job.resolved_spec.mutable_output()->set_uri("job-u1");
    command.job.resolved_spec.mutable_output()->set_overwrite(true);
    driver->Do(command);
    driver->PassCheck(uid, "w1");
    const int64_t next = driver->Place(uid, "w1");
    driver->Begin(uid, "w1", next);
    EXPECT_TRUE(driver->PublishModel(uid, "w1", next, 2).publish->granted);
    EXPECT_EQ(models(), (std::vector<std::string>{"u1", uid})) << "granted, and not there yet";
    driver->Exit(uid, "w1", next, 3, std::move(exit));
  };
  TaskExit full = Failed(liger::v1::FAILURE_CLASS_STORAGE, "no space left at /out", false);
  full.unpublished = {"final"};
  overwrite("u2", full);
  EXPECT_EQ(models(), std::vector<std::string>{"u1"}) << "the old one lies there as before";
  overwrite("u3", Succeeded());
  EXPECT_EQ(models(), std::vector<std::string>{"u3"});
}

// The exit of a worker that was lost after its grant comes when it is back.
TEST_P(StoreOutputs, ALateExitLeavesANewerModelListed) {
  AddWorker("w1", 2);
  const int64_t late = driver->RunJob("u1", "w1");
  driver->PublishModel("u1", "w1", late, 2);
  driver->Do(LoseWorker{"w1", 1});
  ASSERT_EQ(driver->State("u1"), liger::v1::JobStatus::SUCCEEDED);
  liger::worker::v1::Hello back = NewHello("w1", 1, 2);
  Own(&back, "u1", late, "train", /*running=*/true, 2);
  driver->Do(ReconcileWorker{back});

  CreateJob next = NewJob("u2", "job-u2");
  next.job.resolved_spec.mutable_output()->set_uri("job-u1");
  next.job.resolved_spec.mutable_output()->set_overwrite(true);
  driver->Do(next);
  driver->PassCheck("u2", "w1");
  const int64_t epoch = driver->Place("u2", "w1", /*slot=*/1);
  driver->Begin("u2", "w1", epoch);
  EXPECT_TRUE(driver->PublishModel("u2", "w1", epoch, 2).publish->granted);
  const auto listed = [&](const std::string& uid) {
    return driver->Read<size_t>(
        [&](const ReadView& view) { return view.Artifacts("default", uid).size(); });
  };
  driver->Exit("u1", "w1", late, 3, Succeeded());
  EXPECT_EQ(listed("u2"), 1u) << "granted after it";
  driver->Exit("u2", "w1", epoch, 3, Succeeded());
  EXPECT_EQ(listed("u1"), 0u);
  EXPECT_EQ(listed("u2"), 1u);
}

// One that its trainer found damaged is no place to go on from, and is not counted or removed.
TEST_P(StoreOutputs, ADamagedCheckpointIsListedWhereItWasSetAside) {
  AddWorker("w1", 1);
  CreateJob command = NewJob("u1", "job-u1");
  command.job.resolved_spec.mutable_training()->set_save_total_limit(2);
  driver->Do(command);
  driver->PassCheck("u1", "w1");
  int64_t seq = 1;
  int64_t epoch = driver->Place("u1", "w1");
  driver->Begin("u1", "w1", epoch);
  const auto save = [&](int64_t step) {
    ReportTask saved = Report("w1", "u1", epoch, "train", ++seq);
    saved.publish = SavedModel(CheckpointName(step));
    saved.publish->set_kind("checkpoint");
    saved.publish->set_step(step);
    EXPECT_TRUE(driver->Do(saved).publish->granted);
  };
  const auto listed = [&] {
    return driver->Read<std::vector<std::string>>([](const ReadView& view) {
      std::vector<std::string> lines;
      for (const ArtifactRow& row : view.Artifacts("default", "u1")) {
        const liger::v1::Artifact artifact = ToProto(row);
        lines.push_back(absl::StrCat(
            artifact.uri(), artifact.state() == liger::v1::Artifact::QUARANTINED ? " bad" : " ok",
            artifact.reason().empty() ? "" : ": ", artifact.reason()));
      }
      std::sort(lines.begin(), lines.end());
      return lines;
    });
  };
  const auto newest = [&] {
    return driver->Read<std::string>(
        [](const ReadView& view) { return NewestCheckpoint(view, *view.Job("u1")); });
  };
  const std::string place = "/out/job-u1.checkpoints/checkpoint-";
  save(20);
  save(40);
  EXPECT_EQ(newest(), place + "40");
  driver->Exit("u1", "w1", epoch, ++seq, Failed(liger::v1::FAILURE_CLASS_INFRA, "killed", true));
  const auto find_damaged = [&] {
    epoch = driver->Place("u1", "w1", 0, newest());
    driver->Begin("u1", "w1", epoch);
    seq = 1;
    ReportTask warned = Report("w1", "u1", epoch, "train", ++seq);
    liger::v1::Warning& other = warned.warnings.emplace_back();
    other.set_code(kNotResumedCode);
    other.set_message("checkpoint-60 is not there");
    liger::v1::Warning& warning = warned.warnings.emplace_back();
    warning.set_code(kNotResumedCode);
    warning.set_message("its digest differs");
    warning.set_file(place + "40.damaged");
    driver->Do(warned);
    return warned;
  };
  const auto told = [&] {
    return driver->Read<int64_t>([](const ReadView& view) {
      const auto events = view.Events("u1", 0, 0);
      return std::count_if(events.begin(), events.end(), [](const liger::v1::JobEvent& event) {
        return event.type() == "Warning" && event.message() == "its digest differs";
      });
    });
  };
  ReportTask warned = find_damaged();
  EXPECT_EQ(newest(), place + "20");
  EXPECT_EQ(told(), 1);
  const std::string bad = "file://" + place + "40.damaged bad: its digest differs";
  EXPECT_EQ(listed(), (std::vector<std::string>{"file://" + place + "20 ok", bad}));
  // The next of this step is another folder, and the limit is of good ones.
  save(40);
  // What was said of the one before it comes again, with more.
  warned.through_seq = ++seq;
  driver->Do(warned);
  EXPECT_EQ(told(), 1);
  save(60);
  EXPECT_EQ(newest(), place + "60");
  EXPECT_EQ(listed(), (std::vector<std::string>{"file://" + place + "20 ok",
                                                "file://" + place + "40 ok", bad,
                                                "file://" + place + "60 ok"}));
  driver->Exit("u1", "w1", epoch, ++seq, Failed(liger::v1::FAILURE_CLASS_INFRA, "killed", true));
  // It has become damaged, too, and is set aside in the first one's place.
  find_damaged();
  EXPECT_EQ(told(), 2) << "each attempt's is told";
  EXPECT_EQ(listed(), (std::vector<std::string>{"file://" + place + "20 ok", bad,
                                                "file://" + place + "60 ok"}));
}

// A job's status shows its last warnings alone; none is lost of what they lead to.
TEST_P(StoreOutputs, AFloodOfWarningsHidesNoDamagedCheckpoint) {
  AddWorker("w1", 1);
  int64_t epoch = driver->RunJob("u1", "w1");
  ReportTask saved = Report("w1", "u1", epoch, "train", 2);
  saved.publish = SavedModel(CheckpointName(20));
  saved.publish->set_kind("checkpoint");
  saved.publish->set_step(20);
  for (int i = 0; i < 150; ++i) {
    saved.warnings.emplace_back().set_message(absl::StrCat("rank 1 works ", i, " s a step"));
  }
  EXPECT_TRUE(driver->Do(saved).publish->granted);
  driver->Exit("u1", "w1", epoch, 3, Failed(liger::v1::FAILURE_CLASS_INFRA, "killed", true));
  const std::string place = "/out/job-u1.checkpoints/checkpoint-20";
  epoch = driver->Place("u1", "w1", 0, place);
  driver->Begin("u1", "w1", epoch);
  ReportTask warned = Report("w1", "u1", epoch, "train", 2);
  liger::v1::Warning& warning = warned.warnings.emplace_back();
  warning.set_code(kNotResumedCode);
  warning.set_message("its digest differs");
  warning.set_file(place + ".damaged");
  driver->Do(warned);
  driver->Read<int>([](const ReadView& view) {
    EXPECT_EQ(NewestCheckpoint(view, *view.Job("u1")), "");
    EXPECT_EQ(view.Events("u1", 0, 0).back().message(), "its digest differs");
    return 0;
  });
}

TEST_P(StoreOutputs, ARemovalComesAgainUntilTheWorkerHasDoneIt) {
  AddWorker("w1", 1);
  const auto pending = [&](const std::string& worker_id) {
    return driver->Do(ReconcileWorker{NewHello(worker_id, 1, 1)}).reclaims;
  };
  const auto run_and_delete = [&](const std::string& uid) {
    const int64_t epoch = driver->RunJob(uid, "w1");
    driver->PublishModel(uid, "w1", epoch, 2);
    driver->Exit(uid, "w1", epoch, 3, Succeeded());
    driver->Do(DeleteJob{"default", uid, true});
  };
  run_and_delete("u1");
  ASSERT_EQ(pending("w1").size(), 1u);
  EXPECT_EQ(pending("w1")[0].uri, "file:///out/job-u1");
  EXPECT_TRUE(pending("w2").empty());
  driver->Do(FinishReclaims{{{"w1", "file:///out/job-u1", "sha256:older"}}});
  EXPECT_EQ(pending("w1").size(), 1u) << "a late answer about what lay there before";
  driver->Do(FinishReclaims{{{"w1", "file:///out/job-u1", "sha256:abc"}}});
  EXPECT_TRUE(pending("w1").empty());

  // Something newer is published there: it must stay.
  run_and_delete("u2");
  CreateJob newer = NewJob("u3", "job-u2");
  driver->Do(newer);
  driver->PassCheck("u3", "w1");
  const int64_t epoch = driver->Place("u3", "w1");
  driver->Begin("u3", "w1", epoch);
  driver->PublishModel("u3", "w1", epoch, 2);
  liger::worker::v1::Hello hello = NewHello("w1", 1, 1);
  Own(&hello, "u3", epoch, "train", true, 2);
  EXPECT_TRUE(driver->Do(ReconcileWorker{hello}).reclaims.empty());
}

// Workers that share a disk have one output root. Others find nothing of that digest there.
TEST_P(StoreOutputs, AWorkerThatIsLostLeavesItsRemovalsToThoseWithItsRoot) {
  using ::testing::UnorderedElementsAre;
  const auto who = [](const std::vector<ReclaimRow>& rows) {
    std::vector<std::string> texts;
    for (const ReclaimRow& row : rows) texts.push_back(row.worker_id + " " + row.uri);
    return texts;
  };
  const auto pending = [&](liger::worker::v1::Hello hello) {
    return who(driver->Do(ReconcileWorker{std::move(hello)}).reclaims);
  };
  for (const char* id : {"w1", "w2"}) AddWorker(id, 1);
  liger::worker::v1::Hello elsewhere = NewHello("w3", 1, 1);
  elsewhere.set_output_root("/other");
  driver->Do(ReconcileWorker{elsewhere});
  for (const char* uid : {"u1", "u2"}) {
    const int64_t epoch = driver->RunJob(uid, "w1");
    driver->PublishModel(uid, "w1", epoch, 2);
    driver->Exit(uid, "w1", epoch, 3, Succeeded());
  }
  // Asked for before it is lost, and after that.
  EXPECT_THAT(who(driver->Do(DeleteJob{"default", "u1", true}).reclaims),
              UnorderedElementsAre("w1 file:///out/job-u1"));
  EXPECT_THAT(who(driver->Do(LoseWorker{"w1", 1}).reclaims),
              UnorderedElementsAre("w1 file:///out/job-u1", "w2 file:///out/job-u1"));
  EXPECT_THAT(who(driver->Do(DeleteJob{"default", "u2", true}).reclaims),
              UnorderedElementsAre("w1 file:///out/job-u2", "w2 file:///out/job-u2"));
  EXPECT_THAT(pending(NewHello("w2", 1, 1)),
              UnorderedElementsAre("w2 file:///out/job-u1", "w2 file:///out/job-u2"));
  EXPECT_THAT(pending(elsewhere), ::testing::IsEmpty());
  // One that comes later.
  EXPECT_THAT(pending(NewHello("w4", 1, 1)),
              UnorderedElementsAre("w4 file:///out/job-u1", "w4 file:///out/job-u2"));
  // That others have not found it says nothing of the disk of the lost one.
  driver->Do(FinishReclaims{{{"w2", "file:///out/job-u1", "sha256:abc"}}});
  EXPECT_THAT(pending(NewHello("w1", 1, 1)),
              UnorderedElementsAre("w1 file:///out/job-u1", "w1 file:///out/job-u2"));

  // The same is published there again, by another one: nobody removes it.
  CreateJob again = NewJob("u3", "job-u1");
  driver->Do(again);
  driver->PassCheck("u3", "w2");
  const int64_t epoch = driver->Place("u3", "w2");
  driver->Begin("u3", "w2", epoch);
  driver->PublishModel("u3", "w2", epoch, 2);
  EXPECT_THAT(pending(NewHello("w1", 1, 1)), UnorderedElementsAre("w1 file:///out/job-u2"));
  EXPECT_THAT(pending(NewHello("w4", 1, 1)), UnorderedElementsAre("w4 file:///out/job-u2"));
}

}  // namespace
}  // namespace liger::server::testing
