#ifndef LIGER_CLIENT_WORKER_NAMES_H_
#define LIGER_CLIENT_WORKER_NAMES_H_

#include <string>
#include <utility>
#include <vector>

#include "client/connection.h"
#include "google/protobuf/message.h"
#include "liger/v1/fine_tuning.pb.h"

namespace liger::client {

// The names of workers in place of their ids, in what people read. Messages
// that the coordinator keeps say the id, since a name may change.
class WorkerNames {
 public:
  WorkerNames() = default;
  explicit WorkerNames(const liger::v1::ListWorkersResponse& workers);
  // Asks the coordinator; without an answer the ids stay.
  static WorkerNames Of(Connection& connection);

  // In the fields that hold ids, and in sentences that say "worker <id>". What
  // people named (jobs, labels, paths) stays, whatever it looks like.
  void PutInto(google::protobuf::Message* message) const;
  // A sentence.
  std::string PutInto(const std::string& text) const;

 private:
  enum class Holds { kNeither, kId, kSentence };
  static Holds What(const google::protobuf::FieldDescriptor& field);
  std::string Renamed(Holds what, const std::string& text) const;

  std::vector<std::pair<std::string, std::string>> names_;  // by id
};

}  // namespace liger::client

#endif  // LIGER_CLIENT_WORKER_NAMES_H_
