// Stands in for libFuzzer where the build's compiler has none (g++): mutates the
// seeds at random for some seconds, the same way on every run. It sees no
// coverage; `make fuzz` builds the same targets with clang's libFuzzer.
//
// usage: TARGET SECONDS SEED_FILE_OR_FOLDER...
// An input that ends the program, or that runs when it is ended, is left in fuzz-input in the
// working folder.

#include <fcntl.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "tests/fuzz/fuzz_target.h"

namespace {

namespace fs = std::filesystem;

std::vector<std::string> ReadSeeds(int argc, char** argv) {
  std::vector<fs::path> paths;
  for (int i = 2; i < argc; ++i) {
    if (!fs::is_directory(argv[i])) paths.push_back(argv[i]);
    if (!fs::is_directory(argv[i])) continue;
    for (const auto& entry : fs::directory_iterator(argv[i])) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> seeds;
  for (const fs::path& path : paths) {
    std::ifstream in(path, std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    if (seeds.back().empty()) {
      std::fprintf(stderr, "no seed in %s\n", path.c_str());
      std::exit(2);
    }
  }
  return seeds;
}

class Mutator {
 public:
  explicit Mutator(std::vector<std::string> seeds) : seeds_(std::move(seeds)) {}

  std::string Next() {
    std::string input = Pick();
    for (int changes = 1 + Below(4); changes > 0; --changes) Change(&input);
    return input;
  }

 private:
  size_t Below(size_t n) { return n == 0 ? 0 : random_() % n; }
  const std::string& Pick() { return seeds_[Below(seeds_.size())]; }

  // A piece of some seed: whole words of the format come along in it.
  std::string Piece() {
    const std::string& seed = Pick();
    const size_t at = Below(seed.size());
    return seed.substr(at, 1 + Below(32));
  }

  void Change(std::string* input) {
    static constexpr const char* kOdd[] = {"-1",      "99999999999999999999",
                                           "1e999",   "null",
                                           "{}",      "[",
                                           "]",       "\"",
                                           "\\u0000", "\xFF",
                                           "%}",      "{{"};
    const size_t at = Below(input->size() + 1);
    const size_t length = std::min<size_t>(1 + Below(16), input->size() - at);
    switch (Below(6)) {
      case 0:
        input->insert(at, Piece());
        break;
      case 1:
        input->erase(at, length);
        break;
      case 2:
        input->replace(at, length, Piece());
        break;
      case 3:
        input->insert(at, input->substr(at, length));
        break;
      case 4:
        input->insert(at, kOdd[Below(std::size(kOdd))]);
        break;
      default:
        if (at < input->size()) (*input)[at] = static_cast<char>(random_());
    }
  }

  const std::vector<std::string> seeds_;
  std::mt19937_64 random_;  // its default seed
};

const std::string* running = nullptr;

// What is safe in a signal handler: leave the input, then die of the signal.
void LeaveInput(int signal) {
  const int file = open("fuzz-input", O_WRONLY | O_CREAT | O_TRUNC, 0644);
  const ssize_t written = write(file, running->data(), running->size());
  static_cast<void>(written);
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void Run(const std::string& input) {
  running = &input;
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::seconds(std::atoi(argv[1]));
  const std::vector<std::string> seeds = ReadSeeds(argc, argv);
  for (const int signal : {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTERM}) {
    std::signal(signal, LeaveInput);
  }
  for (const std::string& seed : seeds) Run(seed);
  Mutator mutator(seeds);
  int64_t inputs = static_cast<int64_t>(seeds.size());
  double slowest = 0;
  while (Clock::now() < end) {
    const auto start = Clock::now();
    Run(mutator.Next());
    slowest = std::max(slowest, std::chrono::duration<double>(Clock::now() - start).count());
    ++inputs;
  }
  std::printf("%lld inputs, the slowest %.3f s\n", static_cast<long long>(inputs), slowest);
}
