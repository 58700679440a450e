// The real liger-cli against a scripted coordinator: exit codes, output formats, error
// details.
#include <gmock/gmock.h>

#include "tests/unit/client/verbs_fixture.h"

namespace liger::client {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST_F(VerbsTest, SubmitSendsTheSpecAndSaysWhatWasChosen) {
  const Result result = Run("submit --model tiny --trainer orpo --set training.max_steps=3");
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.text, HasSubstr("note: using dataset pairs"));
  EXPECT_THAT(result.text, HasSubstr("warning: an answer is empty"));
  EXPECT_THAT(result.text, HasSubstr("job j1 submitted"));
  absl::MutexLock lock(&service_.mutex);
  EXPECT_TRUE(service_.created.spec().has_orpo());
  EXPECT_EQ(service_.created.spec().training().max_steps(), 3);
  EXPECT_FALSE(service_.created.request_id().empty());
}

TEST_F(VerbsTest, ViolationsArePrintedByFieldWithExitCode3) {
  google::rpc::BadRequest bad_request;
  auto* violation = bad_request.add_field_violations();
  violation->set_field("model");
  violation->set_description("no such model 'tyni'; did you mean 'tiny'?");
  google::rpc::Status details;
  details.add_details()->PackFrom(bad_request);
  {
    absl::MutexLock lock(&service_.mutex);
    service_.create_status = grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "invalid spec",
                                          details.SerializeAsString());
  }
  const Result result = Run("submit --model tyni --trainer sft");
  EXPECT_EQ(result.code, 3);
  EXPECT_EQ(result.text, "error: model: no such model 'tyni'; did you mean 'tiny'?\n");
}

TEST_F(VerbsTest, ADryRunOfATakenNameEndsAsTheSubmitWould) {
  const std::string dry_run = "submit --model tiny --trainer orpo --dry-run";
  EXPECT_EQ(Run(dry_run).code, 0);
  EXPECT_THAT(Run(dry_run).text, HasSubstr("valid, with the warnings above; nothing was created"));
  {
    absl::MutexLock lock(&service_.mutex);
    service_.name_taken = true;
  }
  const Result table = Run(dry_run);
  EXPECT_EQ(table.code, 3);
  EXPECT_THAT(table.text, HasSubstr("valid but for the name, with the warnings above;"));
  EXPECT_THAT(table.text, HasSubstr("error: submit would be refused: a job named 'j1' exists\n"));
  EXPECT_THAT(table.text, Not(HasSubstr("warning: a job named")));
  const Result document = Run(dry_run + " -o json", "", " 2>/dev/null");
  EXPECT_EQ(document.code, 3);
  EXPECT_THAT(document.text, HasSubstr("\"NameTaken\""));
}

TEST_F(VerbsTest, MetricsHaveTheEvaluations) {
  EXPECT_EQ(Run("metrics j1").text,
            "STEP  loss  eval_loss\n"
            "0           2.5\n"
            "1     3\n"
            "2     2     1.25\n"
            "3     1\n");
  EXPECT_EQ(Run("metrics j1 --names eval_loss").text,
            "STEP  eval_loss\n"
            "0     2.5\n"
            "2     1.25\n");
  EXPECT_EQ(Run("metrics j1 --names eval_loss --from-step 1 --to-step 2").text,
            "STEP  eval_loss\n"
            "2     1.25\n");
  const Result unknown = Run("metrics j1 --names eval_kl");
  EXPECT_EQ(unknown.code, 3);
  EXPECT_THAT(unknown.text, HasSubstr("these steps have no 'eval_kl'; they have eval_loss, loss"));
}

TEST_F(VerbsTest, AnEmptyNameIsRefused) {
  const Result result = Run("submit --model tiny --trainer orpo --name ''");
  EXPECT_EQ(result.code, 3);
  EXPECT_THAT(result.text, HasSubstr("--name: it is empty"));
}

TEST_F(VerbsTest, GetLeadsWithCauseAndAction) {
  EndWith(JobStatus::FAILED);
  const Result result = Run("get j1");
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.text, testing::StartsWith("j1  FAILED\n"
                                               "cause               the loss is NaN at step 3\n"
                                               "action              lower the learning rate\n"));
  EXPECT_EQ(Run("get nope").code, 3);
  EXPECT_THAT(Run("get nope").text, HasSubstr("no job 'nope'"));
}

