#include "tests/e2e/cluster.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "common/file.h"
#include "common/ids.h"
#include "tests/devices.h"
#include "tests/e2e/tiny_model.h"
#include "tests/paths.h"

namespace liger::e2e {

namespace fs = std::filesystem;

namespace {

constexpr char kMark[] = "LIGER_E2E_CLUSTER";

std::string Program(const std::string& name) { return absl::StrCat(BinDir(), "/", name); }

std::vector<std::string> Entries(const std::string& dir) {
  std::vector<std::string> entries;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    entries.push_back(it->path().string());
  }
  return entries;
}

// What tests and jobs leave on purpose; relative to the cluster's folder.
bool MayAppear(const std::string& file) {
  const std::string top = file.substr(0, file.find('/'));
  if (absl::StartsWith(top, "models") || absl::StartsWith(top, "outputs")) return true;
  if (top == "datasets") return true;
  if (absl::StartsWith(file, "coordinator/logs")) return true;
  // Tokenised rows are kept for other jobs.
  if (absl::EndsWith(file, "/cache") || absl::EndsWith(file, "/cache/tokenized")) return true;
  if (absl::StrContains(file, "/cache/tokenized/") && absl::EndsWith(file, ".tokens")) return true;
  // Attempts that failed are kept for a while; others leave their empty parent.
  return absl::StrContains(file, "/failed") || absl::EndsWith(file, "/attempts");
}

}  // namespace

Cluster::Cluster(const ClusterOptions& options) : options_(options), mark_(NewUuid()) {
  std::string pattern = (fs::temp_directory_path() / "liger-e2e-XXXXXX").string();
  dir_ = mkdtemp(pattern.data());
  WriteTinyModel(models() + "/tiny");
  EXPECT_TRUE(MakeFolders(datasets()).ok());
  EXPECT_TRUE(MakeFolders(temporary()).ok());
  WriteTinyDataset(datasets() + "/tiny.jsonl", 64);
  api_address_ = worker_address_ = metrics_address_ = "127.0.0.1:0";
  StartCoordinator();
  client_ = std::make_unique<ClusterClient>(api_address_);
  for (int i = 0; i < options_.workers; ++i) {
    workers_.push_back(std::make_unique<WorkerSlot>());
    workers_.back()->data_dir = absl::StrCat(dir_, "/worker-", i);
    if (options_.own_models) fs::copy(models(), models(i), fs::copy_options::recursive);
    StartWorker(i);
  }
  client_->WaitForReadyWorkers(options_.workers);
  files_before_ = AllFiles();
}

Cluster::~Cluster() {
  Stop();
  ExpectNoLeaks();
  if (testing::Test::HasFailure()) ShowLogs();
  std::error_code error;
  fs::remove_all(dir_, error);
}

void Cluster::StartCoordinator() {
  const std::string ports_file = dir_ + "/ports.json";
  fs::remove(ports_file);
  std::vector<std::string> argv = {Program("liger-coordinator"),
                                   "--data-dir",
                                   dir_ + "/coordinator",
                                   "--listen",
                                   api_address_,
                                   "--worker-listen",
                                   worker_address_,
                                   "--metrics-listen",
                                   metrics_address_,
                                   "--ports-file",
                                   ports_file,
                                   "--lease-heartbeat",
                                   absl::StrCat(options_.heartbeat),
                                   "--lease-fence",
                                   absl::StrCat(options_.fence),
                                   "--lease-reassign",
                                   absl::StrCat(options_.reassign)};
  argv.insert(argv.end(), options_.coordinator_flags.begin(), options_.coordinator_flags.end());
  coordinator_ = std::make_unique<ChildProcess>(
      argv, dir_ + "/coordinator.log",
      std::map<std::string, std::string>{{kMark, mark_}, {"TMPDIR", temporary()}});
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (!fs::exists(ports_file)) {
    ASSERT_TRUE(coordinator_->Running() && absl::Now() < deadline)
        << "liger-coordinator does not serve:\n"
        << ReadFile(dir_ + "/coordinator.log").value_or("");
    absl::SleepFor(absl::Milliseconds(20));
  }
  const auto ports = nlohmann::json::parse(ReadFile(ports_file).value());
  api_address_ = ports["api"];
  worker_address_ = ports["worker"];
  metrics_address_ = ports["metrics"];
}

