// Submitting, finding, listing, cancelling and deleting jobs.

#include <set>

#include "server/errors/errors.h"
#include "tests/unit/store/contract.h"

namespace liger::server::testing {
namespace {

class StoreJobs : public StoreContract {};
LIGER_STORE_CONTRACT(StoreJobs);

TEST_P(StoreJobs, SubmitMakesAJobInValidating) {
  CreateJob command = NewJob("u1", "first");
  (*command.job.spec.mutable_labels())["team"] = "nlp";
  const CreateJob::Result created = driver->Do(command);
  EXPECT_FALSE(created.existed);
  EXPECT_EQ(created.job.status().state(), liger::v1::JobStatus::VALIDATING);
  const liger::v1::Job job = driver->Job("u1");
  EXPECT_EQ(job.SerializeAsString(), created.job.SerializeAsString());
  EXPECT_EQ(job.create_time().seconds(), driver->now_us / 1000000);
  EXPECT_EQ(job.spec().labels().at("team"), "nlp");
  EXPECT_EQ(job.resolved_spec().model().uri(), "tiny");
}

TEST_P(StoreJobs, OneJobForOneRequestId) {  // I2
  CreateJob command = NewJob("u1", "first");
  command.request_id = "r";
  command.body_hash = "h1";
  command.request_expires_us = driver->now_us + 7 * 24 * 3600 * 1'000'000ll;
  driver->Do(command);

  CreateJob again = command;
  again.job = NewJob("u2", "first").job;  // the server would have made another uid
  const CreateJob::Result repeated = driver->Do(again);
  EXPECT_TRUE(repeated.existed);
  EXPECT_EQ(repeated.job.uid(), "u1");

  CreateJob other_body = NewJob("u3", "third");
  other_body.request_id = "r";
  other_body.body_hash = "h2";
  const auto refused = driver->Try(other_body);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(ReasonOf(refused.status()), "REQUEST_ID_REUSED");

  CreateJob other_tenant = other_body;
  other_tenant.job.tenant = "elsewhere";
  EXPECT_FALSE(driver->Do(other_tenant).existed);

  driver->Do(CancelJob{"default", "u1"});
  driver->Do(DeleteJob{"default", "u1"});
  const auto deleted = driver->Try(again);
  EXPECT_EQ(ReasonOf(deleted.status()), "REQUEST_ID_REUSED");
  EXPECT_THAT(std::string(deleted.status().message()),
              ::testing::HasSubstr("'first', which was deleted"));
}

TEST_P(StoreJobs, RequestIdsExpire) {
  CreateJob command = NewJob("u1", "first");
  command.request_id = "r";
  command.body_hash = "h1";
  command.request_expires_us = driver->now_us + 5'000;
  driver->Do(command);
  driver->now_us += 10'000;
  CreateJob later = NewJob("u2", "second");
  later.request_id = "r";
  later.body_hash = "h2";
  EXPECT_EQ(driver->Do(later).job.uid(), "u2");
}

TEST_P(StoreJobs, NamesAreUniqueInATenantUntilDeleted) {
  driver->Do(NewJob("u1", "same"));
  const auto taken = driver->Try(NewJob("u2", "same"));
  EXPECT_EQ(ReasonOf(taken.status()), "NAME_TAKEN");
  CreateJob elsewhere = NewJob("u3", "same");
  elsewhere.job.tenant = "elsewhere";
  driver->Do(elsewhere);

  EXPECT_EQ(ReasonOf(driver->Try(DeleteJob{"default", "same"}).status()), "JOB_NOT_TERMINAL");
  driver->Do(CancelJob{"default", "same"});
  driver->Do(DeleteJob{"default", "same"});
  EXPECT_EQ(ReasonOf(driver->Try(DeleteJob{"default", "same"}).status()), "JOB_NOT_FOUND");
  EXPECT_FALSE(driver->Do(NewJob("u4", "same")).existed);
  // The deleted job keeps its row, and does not take the name back.
  EXPECT_EQ(driver->Job("u1").name(), "same");
  EXPECT_EQ(driver->Do(CancelJob{"default", "same"}).job.uid(), "u4");
}

TEST_P(StoreJobs, AUidMeansItsJobWhateverOthersAreNamed) {
  CreateJob named = NewJob("u1", "u2");
  driver->Do(named);
  driver->Do(NewJob("u2", "second"));
  EXPECT_EQ(driver->Do(CancelJob{"default", "u2"}).job.uid(), "u2");
  EXPECT_EQ(Refusal(driver->Try(NewJob("u3", "u1"))),
            "name: 'u1' is the uid of a job; choose another");
  // A deleted job is in nobody's way.
  driver->Do(DeleteJob{"default", "u2"});
  EXPECT_EQ(driver->Do(CancelJob{"default", "u2"}).job.uid(), "u1");
}

TEST_P(StoreJobs, AFailedCommandChangesNothing) {
  driver->Do(NewJob("u1", "same"));
  const int64_t revision = driver->Read<int64_t>([](const ReadView& v) { return v.Revision(); });
  CreateJob taken = NewJob("u2", "same");
  taken.request_id = "r";
  EXPECT_FALSE(driver->Try(taken).ok());
  driver->Read<int>([&](const ReadView& view) {
    EXPECT_EQ(view.Revision(), revision);
    EXPECT_FALSE(view.Job("u2").has_value());
    EXPECT_FALSE(view.Request("default", "CreateJob", "r").has_value());
    return 0;
  });
}

TEST_P(StoreJobs, CancelIsIdempotentAndTerminal) {  // I4
  driver->Submit("u1");
  const CancelJob::Result first = driver->Do(CancelJob{"default", "job-u1", "changed my mind"});
  EXPECT_EQ(first.job.status().state(), liger::v1::JobStatus::CANCELLED);
  EXPECT_EQ(first.job.status().message(), "cancelled on request: changed my mind");
  const CancelJob::Result second = driver->Do(CancelJob{"default", "u1", "again"});
  EXPECT_EQ(second.job.SerializeAsString(), first.job.SerializeAsString());
  AddWorker("w1", 1);
  EXPECT_FALSE(driver->Try(AssignCheck{"u1", "t1", "w1"}).ok());
  EXPECT_FALSE(driver->Try(StartAttempt{"u1", {{"w1", {0}, {"w1-cpu-0"}}}}).ok());
  FailJob fail{.job_uid = "u1", .reason = "Never"};
  driver->Do(fail);
  EXPECT_EQ(driver->State("u1"), liger::v1::JobStatus::CANCELLED);
}

TEST_P(StoreJobs, CancelOfAnUnknownJobIsNotFound) {
  const auto missing = driver->Try(CancelJob{"default", "nothing"});
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  driver->Submit("u1");
  EXPECT_FALSE(driver->Try(CancelJob{"elsewhere", "u1"}).ok()) << "another tenant's job";
}

TEST_P(StoreJobs, ListsNewestFirstInPages) {
  for (int i = 0; i < 7; ++i) driver->Submit("u" + std::to_string(i));
  std::vector<std::string> seen;
  JobQuery query{.tenant = "default", .page_size = 3};
  int pages = 0;
  do {
    const JobPage page =
        driver->Read<JobPage>([&](const ReadView& v) { return *v.ListJobs(query); });
    for (const JobRow& job : page.jobs) seen.push_back(job.uid);
    query.page_token = page.next_page_token;
    if (++pages == 1) driver->Submit("late");  // newer than the page: must not appear or shift
  } while (!query.page_token.empty());
  EXPECT_EQ(pages, 3);
  EXPECT_EQ(seen, (std::vector<std::string>{"u6", "u5", "u4", "u3", "u2", "u1", "u0"}));
}

TEST_P(StoreJobs, ListFilters) {
  CreateJob orpo = NewJob("u1", "nlp-a");
  orpo.job.method = "orpo";
  (*orpo.job.spec.mutable_labels())["team"] = "nlp";
  (*orpo.job.spec.mutable_labels())["stage"] = "dev";
  driver->Do(orpo);
  CreateJob sft = NewJob("u2", "nlp-b");
  sft.job.model = "other";
  (*sft.job.spec.mutable_labels())["team"] = "nlp";
  driver->Do(sft);
  driver->Do(NewJob("u3", "speech"));
  driver->Do(CancelJob{"default", "u3"});

  const auto list = [&](const std::string& filter) {
    std::set<std::string> uids;
    const absl::StatusOr<JobFilter> parsed = ParseJobFilter(filter);
    EXPECT_TRUE(parsed.ok()) << parsed.status();
    const JobQuery query{.tenant = "default", .filter = *parsed};
    const JobPage page =
        driver->Read<JobPage>([&](const ReadView& v) { return *v.ListJobs(query); });
    for (const JobRow& job : page.jobs) uids.insert(job.uid);
    return uids;
  };
  using Uids = std::set<std::string>;
  EXPECT_EQ(list(""), (Uids{"u1", "u2", "u3"}));
  EXPECT_EQ(list("state=cancelled"), Uids{"u3"});
  EXPECT_EQ(list("state=VALIDATING AND trainer=orpo"), Uids{"u1"});
  EXPECT_EQ(list("model=other"), Uids{"u2"});
  EXPECT_EQ(list("label.team=nlp"), (Uids{"u1", "u2"}));
  EXPECT_EQ(list("label.team=nlp, label.stage=dev"), Uids{"u1"});
  EXPECT_EQ(list("label.team=vision"), Uids{});
  EXPECT_EQ(list("name=nlp-*"), (Uids{"u1", "u2"}));
  EXPECT_EQ(list("name=nlp-a"), Uids{"u1"});
  EXPECT_EQ(list("name=nlp"), Uids{});
}

TEST_P(StoreJobs, APageOfLargeJobsEndsEarly) {
  for (int i = 0; i < 5; ++i) {
    CreateJob command = NewJob("u" + std::to_string(i), "job-" + std::to_string(i));
    command.job.resolved_spec.mutable_training()->add_sample_prompts(std::string(900'000, 'x'));
    driver->Do(command);
  }
  JobQuery query{.tenant = "default", .page_size = 500};
  std::vector<size_t> sizes;
  std::set<std::string> uids;
  do {
    const JobPage page =
        driver->Read<JobPage>([&](const ReadView& v) { return *v.ListJobs(query); });
    sizes.push_back(page.jobs.size());
    for (const JobRow& job : page.jobs) uids.insert(job.uid);
    query.page_token = page.next_page_token;
  } while (!query.page_token.empty());
  EXPECT_EQ(sizes, (std::vector<size_t>{2, 2, 1}));
  EXPECT_EQ(uids.size(), 5u);
  CreateJob huge = NewJob("huge", "huge");
  huge.job.resolved_spec.mutable_training()->add_sample_prompts(std::string(3'000'000, 'x'));
  driver->Do(huge);
  query.page_token.clear();
  const JobPage page = driver->Read<JobPage>([&](const ReadView& v) { return *v.ListJobs(query); });
  EXPECT_EQ(page.jobs.size(), 1u) << "a page has one at least";
}

TEST_P(StoreJobs, ActiveJobsCanBeReadWithoutTheirSpecs) {
  AddWorker("w1", 2);
  driver->Submit("u1");
  const int64_t epoch = driver->RunJob("u2", "w1");
  driver->Submit("u3");
  driver->Do(CancelJob{"default", "u3"});
  const auto jobs = driver->Read<std::vector<JobRow>>(
      [](const ReadView& view) { return view.ActiveJobsWithoutSpecs(); });
  ASSERT_EQ(jobs.size(), 2u);
  EXPECT_EQ(jobs[0].uid, "u1");
  EXPECT_EQ(jobs[0].status.message(), "waits for a worker to check it");
  EXPECT_FALSE(jobs[0].spec.has_model() || jobs[0].resolved_spec.has_model());
  EXPECT_EQ(jobs[1].epoch, epoch);
  using Running = std::vector<std::pair<std::string, int64_t>>;
  EXPECT_EQ(driver->Read<Running>([](const ReadView& view) { return view.RunningJobs(); }),
            (Running{{"u2", epoch}}));
}

TEST_P(StoreJobs, BadListRequestsNameTheField) {
  for (const std::string filter : {"state=FLYING", "colour=red", "trainer", "name="}) {
    const auto parsed = ParseJobFilter(filter);
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << filter;
  }
  driver->Read<int>([](const ReadView& view) {
    EXPECT_FALSE(view.ListJobs({.tenant = "default", .page_token = "nonsense"}).ok());
    EXPECT_FALSE(view.ListJobs({.tenant = "default", .page_size = -1}).ok());
    return 0;
  });
}

TEST_P(StoreJobs, WaitReasonsMakeARevisionAndNoEvent) {
  driver->Submit("u1");
  const int64_t before = driver->Job("u1").revision();
  driver->Do(SetWaitReasons{{{"u1", "NoWorker", "no worker is connected", "start one"}}});
  const liger::v1::Job job = driver->Job("u1");
  EXPECT_GT(job.revision(), before);
  EXPECT_EQ(job.status().reason(), "NoWorker");
  EXPECT_EQ(job.status().action(), "start one");
  driver->Do(SetWaitReasons{{{"u1", "NoWorker", "no worker is connected", "start one"}}});
  EXPECT_EQ(driver->Job("u1").revision(), job.revision()) << "nothing new to say";
  EXPECT_EQ(driver->Read<size_t>([](const ReadView& v) { return v.Events("u1", 0, 0).size(); }),
            1u);
}

TEST_P(StoreJobs, EventsPageBySeqAndRevision) {
  driver->Submit("a");
  driver->Submit("b");
  driver->Do(CancelJob{"default", "a"});
  driver->Read<int>([](const ReadView& view) {
    EXPECT_EQ(view.Events("a", 0, 0).size(), 2u);
    EXPECT_EQ(view.Events("a", 1, 10).size(), 1u);
    EXPECT_EQ(view.Events("a", 0, 1).size(), 1u);
    const auto all = view.EventsSince("default", 0, 0);
    EXPECT_EQ(all.size(), 3u);
    for (size_t i = 1; i < all.size(); ++i) {
      EXPECT_LT(all[i - 1].revision(), all[i].revision());
    }
    EXPECT_EQ(view.EventsSince("default", all[1].revision(), 0).size(), 1u);
    EXPECT_EQ(view.EventsSince("elsewhere", 0, 0).size(), 0u);
    return 0;
  });
}

}  // namespace
}  // namespace liger::server::testing
