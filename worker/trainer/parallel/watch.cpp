#include "worker/trainer/parallel/watch.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "worker/trainer/error.h"
#include "worker/trainer/ticks.h"

namespace liger::trainer {
namespace {

constexpr char kVerdictKey[] = "watch/verdict";

std::vector<uint8_t> ToBytes(const std::string& text) { return {text.begin(), text.end()}; }
std::string ToText(const std::vector<uint8_t>& bytes) { return {bytes.begin(), bytes.end()}; }

double SecondsSince(std::chrono::steady_clock::time_point then) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - then).count();
}

// Of rank 0, which serves the store unless something else does.
Farewell StoreLost(const RankInfo& rank, const std::string& message) {
  return Farewell::Failed(
      TrainerError(liger::v1::FAILURE_CLASS_INFRA, message,
                   "the attempt is run again; if it ends the same way, look at that rank's log "
                   "and host")
          .FirstFailedRank(rank.store_is_served ? -1 : 0)
          .failure());
}

}  // namespace

Watch::Watch(c10::intrusive_ptr<c10d::Store> store, const RankInfo& rank, Options options)
    : store_(std::move(store)), rank_(rank), options_(std::move(options)) {
  const auto now = Clock::now();
  wait_began_ = last_round_ = now;
  seen_.assign(rank_.world_size, {{}, now, now, now});
  talk_ = std::thread([this] { Talk(); });
  guard_ = std::thread([this] { Guard(); });
}

Watch::~Watch() {
  Leave(Farewell::Done());
  talk_.join();
  guard_.join();
}

int64_t Watch::Issue() {
  const absl::MutexLock lock(&mutex_);
  return ++own_.issued;
}

void Watch::Waits(int64_t number, const std::string& what) {
  const absl::MutexLock lock(&mutex_);
  own_.waits_for = number;
  own_.what = what;
  wait_began_ = Clock::now();
}

Farewell Watch::Explain(const std::string& error) {
  const absl::MutexLock lock(&mutex_);
  own_.error = error;
  const auto decided = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return verdict_.has_value();
  };
  const absl::Duration most =
      absl::Seconds(options_.limits.error_s) + 4 * options_.interval + absl::Seconds(2);
  if (mutex_.AwaitWithTimeout(absl::Condition(&decided), most)) return *verdict_;
  return Farewell::Failed(TrainerError(liger::v1::FAILURE_CLASS_INFRA,
                                       "rank " + std::to_string(rank_.rank) +
                                           " lost its connection to another rank in " + own_.what +
                                           ": " + error,
                                       "the attempt is run again")
                              .FirstFailedRank(rank_.rank)
                              .failure());
}

void Watch::Leave(const Farewell& farewell) {
  const absl::MutexLock lock(&mutex_);
  if (left_) return;
  left_ = true;
  own_.left = farewell;
  // The others may be gone, and the store with them.
  mutex_.AwaitWithTimeout(absl::Condition(&ended_), absl::Seconds(5));
}

std::string Watch::Key(const char* kind, int rank) const {
  return std::string("watch/") + kind + "/" + std::to_string(rank);
}

void Watch::Talk() {
  bool leaves = false;
  try {
    do {
      {
        const absl::MutexLock lock(&mutex_);
        mutex_.AwaitWithTimeout(absl::Condition(&left_), options_.interval);
        leaves = left_;
      }
      Round();
    } while (!leaves);
    if (rank_.rank == 0 && !rank_.store_is_served) AwaitTheOthers();
  } catch (const std::exception& error) {
    if (!leaves) {
      // The one that serves the store is gone, or about to go.
      const std::string who = rank_.store_is_served ? "the gang's store" : "rank 0";
      Decide(StoreLost(rank_, who + " is lost: its store at " + rank_.master_addr + ":" +
                                  std::to_string(rank_.master_port) + " does not answer"));
    }
  }
  const absl::MutexLock lock(&mutex_);
  ended_ = true;
}

