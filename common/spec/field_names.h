#ifndef LIGER_COMMON_SPEC_FIELD_NAMES_H_
#define LIGER_COMMON_SPEC_FIELD_NAMES_H_

#include <string>
#include <vector>

#include "google/protobuf/message.h"

namespace liger {

// Names of a message's fields, in the order of their declaration.
std::vector<std::string> FieldNames(const google::protobuf::Descriptor& type);

// Of a name that `message`, at `path` of `root`, has no field of: "; did you mean 'x'?", where x is
// the path of the fields below that are called so (learning_rate: training.learning_rate; of a
// oneof's members the one that is set), else what another program's name means here (lr), else the
// fields of other sections that are called so (sft.max_length: training.max_length), else the
// nearest name of the message's own, behind `path` where the whole path is wanted; "" for none. Of
// a name for a job's choice of a method (trainer, method): how that is made.
std::string MeantField(const google::protobuf::Message& root,
                       const google::protobuf::Message& message, const std::string& path,
                       const std::string& name, bool whole_path = false);

}  // namespace liger

#endif  // LIGER_COMMON_SPEC_FIELD_NAMES_H_
