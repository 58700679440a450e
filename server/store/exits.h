#ifndef LIGER_SERVER_STORE_EXITS_H_
#define LIGER_SERVER_STORE_EXITS_H_

#include <vector>

#include "server/store/commands.h"
#include "server/store/transition.h"

// What follows from the ends that an attempt's members tell.
namespace liger::server {

// The exit of a member of a current attempt; its row has it already. A gang that ends
// well, or pauses, ends with its last member. One that fails has its other members
// stopped first, and ends with what failed by itself, not with what that led to. One
// whose model is on its way (AwaitsModel) waits for that.
absl::Status ApplyExit(const ReportTask& report, JobRow* job, AttemptRow* attempt,
                       ReportTask::Result* result, Transaction& txn);

// A member has failed, and others have not told their end.
bool IsBroken(const std::vector<MemberRow>& members);

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_EXITS_H_
