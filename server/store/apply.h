#ifndef LIGER_SERVER_STORE_APPLY_H_
#define LIGER_SERVER_STORE_APPLY_H_

#include "absl/status/statusor.h"
#include "server/store/commands.h"
#include "server/store/transition.h"

// What each command does to the rows, once for every implementation of the
// store. The functions read and write only what `txn` gives, so equal commands
// on equal rows give equal rows.
namespace liger::server {

absl::StatusOr<CommandResult> ApplyCommand(const Command& command, Transaction& txn);

// apply_jobs.cpp
absl::StatusOr<CreateJob::Result> Run(const CreateJob& command, Transaction& txn);
absl::StatusOr<CancelJob::Result> Run(const CancelJob& command, Transaction& txn);
absl::StatusOr<PauseJob::Result> Run(const PauseJob& command, Transaction& txn);
absl::StatusOr<ResumeJob::Result> Run(const ResumeJob& command, Transaction& txn);
absl::StatusOr<ForceCancel::Result> Run(const ForceCancel& command, Transaction& txn);
absl::StatusOr<FailJob::Result> Run(const FailJob& command, Transaction& txn);
absl::StatusOr<DeleteJob::Result> Run(const DeleteJob& command, Transaction& txn);
absl::StatusOr<FinishReclaims::Result> Run(const FinishReclaims& command, Transaction& txn);
absl::StatusOr<SetWaitReasons::Result> Run(const SetWaitReasons& command, Transaction& txn);

// apply_placement.cpp
absl::StatusOr<AssignCheck::Result> Run(const AssignCheck& command, Transaction& txn);
absl::StatusOr<StartAttempt::Result> Run(const StartAttempt& command, Transaction& txn);
absl::StatusOr<AbandonAttempt::Result> Run(const AbandonAttempt& command, Transaction& txn);

// apply_reports.cpp
absl::StatusOr<ReportTask::Result> Run(const ReportTask& command, Transaction& txn);

// exits.cpp
absl::StatusOr<SettleGang::Result> Run(const SettleGang& command, Transaction& txn);

// apply_workers.cpp
absl::StatusOr<ReconcileWorker::Result> Run(const ReconcileWorker& command, Transaction& txn);
absl::StatusOr<LoseWorker::Result> Run(const LoseWorker& command, Transaction& txn);
absl::StatusOr<UpdateInventory::Result> Run(const UpdateInventory& command, Transaction& txn);
absl::StatusOr<CordonDevices::Result> Run(const CordonDevices& command, Transaction& txn);

// apply_bulk.cpp
absl::StatusOr<AppendMetrics::Result> Run(const AppendMetrics& command, Transaction& txn);
absl::StatusOr<PutLogFiles::Result> Run(const PutLogFiles& command, Transaction& txn);
absl::StatusOr<ExpireRows::Result> Run(const ExpireRows& command, Transaction& txn);

// apply_experiments.cpp
absl::StatusOr<CreateExperiment::Result> Run(const CreateExperiment& command, Transaction& txn);
absl::StatusOr<SaveExperiment::Result> Run(const SaveExperiment& command, Transaction& txn);
absl::StatusOr<CancelExperiment::Result> Run(const CancelExperiment& command, Transaction& txn);
absl::StatusOr<DeleteExperiment::Result> Run(const DeleteExperiment& command, Transaction& txn);

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_APPLY_H_