std::string Cluster::outputs(int worker) const {
  return dir_ + (options_.own_outputs ? absl::StrCat("/outputs-", worker) : "/outputs");
}

std::string Cluster::output(const std::string& job_name) const {
  for (int worker = 1; options_.own_outputs && worker < options_.workers; ++worker) {
    const std::string path = absl::StrCat(outputs(worker), "/", job_name);
    if (fs::exists(path)) return path;
  }
  return absl::StrCat(outputs(0), "/", job_name);
}

std::string Cluster::models(int worker) const {
  return options_.own_models ? absl::StrCat(models(), "-", worker) : models();
}

void Cluster::StartWorker(int index) {
  WorkerSlot& slot = *workers_[index];
  // Small jobs side by side: one thread each.
  std::map<std::string, std::string> environment = {
      {kMark, mark_}, {"TMPDIR", temporary()}, {"OMP_NUM_THREADS", "1"}};
  // On a host of several GPUs each worker has one of them.
  if (OnGpus()) environment["CUDA_VISIBLE_DEVICES"] = absl::StrCat(index);
  environment.insert(options_.worker_environment.begin(), options_.worker_environment.end());
  std::vector<std::string> command = {
      Program("liger-worker"), "--coordinator", worker_address_, "--data-dir", slot.data_dir,
      "--model-root", models(index), "--dataset-root", datasets(), "--output-root", outputs(index),
      "--cpu-slots", absl::StrCat(options_.cpu_slots), "--inventory-interval", "0.5",
      "--metrics-listen", "127.0.0.1:0"};
  command.insert(command.end(), options_.worker_flags.begin(), options_.worker_flags.end());
  slot.process = std::make_unique<ChildProcess>(command, slot.data_dir + ".log", environment);
}

int Cluster::WorkerIndex(const std::string& worker_id) const {
  for (size_t i = 0; i < workers_.size(); ++i) {
    const std::string id = ReadFile(workers_[i]->data_dir + "/worker_id").value_or("");
    if (absl::StripSuffix(id, "\n") == worker_id) return static_cast<int>(i);
  }
  return -1;
}

v1::JobSpec Cluster::TinyJob(const std::string& name, int64_t steps) const {
  v1::JobSpec spec;
  spec.set_name(name);
  spec.mutable_model()->set_uri("tiny");
  spec.mutable_model()->set_random_init(true);
  spec.mutable_dataset()->set_uri("tiny.jsonl");
  spec.mutable_sft();
  v1::TrainingSpec* training = spec.mutable_training();
  training->set_max_steps(steps);
  training->set_per_device_train_batch_size(2);
  training->set_max_length(64);
  training->set_learning_rate(1e-3);
  spec.mutable_resources()->set_device_kind(v1::DEVICE_KIND_CPU);
  if (OnGpus()) {
    spec.mutable_resources()->set_device_kind(v1::DEVICE_KIND_CUDA);
    training->set_precision(v1::PRECISION_FP32);  // as on CPUs
  }
  return spec;
}

std::vector<pid_t> Cluster::Trainers() const {
  std::vector<pid_t> trainers;
  for (pid_t pid : ProcessesWith(absl::StrCat(kMark, "=", mark_))) {
    if (absl::StrContains(CommandLine(pid), "liger-trainer")) trainers.push_back(pid);
  }
  return trainers;
}