TEST_F(VerbsTest, OutputFormatsAreForPrograms) {
  EXPECT_EQ(Run("list -o name").text, "j1\n");
  EXPECT_THAT(Run("list -o json").text, HasSubstr("\"state\": \"RUNNING\""));
  EXPECT_THAT(Run("get j1 -o yaml").text, HasSubstr("uid: \"u1\""));
  EXPECT_THAT(Run("list").text, HasSubstr("j1    RUNNING  orpo     tiny"));
  EXPECT_EQ(Run("version -o xml").code, 3);
  EXPECT_THAT(Run("list -o xml").text,
              HasSubstr("-o xml: the output of list can be table, wide, json, yaml, name"));
}

TEST_F(VerbsTest, WorkersHaveNamesForPeopleAndIdsForPrograms) {
  EXPECT_THAT(Run("list").text, HasSubstr("placed on worker node-1\n"));
  EXPECT_THAT(Run("get j1").text, HasSubstr("FAILED on node-1\n"));
  EXPECT_THAT(Run("workers").text, HasSubstr("node-1  READY"));
  {
    absl::MutexLock lock(&service_.mutex);
    service_.create_status = grpc::Status(grpc::StatusCode::FAILED_PRECONDITION,
                                          std::string("worker ") + kWorkerId + " refuses it");
  }
  EXPECT_EQ(Run("submit --model tiny --trainer sft").text, "error: worker node-1 refuses it\n");
  for (const char* verb : {"list", "get j1", "workers"}) {
    EXPECT_THAT(Run(verb).text, Not(HasSubstr(kWorkerId))) << verb;
    for (const char* output : {" -o json", " -o yaml", " -o wide"}) {
      EXPECT_THAT(Run(std::string(verb) + output).text, HasSubstr(kWorkerId)) << verb << output;
    }
  }
}

TEST_F(VerbsTest, EveryVerbHonoursItsOutputOrRefusesIt) {
  EXPECT_THAT(Run("version -o json").text, HasSubstr("{\"version\": \""));
  EXPECT_EQ(Run("cancel j1 -o name").text, "j1\n");
  EXPECT_THAT(Run("cancel j1 -o json").text, HasSubstr("\"state\": \"CANCELLED\""));
  EXPECT_THAT(Run("get j1 --spec -o json").text, testing::StartsWith("{\n \"model\""));
  EXPECT_THAT(Run("get j1 --spec").text, testing::StartsWith("model:"));
  for (const char* refused : {"delete j1 -o json", "events j1 -o name", "metrics j1 -o name",
                              "logs j1 -o json", "init -o yaml", "completion bash -o json"}) {
    const Result result = Run(refused);
    EXPECT_EQ(result.code, 3) << refused;
    EXPECT_THAT(result.text, HasSubstr("the output of")) << refused;
  }
}

TEST_F(VerbsTest, ThePredictedPeakStandsBesideTheMeasured) {
  EXPECT_THAT(Run("get j1").text,
              HasSubstr("25.00 GB allocated (predicted 25.28 GB with rows of max_length)\n"));
}

TEST_F(VerbsTest, AQuarantinedCheckpointIsListedWithItsReason) {
  const std::string text = Run("artifacts j1").text;
  EXPECT_THAT(text, HasSubstr("file:///out/checkpoint-20          ok\n"));
  EXPECT_THAT(text, HasSubstr("checkpoint-40.damaged  QUARANTINED: its digest differs\n"));
  EXPECT_THAT(Run("artifacts j1 -o json").text, HasSubstr("\"state\": \"QUARANTINED\""));
}

TEST_F(VerbsTest, EmptyListsAreListsForPrograms) {
  EXPECT_EQ(Run("list --filter state=FAILED -o json").text, "{\n \"jobs\": []\n}\n");
  EXPECT_EQ(Run("list --filter state=FAILED -o yaml").text, "jobs: []\n");
  EXPECT_EQ(Run("artifacts -o json").text, "{\n \"artifacts\": []\n}\n");
}

