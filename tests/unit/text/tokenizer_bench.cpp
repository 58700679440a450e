// tokenizer_bench MODEL_DIR FILE [REPEATS [THREADS]]: MB a second, and a second of CPU time, of
// Encode over the lines of FILE, as the trainer tokenises a data set's rows, for those who measure
// `tokenizers` on the same lines (tests/bench/bench_tokenizer.py).

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "tests/unit/text/corpus.h"
#include "worker/trainer/data/parallel_rows.h"
#include "worker/trainer/text/tokenizer.h"

int main(int argc, char** argv) {
  using Clock = std::chrono::steady_clock;
  if (argc < 3) {
    return std::fprintf(stderr, "usage: tokenizer_bench MODEL_DIR FILE [REPEATS [THREADS]]\n"), 2;
  }
  const auto seconds = [](Clock::time_point since) {
    return std::chrono::duration<double>(Clock::now() - since).count();
  };
  const auto begun = Clock::now();
  const auto tokenizer = liger::trainer::Tokenizer::FromFolder(argv[1]);
  std::printf("load %.3f s\n", seconds(begun));
  const std::string text = liger::trainer::ReadAll(argv[2]);
  const std::vector<std::string> lines = liger::trainer::SplitLines(text);
  const int threads = argc > 4 ? std::atoi(argv[4]) : 1;
  for (int i = 0; i < (argc > 3 ? std::atoi(argv[3]) : 3); ++i) {
    const auto start = Clock::now();
    const std::clock_t cpu_start = std::clock();
    std::atomic<size_t> ids = 0;
    liger::trainer::ForEachRow(static_cast<int64_t>(lines.size()), threads, [&](int64_t row) {
      ids += tokenizer->Encode(lines[row], true).size();
    });
    const double s = seconds(start);
    const double cpu = static_cast<double>(std::clock() - cpu_start) / CLOCKS_PER_SEC;
    std::printf("ours %.2f MB/s, %.2f a CPU second (%zu ids, %.3f s)\n", text.size() / s / 1e6,
                text.size() / cpu / 1e6, ids.load(), s);
  }
  return 0;
}
