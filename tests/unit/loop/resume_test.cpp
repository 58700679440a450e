// Runs that are cut off and go on from a checkpoint, on whole tiny jobs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/checkpoints.h"
#include "tests/unit/loop/resumed_runs.h"
#include "worker/trainer/checkpoint/output_folder.h"
#include "worker/trainer/checkpoint/safetensors.h"
#include "worker/trainer/loop/check.h"
#include "worker/trainer/loop/exit_code.h"
#include "worker/trainer/loop/reporter.h"
#include "worker/trainer/loop/run_task.h"
#include "worker/trainer/loop/train_job.h"

namespace liger::trainer {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Event = liger::trainer::v1::Event;
namespace fs = std::filesystem;

// The whole run, and the same one resumed at `step`: every logged number, the
// last checkpoint with its optimizer and random state, and the model are equal.
void ExpectResumesExactly(const Request& request, const TinyJob& job, int64_t step) {
  const TaskOutcome whole = RunRecorded(In(request, job.Path("whole")));
  ASSERT_EQ(whole.exit_code, kExitOk) << Failure(whole);
  const Request rest = From(In(request, job.Path("rest")), Checkpoint(job.Path("whole"), step));
  const TaskOutcome resumed = RunRecorded(rest);
  ASSERT_EQ(resumed.exit_code, kExitOk) << Failure(resumed);
  EXPECT_EQ(resumed.sink.All(Event::kWarning).size(), whole.sink.All(Event::kWarning).size());
  EXPECT_EQ(Lines(job.Path("rest/model/metrics.jsonl")),
            Lines(job.Path("whole/model/metrics.jsonl")));
  ExpectSameTensors(job.Path("rest/model/model.safetensors"),
                    job.Path("whole/model/model.safetensors"));
  for (const char* file : {"model", "optimizer", "rng_state"}) {
    const std::string name = std::string("/") + file + ".safetensors";
    ExpectSameTensors(Checkpoint(job.Path("rest"), 6) + name,
                      Checkpoint(job.Path("whole"), 6) + name);
  }
}

TEST(ResumeTest, SftGoesOnBitForBit) {
  const TinyJob job;
  ExpectResumesExactly(WithCheckpoints(job.Sft()), job, 3);
}

// Epochs of five steps, whose last one has one micro-batch instead of two.
TEST(ResumeTest, InTheMiddleOfAnEpoch) {
  const TinyJob job;
  Request request = WithCheckpoints(job.Sft());
  Training(request).set_max_steps(0);
  Training(request).set_num_train_epochs(4);
  Training(request).set_per_device_train_batch_size(2);
  Training(request).set_gradient_accumulation_steps(2);
  ExpectResumesExactly(request, job, 3);
}

TEST(ResumeTest, Bf16StochasticGoesOnBitForBit) {
  const TinyJob job;
  Request request = WithCheckpoints(job.Sft());
  Training(request).set_precision(liger::v1::PRECISION_BF16_STOCHASTIC);
  for (auto set :
       {&liger::v1::TrainingSpec::set_storage_dtype, &liger::v1::TrainingSpec::set_compute_dtype,
        &liger::v1::TrainingSpec::set_gradient_dtype,
        &liger::v1::TrainingSpec::set_optimizer_dtype}) {
    (Training(request).*set)(liger::v1::DTYPE_BF16);
  }
  ExpectResumesExactly(request, job, 3);
}

TEST(ResumeTest, Bf16MixedGoesOnBitForBit) {
  const TinyJob job;
  Request request = WithCheckpoints(job.Sft());
  Training(request).set_precision(liger::v1::PRECISION_BF16_MIXED);
  Training(request).set_compute_dtype(liger::v1::DTYPE_BF16);
  ExpectResumesExactly(request, job, 3);
}

TEST(ResumeTest, EveryOptimizerGoesOnBitForBit) {
  for (const char* optim : {"adamw_8bit", "adafactor", "lion", "sgd"}) {
    SCOPED_TRACE(optim);
    const TinyJob job;
    Request request = WithCheckpoints(job.Sft());
    Training(request).set_optim(optim);
    Training(request).set_sgd_momentum(0.9);
    ExpectResumesExactly(request, job, 3);
  }
}

// Against the reference that it began with, not the model of the checkpoint.
TEST(ResumeTest, DpoKeepsItsReference) {
  const TinyJob job;
  ExpectResumesExactly(WithCheckpoints(job.Dpo()), job, 3);
}

// In the middle of the second epoch, whose mismatched answers are others than the first one's.
TEST(ResumeTest, APrecomputedReferenceGoesOnBitForBit) {
  for (const bool kto : {false, true}) {
    SCOPED_TRACE(kto);
    const TinyJob job;
    Request request = WithCheckpoints(kto ? job.Kto() : job.Dpo());
    auto* spec = request.launch.mutable_resolved_spec();
    if (kto) {
      spec->mutable_kto()->set_precompute_ref_log_probs(true);
    } else {
      spec->mutable_dpo()->set_precompute_ref_log_probs(true);
      Training(request).set_per_device_train_batch_size(6);
    }
    ExpectResumesExactly(request, job, 3);
  }
}

// It moved in the middle of the window before the checkpoint, and again after it.
TEST(ResumeTest, AMovingReferenceGoesOnBitForBit) {
  const TinyJob job;
  Request request = WithCheckpoints(job.Dpo());
  auto* dpo = request.launch.mutable_resolved_spec()->mutable_dpo();
  dpo->set_sync_ref_model(true);
  dpo->set_ref_model_sync_steps(2);
  dpo->set_ref_model_mixup_alpha(0.5);
  ExpectResumesExactly(request, job, 3);
  ExpectSameTensors(Checkpoint(job.Path("rest"), 6) + "/reference.safetensors",
                    Checkpoint(job.Path("whole"), 6) + "/reference.safetensors");
  const auto at = [&](int64_t step) {
    return SafetensorsFile::Open(Checkpoint(job.Path("whole"), step) + "/reference.safetensors");
  };
  const auto early = at(3), late = at(6);
  bool moved = false;
  for (const auto& [name, info] : early->tensors()) {
    moved = moved || !at::equal(early->View(name), late->View(name));
  }
  EXPECT_TRUE(moved);
}

TEST(ResumeTest, ACheckpointOnCommand) {
  const TinyJob job;
  RecordingSink sink;
  Reporter reporter({&sink});
  StopFlag stop;
  CheckpointRequests asked;
  asked.Add("c1");
  asked.Add("c2");
  const Request request = In(job.Sft(), job.Path("first"));
  ASSERT_EQ(RunTask(request, reporter, stop, &asked), kExitOk);
  const auto done = sink.All(Event::kCommandDone);
  ASSERT_EQ(done.size(), 2u);
  for (const Event& event : done) EXPECT_EQ(event.command_done().status(), "ok");
  const auto saved = sink.All(Event::kSaved);
  ASSERT_EQ(saved.size(), 2u) << "one checkpoint for both, and the model";
  EXPECT_EQ(saved[0].saved().kind(), "checkpoint");
  EXPECT_EQ(saved[0].saved().step(), 1);
  // It is one like the others.
  const TaskOutcome rest =
      RunRecorded(From(In(job.Sft(), job.Path("rest")), Checkpoint(job.Path("first"), 1)));
  ASSERT_EQ(rest.exit_code, kExitOk) << Failure(rest);
  EXPECT_EQ(rest.sink.All(Event::kStep).size(), 7u);
  ExpectSameTensors(job.Path("rest/model/model.safetensors"),
                    job.Path("first/model/model.safetensors"));
}

TEST(ResumeTest, ACommandThatFindsNoStepIsAnswered) {
  const TinyJob job;
  RecordingSink sink;
  Reporter reporter({&sink});
  StopFlag stop;
  CheckpointRequests asked;
  asked.Add("c1");
  Request request = job.Sft();
  request.launch.set_task_kind(liger::trainer::v1::TASK_KIND_CHECK);
  ASSERT_EQ(RunTask(request, reporter, stop, &asked), kExitOk);
  EXPECT_THAT(sink.Last(Event::kCommandDone).command_done().status(), HasSubstr("not saved"));
}

TEST(ResumeTest, ACheckpointIsAModelFolder) {
  const TinyJob job;
  const TaskOutcome outcome = RunRecorded(WithCheckpoints(job.Sft()));
  ASSERT_EQ(outcome.exit_code, kExitOk) << Failure(outcome);
  std::vector<int64_t> steps;
  for (const Event& event : outcome.sink.All(Event::kSaved)) {
    if (event.saved().kind() != "checkpoint") continue;
    steps.push_back(event.saved().step());
    EXPECT_EQ(event.saved().publication_id(), CheckpointName(event.saved().step()));
    EXPECT_EQ(VerifyManifest(event.saved().dir()), event.saved().manifest_digest());
  }
  EXPECT_THAT(steps, ElementsAre(3, 6));
  const std::string dir = Checkpoint(job.Path("attempt"), 6);
  for (const char* file : {"model.safetensors", "config.json", "tokenizer.json", "metrics.jsonl",
                           "optimizer.safetensors", "rng_state.safetensors", "trainer_state.json",
                           "resolved_spec.json"}) {
    EXPECT_TRUE(fs::exists(fs::path(dir) / file)) << file;
  }
  Request from_it = In(job.Sft(), job.Path("next"));
  from_it.launch.mutable_resolved_spec()->mutable_model()->set_name(dir);
  from_it.launch.mutable_resolved_spec()->mutable_model()->set_random_init(false);
  EXPECT_EQ(RunRecorded(from_it).exit_code, kExitOk);
}

TEST(ResumeTest, FinishedRunsGoOnForMoreSteps) {
  const TinyJob job;
  Request request = WithCheckpoints(job.Sft());
  Training(request).set_lr_scheduler_type("constant");
  Training(request).set_max_steps(6);
  ASSERT_EQ(RunRecorded(In(request, job.Path("six"))).exit_code, kExitOk);
  Training(request).set_max_steps(8);
  ASSERT_EQ(RunRecorded(In(request, job.Path("eight"))).exit_code, kExitOk);
  Training(request).set_resume_from_checkpoint(job.Path("six/checkpoints"));
  const TaskOutcome resumed = RunRecorded(In(request, job.Path("more")));
  ASSERT_EQ(resumed.exit_code, kExitOk) << Failure(resumed);
  EXPECT_EQ(resumed.sink.All(Event::kStep).size(), 1u) << "steps 7 and 8, logged once";
  for (const Event& ready : resumed.sink.All(Event::kReady)) {
    EXPECT_EQ(ready.ready().resumed().checkpoint(), job.Path("six/checkpoints/checkpoint-6"));
    EXPECT_EQ(ready.ready().resumed().step(), 6);
  }
  ExpectSameTensors(job.Path("more/model/model.safetensors"),
                    job.Path("eight/model/model.safetensors"));

  Training(request).set_max_steps(4);
  const TaskOutcome shorter = RunRecorded(In(request, job.Path("shorter")));
  EXPECT_EQ(shorter.sink.Last(Event::kFailed).failed().field(), "training.max_steps");
  const auto check = CheckJob(request, StopFlag());
  ASSERT_EQ(check.violations_size(), 1);
  EXPECT_EQ(check.violations(0).field(), "training.max_steps");

  Training(request).set_max_steps(6);
  const auto at_end = CheckJob(request, StopFlag());
  EXPECT_EQ(at_end.violations_size(), 0) << at_end.ShortDebugString();
  ASSERT_GE(at_end.warnings_size(), 1);
  EXPECT_THAT(at_end.warnings(0).message(),
              HasSubstr("checkpoint-6 is at step 6, where the job ends"));

  // So it is of a job whose epochs are counted.
  Training(request).clear_max_steps();
  Training(request).set_num_train_epochs(0.01);
  const auto epochs = CheckJob(request, StopFlag());
  ASSERT_EQ(epochs.violations_size(), 1);
  EXPECT_EQ(epochs.violations(0).field(), "training.num_train_epochs");
  EXPECT_THAT(epochs.violations(0).message(),
              HasSubstr("at step 6 already, and the job ends at 1"));
}

// What a user names must fit; the differing field is named, in the CHECK already.
TEST(ResumeTest, AnotherRunIsRefusedByName) {
  const TinyJob job;
  ASSERT_EQ(RunRecorded(In(WithCheckpoints(job.Sft()), job.Path("first"))).exit_code, kExitOk);
  const auto failure = [&](Request request) {
    Training(request).set_resume_from_checkpoint(job.Path("first/checkpoints/checkpoint-3"));
    const auto failed = RunRecorded(In(request, job.Path("second"))).sink.Last(Event::kFailed);
    EXPECT_EQ(failed.failed().class_(), liger::v1::FAILURE_CLASS_CONFIG);
    const auto check = CheckJob(request, StopFlag());
    EXPECT_GE(check.violations_size(), 1);
    return failed.failed().message();
  };
  Request dpo = job.Dpo();
  EXPECT_THAT(failure(dpo), HasSubstr("method: sft -> dpo"));
  Request optimizer = job.Sft();
  Training(optimizer).set_optim("lion");
  EXPECT_THAT(failure(optimizer), HasSubstr("training.optim: \"adamw\" -> \"lion\""));
  Request data = job.Sft();
  data.launch.mutable_resolved_spec()->mutable_dataset()->set_eval_fraction(0.5);
  EXPECT_THAT(failure(data), HasSubstr("dataset.eval_fraction: 0.25 -> 0.5"));
  Request model = job.Sft();
  fs::copy(job.Path("model"), job.Path("model2"));
  model.launch.mutable_resolved_spec()->mutable_model()->set_name(job.Path("model2"));
  EXPECT_THAT(failure(model), HasSubstr("model.name"));
}

TEST(ResumeTest, MissingAndDamagedCheckpointsAreNamed) {
  const TinyJob job;
  ASSERT_EQ(RunRecorded(In(WithCheckpoints(job.Sft()), job.Path("first"))).exit_code, kExitOk);
  const std::string newest = Checkpoint(job.Path("first"), 6);
  std::fstream(newest + "/optimizer.safetensors", std::ios::in | std::ios::out).seekp(900) << "!!";
  const auto failure = [&](const std::string& path) {
    Request request = job.Sft();
    Training(request).set_resume_from_checkpoint(path);
    return RunRecorded(In(request, job.Path("second"))).sink.Last(Event::kFailed).failed();
  };
  EXPECT_EQ(failure(newest).class_(), liger::v1::FAILURE_CLASS_STORAGE);
  EXPECT_EQ(failure(newest).file(), newest + "/optimizer.safetensors");
  EXPECT_EQ(failure(job.Path("nowhere")).field(), "training.resume_from_checkpoint");
  EXPECT_THAT(failure(job.Path("nowhere")).message(), HasSubstr("does not exist"));
  EXPECT_THAT(failure(job.Path("model")).message(), HasSubstr("holds no checkpoint"));

  // An attempt after a lost one takes the one before, and says so.
  const TaskOutcome next =
      RunRecorded(From(In(WithCheckpoints(job.Sft()), job.Path("third")), newest));
  ASSERT_EQ(next.exit_code, kExitOk) << Failure(next);
  EXPECT_EQ(next.sink.All(Event::kStep).front().step().step(), 4);
  EXPECT_THAT(next.sink.Last(Event::kWarning).warning().message(),
              testing::AllOf(HasSubstr("differs from"), HasSubstr("it is now " + newest)));
  EXPECT_FALSE(fs::exists(newest));
  EXPECT_TRUE(fs::exists(newest + ".damaged/optimizer.safetensors"));
  // One that was cut is no better.
  const std::string older = Checkpoint(job.Path("first"), 3);
  fs::resize_file(older + "/model.safetensors", 5000);
  const TaskOutcome none =
      RunRecorded(From(In(WithCheckpoints(job.Sft()), job.Path("none")), newest));
  ASSERT_EQ(none.exit_code, kExitOk) << Failure(none);
  EXPECT_EQ(none.sink.All(Event::kStep).front().step().step(), 2);
  EXPECT_TRUE(fs::exists(older + ".damaged"));
  // Or starts again where there is none.
  const TaskOutcome again = RunRecorded(
      From(In(WithCheckpoints(job.Sft()), job.Path("fourth")), job.Path("gone/checkpoint-6")));
  ASSERT_EQ(again.exit_code, kExitOk) << Failure(again);
  EXPECT_EQ(again.sink.All(Event::kStep).front().step().step(), 2);
  EXPECT_FALSE(again.sink.Last(Event::kReady).ready().has_resumed());
}

// A job may overwrite the output of an earlier one, whose checkpoints still lie there.
TEST(ResumeTest, AnotherJobsCheckpointsAreNoneOfItsOwn) {
  const TinyJob job;
  const auto of = [](const std::string& uid, Request request) {
    request.launch.mutable_ref()->set_job_uid(uid);
    return request;
  };
  ASSERT_EQ(RunRecorded(of("earlier", In(WithCheckpoints(job.Sft()), job.Path("a")))).exit_code,
            kExitOk);
  ASSERT_EQ(RunRecorded(of("later", In(WithCheckpoints(job.Sft()), job.Path("b")))).exit_code,
            kExitOk);
  // Of step 3 the earlier job's, of step 6 the later one's.
  const std::string newest = Checkpoint(job.Path("a"), 6);
  fs::remove_all(newest);
  fs::copy(Checkpoint(job.Path("b"), 6), newest);
  const auto first_step = [&](const std::string& uid) {
    const TaskOutcome next =
        RunRecorded(of(uid, From(In(WithCheckpoints(job.Sft()), job.Path("next")), newest)));
    EXPECT_EQ(next.exit_code, kExitOk) << Failure(next);
    fs::remove_all(job.Path("next"));
    return next.sink.All(Event::kStep).front().step().step();
  };
  EXPECT_EQ(first_step("later"), 8) << "of two that are logged together";
  EXPECT_EQ(first_step("earlier"), 4);
  fs::resize_file(newest + "/manifest.json", 100);
  EXPECT_EQ(first_step("later"), 2);
}

TEST(ResumeTest, AFullDiskCostsTheCheckpointAndNotTheRun) {
  const TinyJob job;
  signal(SIGXFSZ, SIG_IGN);  // so that the write fails
  FullDisk sink;
  Reporter reporter({&sink});
  StopFlag stop;
  EXPECT_EQ(RunTask(WithCheckpoints(job.Sft()), reporter, stop), kExitOk);
  FullDisk::LimitFiles(RLIM_INFINITY);
  const auto warning = sink.Last(Event::kWarning).warning();
  EXPECT_EQ(warning.code(), "CheckpointNotSaved");
  EXPECT_THAT(warning.message(), HasSubstr("no checkpoint of step 6"));
  EXPECT_THAT(warning.message(), HasSubstr("File too large"));
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(job.Path("attempt/checkpoints"))) {
    names.push_back(entry.path().filename());
  }
  EXPECT_THAT(names, ElementsAre("checkpoint-3"));
  VerifyManifest(job.Path("attempt/checkpoints/checkpoint-3"));
  EXPECT_EQ(sink.Last(Event::kSaved).saved().kind(), "model");
}