void Watch::Round() {
  Publish();
  std::optional<Farewell> verdict = ReadVerdict();
  if (!verdict) {
    verdict = rank_.rank == 0 ? Judge(Look(rank_.world_size), options_.limits)
                              : JudgeLeader(Look(1)[0], options_.limits);
    if (verdict) {
      // The first one stays.
      const auto stored = store_->compareSet(kVerdictKey, {}, ToBytes(verdict->ToText()));
      verdict = Farewell::FromText(ToText(stored));
    }
  }
  if (verdict) Decide(*verdict);
  const absl::MutexLock lock(&mutex_);
  last_round_ = Clock::now();
}

void Watch::Publish() {
  RankStatus status;
  {
    const absl::MutexLock lock(&mutex_);
    ++own_.beat;
    // Waiting for others who work is no standstill; the watch sees to it that they do.
    if (own_.waits_for > 0 && !verdict_) Tick();
    own_.waited_s = own_.waits_for > 0 ? SecondsSince(wait_began_) : 0;
    own_.ticks = Ticks();
    own_.in_slow_call = InSlowCall();
    status = own_;
  }
  store_->set(Key("rank", rank_.rank), ToBytes(status.ToText()));
}

std::optional<Farewell> Watch::ReadVerdict() {
  if (!store_->check({kVerdictKey})) return std::nullopt;
  const std::string text = ToText(store_->get(kVerdictKey));
  if (text.empty()) return std::nullopt;
  store_->set(Key("knows", rank_.rank), ToBytes("1"));
  return Farewell::FromText(text);
}

std::vector<SeenRank> Watch::Look(int ranks) {
  std::vector<SeenRank> seen;
  for (int rank = 0; rank < ranks; ++rank) {
    Change& change = seen_[rank];
    if (store_->check({Key("rank", rank)})) {
      const auto now = Clock::now();
      RankStatus status = RankStatus::FromText(ToText(store_->get(Key("rank", rank))));
      const bool moved = status.ticks != change.status.ticks ||
                         status.issued != change.status.issued || change.status.beat == 0;
      if (status.beat != change.status.beat) change.beat = now;
      if (moved) change.progress = now;
      if (status.error.empty()) change.error = now;
      change.status = std::move(status);
    }
    SeenRank& out = seen.emplace_back();
    if (change.status.beat > 0) out.status = change.status;
    out.silent_s = SecondsSince(change.beat);
    out.idle_s = SecondsSince(change.progress);
    out.error_s = SecondsSince(change.error);
  }
  return seen;
}

void Watch::Decide(const Farewell& verdict) {
  const absl::MutexLock lock(&mutex_);
  if (!verdict_ && own_.left.kind == Farewell::Kind::kNone) verdict_ = verdict;
}

// The store goes with this process: those who still read it would take that for a loss. One that
// is lost does not come; it is not waited for long.
void Watch::AwaitTheOthers() {
  int lost = -1;
  {
    const absl::MutexLock lock(&mutex_);
    if (verdict_) lost = verdict_->failure.first_failed_rank();
  }
  const auto gone = [this](int rank) {
    if (!store_->check({Key("rank", rank)})) return false;
    const auto text = ToText(store_->get(Key("rank", rank)));
    return RankStatus::FromText(text).left.kind != Farewell::Kind::kNone ||
           store_->check({Key("knows", rank)});
  };
  const absl::Time end = absl::Now() + absl::Seconds(4);
  for (int rank = 1; rank < rank_.world_size; ++rank) {
    while (rank != lost && !gone(rank) && absl::Now() < end) {
      absl::SleepFor(absl::Milliseconds(20));
    }
  }
}

void Watch::Guard() {
  absl::Duration decided = absl::ZeroDuration();
  const absl::Duration step = std::min(options_.interval, absl::Milliseconds(250));
  const absl::MutexLock lock(&mutex_);
  while (!mutex_.AwaitWithTimeout(absl::Condition(&left_), step)) {
    if (!verdict_ && SecondsSince(last_round_) > options_.limits.silence_s) {
      verdict_ =
          StoreLost(rank_, "rank 0 is lost: its store has not answered for " +
                               std::to_string(static_cast<int>(options_.limits.silence_s)) + " s");
    }
    if (!verdict_) continue;
    decided += step;
    if (decided <= options_.grace) continue;
    const Farewell verdict = *verdict_;
    left_ = true;
    mutex_.Unlock();
    if (options_.on_verdict) options_.on_verdict(verdict);
    mutex_.Lock();
    return;
  }
}

}  // namespace liger::trainer
