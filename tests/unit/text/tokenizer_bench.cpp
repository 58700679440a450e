// tokenizer_bench MODEL_DIR FILE [REPEATS]: MB/s of Encode over the lines of
// FILE on one thread, for tools/fixtures/tokenizer_bench.py, which measures
// `tokenizers` on the same lines.

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "tests/unit/text/corpus.h"
#include "worker/trainer/text/tokenizer.h"

int main(int argc, char** argv) {
  using Clock = std::chrono::steady_clock;
  if (argc < 3) return std::fprintf(stderr, "usage: tokenizer_bench MODEL_DIR FILE [REPEATS]\n"), 2;
  const auto seconds = [](Clock::time_point since) {
    return std::chrono::duration<double>(Clock::now() - since).count();
  };
  const auto begun = Clock::now();
  const auto tokenizer = liger::trainer::Tokenizer::FromFolder(argv[1]);
  std::printf("load %.3f s\n", seconds(begun));
  const std::string text = liger::trainer::ReadAll(argv[2]);
  const std::vector<std::string> lines = liger::trainer::SplitLines(text);
  for (int i = 0; i < (argc > 3 ? std::atoi(argv[3]) : 3); ++i) {
    const auto start = Clock::now();
    size_t ids = 0;
    for (const std::string& line : lines) ids += tokenizer->Encode(line, true).size();
    const double s = seconds(start);
    std::printf("ours %.1f MB/s (%zu ids, %.3f s)\n", text.size() / s / 1e6, ids, s);
  }
  return 0;
}
