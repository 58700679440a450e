#include "server/store/outputs.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/checkpoints.h"
#include "server/errors/errors.h"

namespace liger::server {
namespace {

// How else the place may have been written: relative to a worker's output root,
// or with it.
std::set<std::string> Spellings(const ReadView& view, const std::string& path) {
  std::set<std::string> spellings = {path};
  for (const WorkerRow& worker : view.Workers()) {
    const std::string root = absl::StrCat(OutputPath(worker.hello.output_root()), "/");
    if (root == "/") continue;
    if (!absl::StartsWith(path, "/")) {
      spellings.insert(root + path);
    } else if (absl::StartsWith(path, root)) {
      spellings.insert(path.substr(root.size()));
    }
  }
  return spellings;
}

bool HasModel(const ReadView& view, const JobRow& job) {
  const std::vector<ArtifactRow> artifacts = view.Artifacts(job.tenant, job.uid);
  return std::any_of(artifacts.begin(), artifacts.end(), [](const ArtifactRow& artifact) {
    return artifact.kind == "model" && artifact.visible;
  });
}

std::string HeldBy(const JobRow& holder) {
  if (!IsTerminal(holder.state)) return absl::StrCat("is the output of job '", holder.name, "'");
  return absl::StrCat("holds the model of ", holder.deleted_us != 0 ? "the deleted job" : "job",
                      " '", holder.name, "'");
}

std::string CheckpointsOf(const std::string& output) {
  return absl::StrCat(output, kCheckpointsSuffix);
}

bool IsLost(const ReadView& view, const std::string& worker_id) {
  const std::optional<WorkerRow> worker = view.Worker(worker_id);
  return !worker.has_value() || worker->state == WorkerState::kLost;
}

// Whether it is there, and what lies at the place may lie below its output root.
bool MayHave(const WorkerRow& worker, const std::string& uri) {
  const std::string root = OutputPath(worker.hello.output_root());
  return worker.state != WorkerState::kLost && !root.empty() &&
         absl::StartsWith(OutputPath(uri), absl::StrCat(root, "/"));
}

// Jobs with something at a place below which, or above which, another's would lie.
struct Neighbours {
  const char* how;  // what `output` is to theirs
  std::vector<JobRow> jobs;
};

// Of the job's own places, `output` and the checkpoints beside it, those that would
// lie in another job's folders or hold them.
std::vector<Neighbours> NeighboursOf(const ReadView& view, const std::string& tenant,
                                     const std::string& output) {
  std::vector<Neighbours> all;
  const auto add = [&all](const char* how, std::vector<JobRow> jobs) {
    if (!jobs.empty()) all.push_back({how, std::move(jobs)});
  };
  const std::filesystem::path path(output);
  for (std::filesystem::path at = path; !at.empty(); at = at.parent_path()) {
    const std::string place = at.string();
    if (at != path) add("lies in", view.JobsByOutput(tenant, place));
    if (place.ends_with(kCheckpointsSuffix)) {
      const std::string owner(absl::StripSuffix(place, kCheckpointsSuffix));
      add("lies among the checkpoints of", view.JobsByOutput(tenant, owner));
    }
    if (at == at.root_path()) break;
  }
  add("would hold", view.JobsBelowOutput(tenant, output));
  const std::string checkpoints = CheckpointsOf(output);
  add("has its checkpoints in", view.JobsByOutput(tenant, checkpoints));
  add("has its checkpoints around", view.JobsBelowOutput(tenant, checkpoints));
  return all;
}

// Removing, replacing or publishing one of two folders that nest is about the other,
// too: never, also for a job that overwrites.
absl::Status CheckNothingNests(const ReadView& view, const JobRow& job,
                               const std::string& spelling) {
  for (const Neighbours& neighbours : NeighboursOf(view, job.tenant, spelling)) {
    for (const JobRow& holder : neighbours.jobs) {
      if (IsTerminal(holder.state) && view.Artifacts(holder.tenant, holder.uid).empty()) continue;
      return InvalidArgument(
          "output.uri",
          absl::StrCat("'", job.resolved_spec.output().uri(), "' ", neighbours.how, " '",
                       holder.resolved_spec.output().uri(), "', the output of ",
                       holder.deleted_us != 0 ? "the deleted job" : "job", " '", holder.name,
                       "'; outputs do not nest, choose a place beside it"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string OutputPath(const std::string& uri) {
  if (uri.empty()) return "";
  const std::string path(absl::StripPrefix(uri, "file://"));
  const std::string normal = std::filesystem::path(path).lexically_normal().string();
  return normal == "/" ? normal : std::string(absl::StripSuffix(normal, "/"));
}

absl::Status CheckOutputIsFree(const ReadView& view, const JobRow& job) {
  if (job.output.empty()) return absl::OkStatus();
  for (const std::string& path : Spellings(view, job.output)) {
    if (absl::Status s = CheckNothingNests(view, job, path); !s.ok()) return s;
    if (job.resolved_spec.output().overwrite()) continue;
    for (const JobRow& holder : view.JobsByOutput(job.tenant, path)) {
      if (IsTerminal(holder.state) && !HasModel(view, holder)) continue;
      return InvalidArgument(
          "output.uri", absl::StrCat("'", job.resolved_spec.output().uri(), "' ", HeldBy(holder),
                                     "; choose another name or output.uri, or set "
                                     "output.overwrite"));
    }
  }
  return absl::OkStatus();
}

std::string WhyNameIsTaken(const ReadView& view, const std::string& tenant,
                           const std::string& name) {
  if (!view.JobByName(tenant, name).has_value()) return "";
  return absl::StrCat("a job named '", name, "' exists; choose another name (--name, or `name` in ",
                      "the job file), or delete it (liger-cli delete ", name, ")");
}

absl::Status CheckNewJob(const ReadView& view, const JobRow& job) {
  if (std::string taken = WhyNameIsTaken(view, job.tenant, job.name); !taken.empty()) {
    return ErrorWithReason(absl::StatusCode::kAlreadyExists, "NAME_TAKEN", std::move(taken),
                           {{"name", job.name}});
  }
  if (view.Job(job.name).has_value()) {
    return InvalidArgument("name", absl::StrCat("'", job.name,
                                                "' is the uid of a job; choose another"));
  }
  return CheckOutputIsFree(view, job);
}

void PrepareOutput(Tables& tables, const ArtifactRow& artifact) {
  // One of another digest finds nothing of its own there afterwards.
  for (const WorkerRow& worker : tables.Workers()) {
    tables.DropReclaim({worker.worker_id, artifact.uri, artifact.digest});
  }
}

void ReclaimArtifact(Tables& tables, const ArtifactRow& artifact,
                     std::vector<ReclaimRow>* reclaims) {
  const auto put = [&](const std::string& worker_id) {
    reclaims->push_back({worker_id, artifact.uri, artifact.digest});
    tables.PutReclaim(reclaims->back());
  };
  put(artifact.worker_id);
  if (!IsLost(tables, artifact.worker_id)) return;
  for (const WorkerRow& worker : tables.Workers()) {
    if (worker.worker_id != artifact.worker_id && MayHave(worker, artifact.uri)) {
      put(worker.worker_id);
    }
  }
}

void PassOnReclaims(Tables& tables, const std::string& worker_id,
                    std::vector<ReclaimRow>* reclaims) {
  for (const ReclaimRow& row : tables.Reclaims(worker_id)) {
    ReclaimArtifact(tables,
                    {.uri = row.uri, .digest = row.digest, .worker_id = row.worker_id}, reclaims);
  }
}

std::vector<ReclaimRow> ReclaimsOf(Tables& tables, const WorkerRow& worker) {
  for (const WorkerRow& other : tables.Workers()) {
    if (other.state != WorkerState::kLost) continue;
    for (const ReclaimRow& row : tables.Reclaims(other.worker_id)) {
      if (MayHave(worker, row.uri)) tables.PutReclaim({worker.worker_id, row.uri, row.digest});
    }
  }
  return tables.Reclaims(worker.worker_id);
}

void TakeOutput(Tables& tables, const JobRow& job, const ArtifactRow& artifact) {
  for (const std::string& path : Spellings(tables, job.output)) {
    for (const JobRow& other : tables.JobsByOutput(job.tenant, path)) {
      if (other.uid == job.uid) continue;
      for (const ArtifactRow& old : tables.Artifacts(other.tenant, other.uid)) {
        const bool same_place = old.worker_id == artifact.worker_id && old.uri == artifact.uri;
        // An exit may come late, when the place was granted to the next already.
        const bool newer = old.created_us > artifact.created_us;
        if (same_place && !newer) tables.DropArtifact(old.id);
      }
    }
  }
}

void QuarantineCheckpoint(Tables& tables, const JobRow& job, int64_t epoch,
                          const liger::v1::Warning& warning) {
  const std::string now = OutputPath(warning.file());
  const std::string before(absl::StripSuffix(now, kDamagedSuffix));
  std::vector<ArtifactRow> artifacts = tables.Artifacts(job.tenant, job.uid);
  // This attempt's own of that step came after it.
  const auto lay_there = [&](const ArtifactRow& row) {
    return IsCheckpointKind(row.kind) && row.epoch < epoch && row.damage.empty() &&
           OutputPath(row.uri) == before;
  };
  // Where none is visible, it is one whose worker was lost before it could tell.
  ArtifactRow* found = nullptr;
  for (ArtifactRow& row : artifacts) {
    if (lay_there(row) && (found == nullptr || row.visible)) found = &row;
  }
  if (found == nullptr) return;
  for (const ArtifactRow& other : artifacts) {
    const bool replaced = !other.damage.empty() && OutputPath(other.uri) == now;
    const bool untold = &other != found && lay_there(other);  // nor is it there any more
    if (replaced || untold) tables.DropArtifact(other.id);
  }
  found->visible = true;
  found->damage = warning.message();
  found->uri = absl::StrCat("file://", now);
  tables.PutArtifact(*found);
}

std::string NewestCheckpoint(const ReadView& view, const JobRow& job) {
  const ArtifactRow* newest = nullptr;
  const std::vector<ArtifactRow> artifacts = view.Artifacts(job.tenant, job.uid);
  for (const ArtifactRow& artifact : artifacts) {
    if (!IsCheckpointKind(artifact.kind) || !artifact.damage.empty()) continue;
    if (!artifact.visible) continue;
    if (newest == nullptr ||
        std::tie(artifact.step, artifact.epoch) > std::tie(newest->step, newest->epoch)) {
      newest = &artifact;
    }
  }
  return newest == nullptr ? "" : OutputPath(newest->uri);
}

void RetireCheckpoints(Tables& tables, const JobRow& job, const ArtifactRow& latest, bool is_there,
                       std::vector<ReclaimRow>* reclaims) {
  std::vector<ArtifactRow> checkpoints;
  for (ArtifactRow& artifact : tables.Artifacts(job.tenant, job.uid)) {
    if (!IsCheckpointKind(artifact.kind) || !artifact.damage.empty() || !artifact.visible) continue;
    if (artifact.id == latest.id && !is_there) continue;
    checkpoints.push_back(std::move(artifact));
  }
  // What a later attempt has saved is newer, also where it began before what an earlier one had.
  std::sort(checkpoints.begin(), checkpoints.end(), [](const auto& a, const auto& b) {
    return std::tie(a.epoch, a.step) < std::tie(b.epoch, b.step);
  });
  std::vector<CheckpointMark> marks;  // by place in this order
  for (const ArtifactRow& artifact : checkpoints) {
    const auto place = static_cast<int64_t>(marks.size());
    marks.push_back({place, artifact.kind == kBestCheckpointKind});
  }
  for (const int64_t place :
       CheckpointsToRemove(std::move(marks), job.resolved_spec.training().save_total_limit())) {
    const ArtifactRow& artifact = checkpoints.at(place);
    if (artifact.id == latest.id) continue;  // of an attempt that is over
    tables.DropArtifact(artifact.id);
    ReclaimArtifact(tables, artifact, reclaims);
  }
}

}  // namespace liger::server
