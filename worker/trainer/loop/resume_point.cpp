#include "worker/trainer/loop/resume_point.h"

#include <algorithm>
#include <exception>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/checkpoints.h"
#include "common/file.h"
#include "common/host_resources.h"
#include "worker/trainer/checkpoint/output_folder.h"
#include "worker/trainer/error.h"
#include "worker/trainer/loop/checkpoint_files.h"
#include "worker/trainer/loop/failure.h"
#include "worker/trainer/loop/paths.h"
#include "worker/trainer/loop/resume_spec.h"
#include "worker/trainer/parallel/gang.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;
using liger::v1::JobSpec;

constexpr char kField[] = "training.resume_from_checkpoint";

// A checkpoint, or the newest one of a folder of them or of a job's output folder.
std::string ResolveCheckpoint(const std::string& uri) {
  const fs::path path = fs::absolute(PathOfUri(uri, kField)).lexically_normal();
  const fs::path whole = path.has_filename() ? path : path.parent_path();  // "checkpoint-4/"
  if (fs::exists(whole / kRunStateFile)) return whole.string();
  for (const fs::path& folder : {whole, fs::path(whole.string() + kCheckpointsSuffix)}) {
    const std::vector<std::string> checkpoints = CheckpointsIn(folder.string());
    if (!checkpoints.empty()) return checkpoints.front();
  }
  throw ConfigError(std::string(kField) + ": '" + uri + "' " +
                        (fs::exists(whole) ? "holds no checkpoint" : "does not exist"),
                    "name a checkpoint-<step> folder, or the output folder of a job that was "
                    "run with training.save_steps")
      .Field(kField)
      .File(uri);
}

ResumePoint OpenCheckpoint(const std::string& dir, const JobSpec& spec, const RankInfo& rank) {
  if (rank.local_rank == 0) {  // the others of the host see the same files
    RequireOfThisRun(dir, spec);
    VerifyManifest(dir);
  }
  return {dir, RunState::FromFile((fs::path(dir) / kRunStateFile).string())};
}

// Whether it was changed or cut after it was written; reading all of it tells.
bool IsDamaged(const std::string& dir) {
  try {
    VerifyManifest(dir);
  } catch (const DamagedFolder&) {
    return true;
  } catch (const std::exception&) {  // it cannot be read just now
  }
  return false;
}

// Puts a damaged checkpoint of this job where nothing takes it for one, and says where that is.
void SetAside(const std::string& dir, liger::v1::Warning* warning) {
  const std::string aside = dir + kDamagedSuffix;
  std::error_code error;
  fs::remove_all(aside, error);
  fs::rename(dir, aside, error);
  warning->set_file(error ? dir : aside);
  warning->mutable_message()->append(error ? "; it cannot be set aside: " + error.message()
                                           : "; it is now " + aside);
}

liger::v1::Warning NotResumed(const std::string& message) {
  liger::v1::Warning warning;
  warning.set_code(kNotResumedCode);
  warning.set_message(message);
  return warning;
}

// Whether the checkpoint says that it is of another job. What cannot be read is not known to be.
bool IsOfAnotherJob(const std::string& dir, const std::string& job_uid) {
  if (job_uid.empty()) return false;
  try {
    const std::string owner = RunState::FromFile((fs::path(dir) / kRunStateFile).string()).job_uid;
    return !owner.empty() && owner != job_uid;
  } catch (const std::exception&) {
    return false;
  }
}

// What a rank sees of the checkpoints that may be gone on from.
struct RankView {
  std::string host;
  std::string folder;  // in which they lie; "": it knows of none
  std::string newest;  // the name of the one that the coordinator knows of, or the job names
  std::map<std::string, std::string> digests;  // of manifests, by name

