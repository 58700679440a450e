#ifndef LIGER_WORKER_TRAINER_LOOP_RESUME_POINT_H_
#define LIGER_WORKER_TRAINER_LOOP_RESUME_POINT_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "liger/v1/job.pb.h"
#include "worker/trainer/loop/request.h"
#include "worker/trainer/loop/run_state.h"
#include "worker/trainer/parallel/strategy.h"

namespace liger::trainer {

// A checkpoint to go on from, where this rank sees it.
struct ResumePoint {
  std::string dir;
  RunState state;

  liger::v1::ResumedFrom Told() const;
};

// What the task is to go on from, the same checkpoint on all ranks; nullopt: from the beginning.
// All ranks call it. Looked up before anything is loaded: the folder agrees with its manifest,
// which the first rank of each host reads all of, and fits the job.
//
// launch.resume_from is what the coordinator knows of, as this rank's worker names it: the newest
// of it and the older ones beside it that every rank sees, with the same manifest, and that is
// whole for all; where there is none, what the job names or the beginning. Those of another job,
// whose output this one overwrites, may lie there, too: they are none of them. `warnings`
// (kNotResumedCode) says why it is not the newest one. One that is damaged where rank 0 sees it is
// set aside (kDamagedSuffix).
//
// training.resume_from_checkpoint is the user's: throws TrainerError on all ranks, naming rank and
// host where another rank than 0 is the first that fails: CONFIG naming the field when nothing is
// there, when it is of another method, model, dataset, seed, optimizer or precision, or when ranks
// see different ones, and STORAGE naming the file that is damaged.
std::optional<ResumePoint> FindResumePoint(const Request& request, Strategy& strategy,
                                           std::vector<liger::v1::Warning>* warnings);

// Whether the best model's checkpoint, beside the one that the run goes on from and of the same job
// `job_uid` (RunState), is whole for all ranks that will read it: all of them where they share the model, else rank 0. All ranks call it.
// What it lacks is added to `warnings`, and a damaged one set aside, as above.
bool IsBestModelWhole(const std::string& dir, const std::string& job_uid, Strategy& strategy,
                      std::vector<liger::v1::Warning>* warnings);

// What is warned of where a file of the tokenizer in `model_dir` (TextFilesOf) is not as it was
// when the run began, whose rows are the same all the same. nullopt: all are.
std::optional<liger::v1::Warning> ChangedTokenizer(
    const ResumePoint& run, const std::map<std::string, std::string>& text_files,
    const std::string& model_dir);

// What is warned of where the run's best evaluation says nothing beside those of `best`, a job's:
// of another metric or of other rows. nullopt: it can be compared.
std::optional<liger::v1::Warning> IncomparableBest(const BestModel& best, const ResumePoint& run);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_RESUME_POINT_H_