void Cluster::WaitForLoggedSteps(int lines) const {
  const absl::Time deadline = absl::Now() + absl::Minutes(2);
  while (absl::Now() < deadline) {
    for (const auto& worker : workers_) {
      for (const std::string& attempt : Entries(worker->data_dir + "/attempts")) {
        const fs::path work = fs::path(attempt) / "work";
        const std::string log = ReadFile((work / "metrics.jsonl").string()).value_or("");
        if (std::count(log.begin(), log.end(), '\n') >= lines) return;
      }
    }
    absl::SleepFor(absl::Milliseconds(5));
  }
  ADD_FAILURE() << "no trainer has logged " << lines << " steps";
}

bool Cluster::WaitForNoTrainers(absl::Duration timeout) const {
  const absl::Time deadline = absl::Now() + timeout;
  while (!Trainers().empty()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(20));
  }
  return true;
}

void Cluster::ExpectIdle() {
  EXPECT_TRUE(WaitForNoTrainers(absl::Seconds(10)));
  const absl::Time deadline = absl::Now() + absl::Seconds(15);
  std::vector<std::string> held;
  do {
    held.clear();
    for (const v1::Worker& worker : client_->Workers()) {
      for (const v1::Device& device : worker.devices()) {
        if (!device.job_name().empty()) held.push_back(device.uuid() + " by " + device.job_name());
      }
    }
    for (const auto& slot : workers_) {
      if (!slot->process->Running()) continue;
      for (const std::string& entry : Entries(slot->data_dir + "/attempts")) held.push_back(entry);
    }
    if (held.empty()) break;
    absl::SleepFor(absl::Milliseconds(100));
  } while (absl::Now() < deadline);
  EXPECT_TRUE(held.empty()) << "still held: " << held.front();
  for (const std::string& file : AllFiles()) EXPECT_FALSE(absl::EndsWith(file, ".part")) << file;
}

void Cluster::Stop() {
  NotePorts();
  for (auto& slot : workers_) {
    if (!slot->process->Running()) continue;
    slot->process->Signal(SIGCONT);
    const int status = slot->process->Terminate();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "liger-worker: " << status;
  }
  if (coordinator_ && coordinator_->Running()) {
    coordinator_->Signal(SIGCONT);
    const int status = coordinator_->Terminate();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "liger-coordinator: " << status;
  }
}

std::vector<std::string> Cluster::FailedFolders() const {
  std::vector<std::string> folders;
  for (const auto& slot : workers_) {
    for (const std::string& entry : Entries(slot->data_dir + "/failed")) folders.push_back(entry);
  }
  return folders;
}

void Cluster::NotePorts() {
  if (coordinator_->Running()) ports_.merge(ListeningPorts(coordinator_->pid()));
  for (const auto& slot : workers_) {
    if (slot->process->Running()) ports_.merge(ListeningPorts(slot->process->pid()));
  }
}

std::set<std::string> Cluster::AllFiles() const {
  std::set<std::string> files;
  std::error_code error;
  for (fs::recursive_directory_iterator it(dir_, error), end; !error && it != end;
       it.increment(error)) {
    files.insert(it->path().lexically_relative(dir_).string());
  }
  return files;
}

void Cluster::ExpectNoLeaks() const {
  for (pid_t pid : ProcessesWith(absl::StrCat(kMark, "=", mark_))) {
    ADD_FAILURE() << "process " << pid << " is left: " << CommandLine(pid);
    kill(pid, SIGKILL);
  }
  const std::set<int> listening = ListeningPorts();
  for (int port : ports_) EXPECT_FALSE(listening.contains(port)) << "port " << port;
  for (const std::string& file : AllFiles()) {
    EXPECT_FALSE(absl::StrContains(file, ".tmp.") || absl::EndsWith(file, ".part")) << file;
    EXPECT_TRUE(files_before_.contains(file) || MayAppear(file)) << file << " is left";
  }
}

void Cluster::ShowLogs() const {
  for (const std::string& entry : Entries(dir_)) {
    if (!absl::EndsWith(entry, ".log")) continue;
    std::string log = ReadFile(entry).value_or("");
    if (log.size() > 8000) log = "..." + log.substr(log.size() - 8000);
    std::cerr << "---- " << entry << "\n" << log;
  }
}

}  // namespace liger::e2e