  std::string Where(const std::string& name) const { return (fs::path(folder) / name).string(); }
  std::string DigestOf(const std::string& name) const {
    const auto it = digests.find(name);
    return it == digests.end() ? "" : it->second;
  }
  // Where it is a checkpoint of that job; "": of any.
  void Look(const std::string& name, const std::string& job_uid) {
    std::error_code error;  // of what may not be read it is not seen
    if (!fs::exists(fs::path(folder) / name / kRunStateFile, error)) return;
    if (IsOfAnotherJob(Where(name), job_uid)) return;
    // Without a manifest it is damaged.
    digests[name] = Sha256File(Where(name) + "/" + kManifestName).value_or("none");
  }

  std::string ToText() const {
    // Paths may hold any bytes, and only messages show what is not UTF-8.
    return nlohmann::json{
        {"host", host}, {"folder", folder}, {"newest", newest}, {"digests", digests}}
        .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  static RankView FromText(const std::string& text) {
    const auto json = nlohmann::json::parse(text);
    return {json.at("host"), json.at("folder"), json.at("newest"), json.at("digests")};
  }
};
using Views = std::vector<RankView>;  // by rank

Views Gather(Strategy& strategy, const RankView& own) {
  Views views;
  for (const std::string& text : strategy.Gather(own.ToText(), "what ranks see of checkpoints")) {
    views.push_back(RankView::FromText(text));
  }
  return views;
}

// Of the one that the coordinator knows of, and those before it.
RankView ViewOf(const fs::path& known, const std::string& job_uid) {
  RankView view{.host = HostName()};
  if (known.empty()) return view;
  view.folder = known.parent_path().string();
  view.newest = known.filename().string();
  view.Look(view.newest, job_uid);
  const auto newest = CheckpointStep(view.newest);
  for (const std::string& other : CheckpointsIn(view.folder)) {
    const std::string name = fs::path(other).filename();
    if (newest && *CheckpointStep(name) < *newest) view.Look(name, job_uid);
  }
  return view;
}

// What any rank knows of, newest first.
std::vector<std::string> NamesIn(const Views& views) {
  const auto step = [](const std::string& name) {
    return CheckpointStep(name).value_or(std::numeric_limits<int64_t>::max());
  };
  std::set<std::string> names;
  for (const RankView& view : views) {
    if (!view.newest.empty()) names.insert(view.newest);
    for (const auto& [name, digest] : view.digests) names.insert(name);
  }
  std::vector<std::string> sorted(names.begin(), names.end());
  std::sort(sorted.begin(), sorted.end(), [&](const std::string& a, const std::string& b) {
    return step(a) > step(b);
  });
  return sorted;
}

std::string RankOnHost(size_t rank, const RankView& view) {
  return absl::StrCat("rank ", rank, " on host ", view.host);
}

// Why ranks do not see the same checkpoint of that name; "" where they do.
std::string WhyNotSeen(const std::string& name, const Views& views) {
  const auto sees = [&](const RankView& view) { return !view.DigestOf(name).empty(); };
  if (std::none_of(views.begin(), views.end(), sees)) {
    return absl::StrCat("checkpoint ", views[0].Where(name), " is not there");
  }
  for (size_t rank = 0; rank < views.size(); ++rank) {
    const RankView& view = views[rank];
    if (!sees(view)) {
      return absl::StrCat(RankOnHost(rank, view), " does not see ",
                          view.folder.empty() ? "the folder of " + name : view.Where(name));
    }
    if (view.DigestOf(name) != views[0].DigestOf(name)) {
      return absl::StrCat(RankOnHost(rank, view), " sees another ", name, " in ", view.folder,
                          " than rank 0 in ", views[0].folder);
    }
  }
  return "";
}

// Each rank's failure of `look`, by rank, with its host where that is not rank 0; kNone without
// one.
std::vector<Farewell> FailuresOf(Strategy& strategy, const std::function<void()>& look) {
  Farewell own;
  try {
    look();
  } catch (const std::exception&) {
    own = FarewellOf(std::current_exception());
    if (!strategy.leads()) {
      own.failure.set_message(absl::StrCat(RankOnHost(strategy.rank().rank, {.host = HostName()}),
                                           ": ", own.failure.message()));
    }
  }
  std::vector<Farewell> all;
  for (const std::string& text : strategy.Gather(own.ToText(), "the look at a checkpoint")) {
    all.push_back(Farewell::FromText(text));
  }
  return all;
}

const Farewell* FirstFailure(const std::vector<Farewell>& all) {
  const auto failed = [](const Farewell& one) { return one.kind == Farewell::Kind::kFailed; };
  const auto it = std::find_if(all.begin(), all.end(), failed);
  return it == all.end() ? nullptr : &*it;
}

// Whether `look` succeeds on all ranks; if not, why, and a damaged one is set aside where rank 0
// sees it.
bool IsGood(const std::string& dir, Strategy& strategy, const std::function<void()>& look,
            const std::string& what, std::vector<liger::v1::Warning>* warnings) {
  const std::vector<Farewell> all = FailuresOf(strategy, look);
  const Farewell* failure = FirstFailure(all);
  if (failure == nullptr) return true;
  warnings->push_back(NotResumed(absl::StrCat(what, ": ", failure->failure.message())));
  const bool own = all[0].kind == Farewell::Kind::kFailed;
  if (strategy.leads() && own && IsDamaged(dir)) SetAside(dir, &warnings->back());
  return false;
}

constexpr char kCannot[] = "cannot go on from a checkpoint";
constexpr char kSeenByAll[] =
    "all workers of a job must have one folder as their --output-root for it to go on from what it "
    "saved";

// One warning of all that were passed over since not all ranks see them.
class Unseen {
 public:
  void Add(const std::string& name, const std::string& why) {
    if (count_++ == 0) first_ = {name, why};
  }
  void Tell(const Views& views, std::vector<liger::v1::Warning>* warnings) const {
    if (count_ == 0) return;
    std::string message = absl::StrCat(kCannot, ": ", first_.second);
    if (count_ == 2) absl::StrAppend(&message, "; nor from an older one");
    if (count_ > 2) absl::StrAppend(&message, "; nor from ", count_ - 1, " older ones");
    const auto sees = [this](const RankView& view) { return !view.DigestOf(first_.first).empty(); };
    if (std::any_of(views.begin(), views.end(), sees)) absl::StrAppend(&message, "; ", kSeenByAll);
    warnings->push_back(NotResumed(message));
  }

