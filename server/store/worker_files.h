#ifndef LIGER_SERVER_STORE_WORKER_FILES_H_
#define LIGER_SERVER_STORE_WORKER_FILES_H_

#include <string>
#include <vector>

#include "server/store/records.h"

// Which worker has which model and dataset, by its inventory. Pure functions.
namespace liger::server {

// Whether an inventory item's URI and a spec's URI mean the same thing below
// `root`: "file://" and the root itself do not count.
bool SameUri(const std::string& a, const std::string& b, const std::string& root);

// Where a worker with this root has a spec's URI.
std::string PathBelow(const std::string& root, const std::string& uri);

// The worker's inventory lists the model (or dataset) `uri`, for jobs to use.
bool HasModel(const WorkerRow& worker, const std::string& uri);
bool HasDataset(const WorkerRow& worker, const std::string& uri);

// The digest under which it lists it; empty: it does not.
std::string ModelDigest(const WorkerRow& worker, const std::string& uri);
std::string DatasetDigest(const WorkerRow& worker, const std::string& uri);

// Random weights of a known shape: no folder is needed.
bool NeedsNoModelFolder(const liger::v1::JobSpec& spec);

// What a job runs and reads, and the digest under which the worker lists it: empty for
// what is not listed, or cannot be (an adapter, a checkpoint). The trainer's Inputs has
// the same names.
struct FileDigest {
  std::string name;  // "code", "model files", "dataset file", "dataset file 2"
  std::string digest;
};
std::vector<FileDigest> FileDigests(const WorkerRow& worker, const liger::v1::JobSpec& spec);

// That it lists it as one that jobs may not use, and why; else empty.
std::string ModelRefusal(const WorkerRow& worker, const std::string& uri);
std::string DatasetRefusal(const WorkerRow& worker, const std::string& uri);

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_WORKER_FILES_H_