TEST_F(VerbsTest, NoServerAndBadUsageAreClear) {
  const Result result = Run("list --address 127.0.0.1:1");
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.text, HasSubstr("no coordinator answers at 127.0.0.1:1"));
  EXPECT_THAT(result.text, HasSubstr("liger-cli up"));
  const Result stopping = Run("delete j1");
  EXPECT_EQ(stopping.code, 1);
  EXPECT_EQ(stopping.text, "error: the coordinator is stopping\n");
  EXPECT_THAT(Run("submit --model tiny --timeout 3").text, HasSubstr("--wait"));
  EXPECT_EQ(Run("submit --model tiny --timeout 3").code, 3);
  EXPECT_EQ(Run("watch j1 --timeout -1").code, 3);
  EXPECT_EQ(Run("submit -f /tmp").code, 3);
  EXPECT_EQ(Run("list --address x:1 --context lab").code, 3);
  EXPECT_EQ(Run("lsit").code, 3);
  EXPECT_THAT(Run("lsit").text, HasSubstr("did you mean 'list'?"));
  EXPECT_EQ(Run("list --context lab").code, 3);
  const Result address = Run("list --address nonsense");
  EXPECT_EQ(address.code, 3);
  EXPECT_THAT(address.text, HasSubstr("address 'nonsense' is not host:port"));
  EXPECT_EQ(Run("version").code, 0);
}

TEST_F(VerbsTest, WrongCommandLinesAreErrorsWithTheNearestWord) {
  const std::pair<const char*, const char*> cases[] = {
      {"submit --modle tiny",
       "error: '--modle' is not a flag of submit; did you mean '--model'?\n"
       "see liger-cli submit --help\n"},
      {"submit", "submit needs --model and --trainer, or a job file"},
      {"submit --model llama3-8b", "submit needs --model and --trainer, or a job file"},
      {"submit --trianer=sft", "'--trianer' is not a flag of submit; did you mean '--trainer'?"},
      {"list --adress x:1", "'--adress' is not a flag of list; did you mean '--address'?"},
      {"get", "error: job is required\nsee liger-cli get --help\n"},
      {"get j1 j2", "error: 'j2' is one argument too many for get\n"},
      {"submit job.yaml", "for submit; did you mean -f job.yaml?\n"},
      {"experiment submit g.yaml", "did you mean -f g.yaml?\n"},
      {"logs j1 --tail x", "'x' is not a whole number, 0 or above"},
      {"metrics j1 --from-step x", "'x' is not a whole number, 0 or above"},
      {"submit --model", "error: --model: 1 required TEXT missing\n"},
      {"lsit", "error: 'lsit' is not a verb; did you mean 'list'?\nsee liger-cli --help\n"},
      {"", "error: name a verb: up, init, submit, get, "}};
  for (const auto& [arguments, text] : cases) {
    const Result result = Run(arguments);
    EXPECT_EQ(result.code, 3) << arguments;
    EXPECT_THAT(result.text, HasSubstr(text)) << arguments;
  }
  EXPECT_EQ(Run("--help").code, 0);
  EXPECT_EQ(Run("submit --help").code, 0);
}

TEST_F(VerbsTest, InspectSaysWhereAModelIs) {
  const std::string inspect =
      "datasets inspect rows.json --trainer sft --model-root /nowhere --output-root /no-outputs ";
  const Result known = Run(inspect + "--model tiny");
  EXPECT_EQ(known.code, 3);
  EXPECT_THAT(known.text, HasSubstr("model.name: 'tiny' is neither here nor below /nowhere or "
                                    "/no-outputs; worker node-1 has it below its own root: on that "
                                    "machine give --model-root"));
  EXPECT_THAT(Run(inspect + "--model other").text, HasSubstr("knows of no worker that has it"));
  EXPECT_THAT(Run(inspect + "--model tiny --address 127.0.0.1:1").text, HasSubstr("none answers"));
}

TEST_F(VerbsTest, CancelSaysWhatCameOfIt) {
  EXPECT_EQ(Run("cancel j1").text, "j1: CANCELLED\n");
  CancelLeaves(JobStatus::SUCCEEDED);
  EXPECT_EQ(Run("cancel j1").text, "j1 is not cancelled: it had SUCCEEDED before\n");
  EXPECT_EQ(Run("cancel j1").code, 0);
  CancelLeaves(JobStatus::RUNNING);
  EXPECT_EQ(Run("cancel j1").text, "j1 is not cancelled: its result exists already\n");
}

}  // namespace
}  // namespace liger::client
