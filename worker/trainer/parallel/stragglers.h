#ifndef LIGER_WORKER_TRAINER_PARALLEL_STRAGGLERS_H_
#define LIGER_WORKER_TRAINER_PARALLEL_STRAGGLERS_H_

#include <string>
#include <vector>

namespace liger::trainer {

// Finds ranks that hold up the others: whose own work took longer, in each of a number of steps in
// a row, than the median of the others' by a factor.
class Stragglers {
 public:
  struct Options {
    double factor = 1.5;
    double least_s = 0.005;  // by which it must be longer, too
    int steps = 20;
  };
  struct Found {
    int rank = 0;
    double seconds = 0;  // of a step, mean over the steps
    double median = 0;   // of the others, mean over the steps
    int steps = 0;

    // "rank 1 works 1.84 s a step, ..."
    std::string Message() const;
  };

  explicit Stragglers(const Options& options) : options_(options) {}

  // Seconds of one step in which each rank worked and did not wait for others. Returns the ranks of
  // which it is news: one that was found is so again after as many steps without.
  std::vector<Found> Add(const std::vector<double>& own_seconds);

 private:
  struct Streak {
    int slow = 0, fine = 0;  // steps in a row
    double seconds = 0, median = 0;
    bool found = false;
  };

  const Options options_;
  std::vector<Streak> streaks_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_STRAGGLERS_H_