 private:
  int count_ = 0;
  std::pair<std::string, std::string> first_;
};

// Of those that the coordinator knows of.
std::optional<ResumePoint> NewestForAll(const RankView& own, const Views& views,
                                        const JobSpec& spec, Strategy& strategy,
                                        std::vector<liger::v1::Warning>* warnings) {
  Unseen unseen;
  for (const std::string& name : NamesIn(views)) {
    const std::string why = WhyNotSeen(name, views);
    if (!why.empty()) {
      unseen.Add(name, why);
      continue;
    }
    std::optional<ResumePoint> found;
    const auto open = [&] { found = OpenCheckpoint(own.Where(name), spec, strategy.rank()); };
    if (!IsGood(own.Where(name), strategy, open, kCannot, warnings)) continue;
    unseen.Tell(views, warnings);
    return found;
  }
  unseen.Tell(views, warnings);
  warnings->push_back(
      NotResumed("no checkpoint of the attempt before can be read here; it starts again"));
  return std::nullopt;
}

// What the user names.
ResumePoint OpenNamed(const std::string& named, const JobSpec& spec, Strategy& strategy) {
  std::optional<ResumePoint> found;
  const std::vector<Farewell> all = FailuresOf(strategy, [&] {
    found = OpenCheckpoint(ResolveCheckpoint(named), spec, strategy.rank());
  });
  if (const Farewell* failure = FirstFailure(all)) {
    Farewell told = *failure;
    told.failure.set_first_failed_rank(static_cast<int32_t>(failure - all.data()));
    if (failure != &all[0]) {
      told.failure.set_action("rank 0 has it: name a checkpoint in a folder that all workers see");
    }
    ThrowFarewell(told);
  }
  const fs::path dir = found->dir;
  RankView own{.host = HostName(),
               .folder = dir.parent_path().string(),
               .newest = dir.filename().string()};
  own.Look(own.newest, /*job_uid=*/"");
  const Views views = Gather(strategy, own);
  const auto where = [](const RankView& view) { return view.Where(view.newest); };
  const auto digest = [](const RankView& view) { return view.DigestOf(view.newest); };
  for (size_t rank = 1; rank < views.size(); ++rank) {
    if (digest(views[rank]) == digest(views[0])) continue;
    throw ConfigError(absl::StrCat(kField, ": ", RankOnHost(rank, views[rank]), " sees another ",
                                   "checkpoint, ", where(views[rank]), ", than rank 0, ",
                                   where(views[0])),
                      "name a checkpoint in a folder that all workers see")
        .Field(kField)
        .File(where(views[rank]));
  }
  return *std::move(found);
}

}  // namespace

