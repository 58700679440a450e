#ifndef LIGER_CLIENT_JOB_BUILDER_H_
#define LIGER_CLIENT_JOB_BUILDER_H_

#include <string>
#include <vector>

#include "google/protobuf/message.h"
#include "liger/v1/job.pb.h"
#include "liger/v1/job_spec.pb.h"

namespace liger::client {

// The flags of `submit` that shape the spec.
struct SpecFlags {
  std::string file;  // "-" reads standard input
  std::string name;
  std::string model;
  std::string trainer;
  std::string dataset;
  std::string kernels;
  std::string output;
  std::string device;
  std::vector<std::string> sets;    // training.learning_rate=1e-5
  std::vector<std::string> labels;  // team=nlp
};

// The file's spec with the flags on top. Model folders and dataset files that
// exist here become absolute paths, since the coordinator does not share this
// process's folder; `notes` says so of a plain name, which could have been the
// catalog's. Throws CliError that names the file, line and field of every
// mistake.
liger::v1::JobSpec BuildSpec(const SpecFlags& flags, std::vector<std::string>* notes);

// The part of that which is about this machine's files.
void UseLocalPaths(liger::v1::JobSpec* spec, std::vector<std::string>* notes);

// Reads the file into `message`, with its mistakes. A field of `other`, which the verb
// `verb_of_other` takes, is answered with that verb. Throws CliError.
std::vector<liger::v1::Violation> ParseFileOf(const std::string& file,
                                              google::protobuf::Message* message,
                                              const google::protobuf::Descriptor& other,
                                              const std::string& verb_of_other);

// The file's text; "-" is standard input. Throws CliError.
std::string ReadInput(const std::string& file);

// "path=value" into a field; `flag` is named in errors. Throws CliError.
void ApplySet(const std::string& assignment, const std::string& flag, const std::string& prefix,
              google::protobuf::Message* message);

}  // namespace liger::client

#endif  // LIGER_CLIENT_JOB_BUILDER_H_
