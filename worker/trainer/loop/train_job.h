#ifndef LIGER_WORKER_TRAINER_LOOP_TRAIN_JOB_H_
#define LIGER_WORKER_TRAINER_LOOP_TRAIN_JOB_H_

#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "worker/trainer/data/sampler.h"
#include "worker/trainer/loop/best_model.h"
#include "worker/trainer/loop/checkpoint_requests.h"
#include "worker/trainer/loop/checkpoints.h"
#include "worker/trainer/loop/device.h"
#include "worker/trainer/loop/inputs.h"
#include "worker/trainer/loop/metrics_log.h"
#include "worker/trainer/loop/model_setup.h"
#include "worker/trainer/loop/precomputed_reference.h"
#include "worker/trainer/loop/progress.h"
#include "worker/trainer/loop/reporter.h"
#include "worker/trainer/loop/request.h"
#include "worker/trainer/loop/resume.h"
#include "worker/trainer/loop/resume_point.h"
#include "worker/trainer/loop/save_pace.h"
#include "worker/trainer/loop/save_stall.h"
#include "worker/trainer/loop/step.h"
#include "worker/trainer/loop/step_flops.h"
#include "worker/trainer/loop/stop.h"
#include "worker/trainer/models/generate.h"
#include "worker/trainer/optim/schedule.h"
#include "worker/trainer/parallel/stragglers.h"
#include "worker/trainer/parallel/strategy.h"

namespace liger::trainer {

// One TRAIN task from the first byte read to the Saved event. Use once.
class TrainJob {
 public:
  // References must outlive this.
  TrainJob(const Request& request, std::unique_ptr<Strategy> strategy, Reporter& reporter,
           const StopFlag& stop, CheckpointRequests& checkpoint_requests);

  // Throws TrainerError or StopRequested; the output folder does not exist then. Returns the
  // step after which it paused, with nothing of the result written; nullopt: it is done.
  std::optional<int64_t> Run();

 private:
  struct Asked {
    std::vector<std::string> checkpoints;  // ids of commands
    bool pause = false;
  };

  void RunOrExplain();
  void LeaveEarly(const Farewell& farewell);
  void RunToEnd();
  // Where all ranks go on, if the run does not begin.
  std::optional<ResumePoint> FindStart();
  // For the result and the checkpoints that are kept.
  void LookForRoom();
  void RequireSameRun() const;
  void RequireSameInputs() const;
  // Model and data load at the same time: one waits for memory, the other
  // computes.
  void Load();
  void PrepareTraining();
  RunState::Model Identity() const;
  // Where the objective compares with a reference.
  void SetUpReference();
  // Brings everything to where the run of the checkpoint was.
  void Resume(const ResumePoint& from);
  void RestoreBest(const ResumePoint& from);
  void WarnAboutInputs();