liger::v1::ResumedFrom ResumePoint::Told() const {
  liger::v1::ResumedFrom told;
  told.set_checkpoint(dir);
  told.set_step(state.step);
  return told;
}

std::optional<ResumePoint> FindResumePoint(const Request& request, Strategy& strategy,
                                           std::vector<liger::v1::Warning>* warnings) {
  const RankView own = ViewOf(request.launch.resume_from(), request.launch.ref().job_uid());
  const Views views = Gather(strategy, own);
  if (!NamesIn(views).empty()) {
    auto found = NewestForAll(own, views, request.spec(), strategy, warnings);
    if (found) return found;
  }
  const std::string& named = request.spec().training().resume_from_checkpoint();
  if (named.empty()) return std::nullopt;
  return OpenNamed(named, request.spec(), strategy);
}

bool IsBestModelWhole(const std::string& dir, const std::string& job_uid, Strategy& strategy,
                      std::vector<liger::v1::Warning>* warnings) {
  const fs::path path = dir;
  const std::string name = path.filename();
  RankView own{.host = HostName(), .folder = path.parent_path().string()};
  own.Look(name, job_uid);
  Views readers = Gather(strategy, own);
  if (!strategy.sharded()) readers.resize(1);
  const std::string why = WhyNotSeen(name, readers);
  if (!why.empty()) {
    warnings->push_back(NotResumed(why));
    return false;
  }
  const bool reads = strategy.leads() || (strategy.sharded() && strategy.rank().local_rank == 0);
  const auto look = [&] {
    if (reads) VerifyManifest(dir);
  };
  return IsGood(dir, strategy, look, "the best model's checkpoint", warnings);
}

std::optional<liger::v1::Warning> ChangedTokenizer(
    const ResumePoint& run, const std::map<std::string, std::string>& text_files,
    const std::string& model_dir) {
  const std::string file = run.state.ChangedTextFile(text_files, model_dir);
  if (file.empty()) return std::nullopt;
  liger::v1::Warning warning;
  warning.set_code("TokenizerChanged");
  warning.set_field("model");
  warning.set_file(file);
  warning.set_message(absl::StrCat(
      file, " has changed since the run of ", run.dir,
      " began: the job goes on only if its rows have the same tokens as then, and saves the "
      "changed file with its model; put the file back unless that is meant"));
  return warning;
}

std::optional<liger::v1::Warning> IncomparableBest(const BestModel& best, const ResumePoint& run) {
  const std::string field = best.IncomparableFor(run.state.best);
  if (field.empty()) return std::nullopt;
  const bool other_metric = run.state.best.of != best.state().of;
  liger::v1::Warning warning;
  warning.set_code("BestModelForgotten");
  warning.set_field(field);
  warning.set_message(absl::StrCat(
      "the best evaluation of the run of ", run.dir, " (step ", run.state.best.step, ") is of ",
      other_metric ? absl::StrCat(run.state.best.of, ", and the job's metric is ", best.state().of)
                   : "other evaluation rows than the job's",
      ": the best model is looked for anew"));
  return warning;
}

}  // namespace liger::trainer
