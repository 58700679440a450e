#ifndef LIGER_WORKER_AGENT_INVENTORY_H_
#define LIGER_WORKER_AGENT_INVENTORY_H_

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "liger/worker/v1/worker.pb.h"
#include "worker/agent/roots.h"

namespace liger::agent {

// The models (folders with a config.json) and data sets (.json and .jsonl
// files) below the worker's roots. A link that leads out of its root is listed as
// refused and not followed: jobs may not use what lies behind it. Not thread-safe.
class Inventory {
 public:
  Inventory(const Root* models, const Root* datasets) : models_(models), datasets_(datasets) {}

  // Walks the roots, reading only names, sizes and times; the content of a
  // model's headers is read once per digest. Items are named by file:// URI,
  // and once more by each of `catalog_uris` that is present. What does not fit
  // into a message is dropped with a warning.
  std::vector<worker::v1::InventoryItem> Scan(const std::vector<std::string>& catalog_uris);

  // Something has appeared in or gone from a folder since the last Scan. Cheap:
  // looks at the folders alone.
  bool FoldersChanged() const;

 private:
  struct ModelFacts {
    std::string architecture;
    int64_t parameters = 0;
  };
  using Items = std::vector<worker::v1::InventoryItem>;

  void ScanModels(const std::string& dir, int depth, Items& items);
  void ScanDatasets(const std::string& dir, int depth, Items& items);
  std::vector<std::filesystem::directory_entry> Children(const std::string& dir);
  worker::v1::InventoryItem Model(const std::string& dir);
  ModelFacts Facts(const std::string& dir, const std::string& digest);

  const Root* models_;
  const Root* datasets_;
  std::map<std::string, ModelFacts> facts_;  // by folder and digest
  // When they last changed, as the last Scan saw it.
  std::map<std::string, std::filesystem::file_time_type> folders_;
  size_t dropped_ = 0;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_INVENTORY_H_