  // Sets paused_after_ where it ends with a pause.
  void Train();
  void TrainOneStep(int64_t step);
  // The loss of a step says nothing of the parameters that it leaves behind.
  void RequireFiniteParameters(int64_t step) const;
  void LogStep(int64_t step);
  // Into metrics.jsonl, which rank 0 writes.
  void Record(int64_t step, const std::map<std::string, double>& values);
  // By kind, of the rank that has most of it.
  std::map<std::string, int64_t> PeakMemory();
  void AddDeviceMetrics(const std::map<std::string, int64_t>& peaks,
                        std::map<std::string, double>& values);
  // Evaluates unless that step was evaluated already or there is no such set.
  void EvaluateAt(int64_t step);
  // Of a sharded model, on the host: a rank's parts are small.
  void KeepParts();
  void TakeParts();
  void KeepIfBest(int64_t step, const std::map<std::string, double>& values);
  // Does what the commands say that came during the step, on whichever rank. True: it is paused,
  // on all of them after this step.
  bool ActOnRequests(int64_t step);
  // Those of all ranks. Throws StopRequested when one was asked to stop.
  Asked TakeRequests();
  // Warns of ranks that hold up the others, from what each worked in the last step.
  void LookForStragglers(const std::vector<double>& own_seconds);
  // By a command or SIGTERM, on this rank.
  bool OwnPauseAsked() const;
  // True: a pause was asked for before the first step, on whichever rank.
  bool PausesBeforeItBegins();
  std::vector<std::string> AllCommands(const std::vector<std::string>& own);
  void AnswerPauses(const std::string& status);
  RunState State(int64_t step) const;
  // Begins to write a checkpoint (`best`: and the parameters to keep), of the present moment; one
  // at a time. A full disk costs the checkpoint and a warning, not the run.
  void SaveCheckpoint(int64_t step, bool best);
  // Collective: whether the checkpoint that training.save_steps asks for after this step is left
  // out, since the one before would hold up training for too long on some rank. Says so.
  bool LeavesOut(int64_t step);
  // Of rank 0.
  void BeginToWrite(const Checkpoints::Content& content);
  // Collective: each rank begins to write its shards. False: not all see rank 0's disk.
  bool SavesShards(const Checkpoints::Content& content);
  void WriteDraft(Checkpoints::Draft draft, int64_t step);
  struct Written {
    std::string status = "ok";  // or why there is no checkpoint
    absl::Duration took;
  };
  // A status as above.
  std::string Write(const Checkpoints::Draft& draft, int64_t step);
  // Likewise, of a part of saving it: what files and disks are to blame for costs the checkpoint
  // alone, the rest is thrown on.
  std::string StatusOf(int64_t step, const std::function<void()>& save);
  std::string NotSaved(int64_t step, const std::exception& error);  // warns of it
  // Waits for what is being written, and throws what that throws.
  void AwaitWriting();
  // Throws that if it has ended.
  void RequireWriterIsWell();
  // Waits for the checkpoint begun last; the same on all ranks: "ok", or why there is none.
  std::string FinishCheckpoint();
  // With load_best_model_at_end: the parameters of the best evaluation.
  void TakeBest();
  void SampleAt(int64_t step);
  AgreeOnToken AgreedToken();
  void ReportKernels();

  // What rank 0 writes of all ranks' parameters, which take part in it.
  void OnLeader(const std::function<void()>& write);
  void Save();
  void WriteOutput();
  std::vector<std::pair<std::string, double>> Results() const;

  const liger::v1::TrainingSpec& training() const { return request_.spec().training(); }
  StepParts parts();

  const Request& request_;
  Reporter& reporter_;
  const StopFlag& stop_;
  CheckpointRequests& checkpoint_requests_;

  std::optional<Device> device_;
  PrecisionPlan precision_;
  InputPaths paths_;
  ModelConfig config_;
  TextInputs text_;
  Dataset dataset_;
  TrainableModel trainable_;
  std::unique_ptr<Strategy> strategy_;  // after what it listens to
  std::unique_ptr<Objective> objective_;
  std::unique_ptr<Optimizer> optimizer_;

  std::unique_ptr<BatchIterator> batches_;
  std::unique_ptr<PrecomputedReference> precomputed_;  // where the job asks for it
  std::optional<StepFlops> flops_;
  std::vector<Batch> eval_batches_;
  std::optional<LrSchedule> schedule_;
  std::unique_ptr<MetricsLog> metrics_log_;  // of rank 0
  Progress progress_;
  std::unique_ptr<Checkpoints> checkpoints_;
  BestModel best_;
  // Where the parameters of the best evaluation are: a folder, or this rank's parts of them.
  std::string best_dir_;
  std::vector<at::Tensor> best_parts_;
  RunState::Model model_identity_;
  int64_t first_step_ = 1;
  int64_t max_steps_ = 0;
  // The step after which training ended, and of which the saved model is.
  int64_t last_step_ = 0, saved_step_ = 0;
  int64_t checkpointed_step_ = -1;
  std::optional<int64_t> paused_after_;
  double own_seconds_ = 0;  // in which this rank worked in the last step
  Stragglers stragglers_{Stragglers::Options{}};
  int64_t last_evaluated_step_ = -1;
  // In order of evaluation, for the model card.
  std::vector<double> eval_losses_;
  double last_loss_ = 0;
  std::set<std::string> answered_;  // commands, of a job of several ranks
  SaveStall save_stall_;
  SavePace save_pace_;
  bool told_why_not_beside_ = false, told_of_left_out_ = false;
  // What came of the last thing written (FinishCheckpoint), and of what is being written: after
  // all that it works on.
  std::string written_ = "ok";
  std::future<Written> writing_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_TRAIN_JOB_H_
