// A folder of a gigabyte goes from its files into a model, and back, without a copy in memory
// beyond one tensor; prints the rates beside those of plain reads and writes.
#include <ATen/ATen.h>
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>

#include "common/unique_fd.h"
#include "tests/unit/checkpoint/test_util.h"
#include "worker/trainer/checkpoint/safetensors_writer.h"
#include "worker/trainer/checkpoint/weights.h"

namespace liger::trainer {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kMiB = 1 << 20;
constexpr int64_t kTensors = 5;           // of a shard
constexpr int64_t kNumel = 14 * kMiB;     // of a tensor
constexpr int64_t kLargest = kNumel * 4;  // bytes, in fp32
// Of threads, small allocations and what malloc keeps.
constexpr int64_t kSlack = 16 * kMiB;

// Of /proc/self/status, in bytes.
int64_t StatusBytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field + ":")) return std::stoll(line.substr(field.size() + 1)) * 1024;
  }
  ADD_FAILURE() << "no " << field;
  return 0;
}

// The most memory that `work` takes beyond what was there before.
struct Growth {
  int64_t anonymous = 0, of_files = 0;
  double seconds = 0;
};
template <typename Work>
Growth GrowthIn(const Work& work) {
  const int64_t anonymous = StatusBytes("RssAnon"), of_files = StatusBytes("RssFile");
  Growth growth;
  std::atomic<bool> done = false;
  std::thread watcher([&] {
    while (!done) {
      growth.anonymous = std::max(growth.anonymous, StatusBytes("RssAnon") - anonymous);
      growth.of_files = std::max(growth.of_files, StatusBytes("RssFile") - of_files);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  const Clock::time_point start = Clock::now();
  work();
  growth.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  done = true;
  watcher.join();
  return growth;
}

class StreamingTest : public testing::Test {
 protected:
  struct Shard {
    const char* file;
    at::ScalarType dtype;
  };
  static constexpr Shard kShards[] = {{"model-00001-of-00005.safetensors", at::kBFloat16},
                                      {"model-00002-of-00005.safetensors", at::kHalf},
                                      {"model-00003-of-00005.safetensors", at::kFloat},
                                      {"model-00004-of-00005.safetensors", at::kBFloat16},
                                      {"model-00005-of-00005.safetensors", at::kFloat}};

  // Every weight is a whole number that all of the dtypes have, another one in each tensor.
  static at::Tensor Weight(int64_t index, at::ScalarType dtype) {
    return at::full({kNumel / 1024, 1024}, index + 1, dtype);
  }

  void SetUp() override {
    OutputFolder folder(dir_ / "model", false, 0);
    std::string map;
    int64_t index = 0;
    for (const Shard& shard : kShards) {
      std::vector<NamedTensor> tensors;
      for (int64_t i = 0; i < kTensors; ++i, ++index) {
        const std::string name = "model.layers." + std::to_string(index) + ".weight";
        names_.push_back(name);
        tensors.push_back(
            {name, at::empty({kNumel / 1024, 1024}, at::device(at::kMeta).dtype(shard.dtype)),
             [index, &shard] { return Weight(index, shard.dtype); }});
        map += (map.empty() ? "\"" : ", \"") + name + "\": \"" + shard.file + "\"";
      }
      WriteSafetensors(folder, shard.file, tensors, std::nullopt, {});
    }
    folder.Write("model.safetensors.index.json", "{\"weight_map\": {" + map + "}}");
    bytes_ = folder.Commit().bytes;
  }

  // As `cat FILE > /dev/null`, of all shards; seconds.
  double ReadShards() const {
    std::vector<char> buffer(kMiB / 8);
    const Clock::time_point start = Clock::now();
    for (const Shard& shard : kShards) {
      const UniqueFd fd(open((dir_ / "model/" + shard.file).c_str(), O_RDONLY));
      while (read(fd.get(), buffer.data(), buffer.size()) > 0) continue;
    }
    return std::chrono::duration<double>(Clock::now() - start).count();
  }
  void DropFromPageCache() const {
    for (const Shard& shard : kShards) {
      const UniqueFd fd(open((dir_ / "model/" + shard.file).c_str(), O_RDONLY));
      posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
    }
  }

  void PrintRate(const char* what, double seconds, double plain) const {
    std::printf("%-28s %5.2f GB/s, plain %5.2f GB/s\n", what, double(bytes_) / 1e9 / seconds,
                double(bytes_) / 1e9 / plain);
  }

  const TempDir dir_;
  std::vector<std::string> names_;
  int64_t bytes_ = 0;
};

TEST_F(StreamingTest, LoadsAndSavesWithOneTensorOfMemory) {
  ASSERT_GT(bytes_, 900 * kMiB);
  // The model: bf16, touched already.
  std::vector<NamedTensor> model;
  for (const std::string& name : names_) {
    model.push_back({name, at::zeros({kNumel / 1024, 1024}, at::kBFloat16).requires_grad_(true)});
  }
  for (const bool cold : {true, false}) {
    if (cold) DropFromPageCache();
    const double plain = ReadShards();
    if (cold) DropFromPageCache();
    const Growth loading = GrowthIn([&] { WeightReader::Open(dir_ / "model").LoadInto(model); });
    PrintRate(cold ? "load, not in the page cache" : "load, in the page cache", loading.seconds,
              plain);
    EXPECT_LE(loading.anonymous, kLargest + kSlack);
    // Pages of the map are given back tensor by tensor.
    EXPECT_LE(loading.of_files, 2 * kLargest + kSlack);
  }
  for (size_t i = 0; i < model.size(); ++i) {
    const at::Tensor weight = Weight(static_cast<int64_t>(i), at::kBFloat16);
    ASSERT_TRUE(at::equal(model[i].tensor, weight)) << model[i].name;
  }

  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat}) {
    const Growth saving = GrowthIn([&] {
      OutputFolder folder(dir_ / "saved", /*overwrite=*/true, 0);
      WriteWeights(folder, model, dtype, 300 * kMiB);
      folder.Commit();
    });
    std::printf("save in %-20s %5.2f GB/s (digested and synced)\n", c10::toString(dtype),
                double(kNumel * std::ssize(model)) * double(c10::elementSize(dtype)) / 1e9 /
                    saving.seconds);
    EXPECT_LE(saving.anonymous, kLargest + kSlack);
  }
  const WeightReader saved = WeightReader::Open(dir_ / "saved");
  for (const NamedTensor& tensor : model) {
    ASSERT_TRUE(at::equal(saved.View(tensor.name), tensor.tensor.to(at::kFloat))) << tensor.name;
  }
}

}  // namespace
}  // namespace liger::trainer