// Without an agent: beside the output, pruned to the limit, and found by the
// output's name.
TEST(ResumeTest, RunsWithoutAnAgentKeepTheirNewestCheckpoints) {
  const TinyJob job;
  Request request = In(job.Sft(), job.Path("out.attempt-1"));
  request.publish_to = job.Path("out");
  Training(request).set_save_steps(2);
  Training(request).set_save_total_limit(2);
  const TaskOutcome outcome = RunRecorded(request);
  ASSERT_EQ(outcome.exit_code, kExitOk) << Failure(outcome);
  EXPECT_TRUE(fs::exists(job.Path("out/model.safetensors")));
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(job.Path("out.checkpoints"))) {
    names.push_back(entry.path().filename());
  }
  EXPECT_THAT(names, testing::UnorderedElementsAre("checkpoint-6", "checkpoint-8"));

  request.launch.mutable_resolved_spec()->mutable_output()->set_overwrite(true);
  Training(request).set_resume_from_checkpoint(job.Path("out"));
  Training(request).set_max_steps(9);
  const TaskOutcome more = RunRecorded(request);
  ASSERT_EQ(more.exit_code, kExitOk) << Failure(more);
  EXPECT_EQ(more.sink.All(Event::kStep).size(), 1u);
}

}  // namespace
}  // namespace liger::trainer
