#ifndef LIGER_WORKER_TRAINER_DATA_TOKEN_CACHE_H_
#define LIGER_WORKER_TRAINER_DATA_TOKEN_CACHE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "worker/trainer/data/split.h"
#include "worker/trainer/data/token_cache_options.h"

namespace liger::trainer {

// A folder of tokenised splits, one file each, named by a digest of everything that decides what
// is in it. Several processes may use it at once: files appear whole, by a rename, and are never
// changed. What is wrong with the folder or a file is a warning, never an error: the rows are
// tokenised then as if there were no cache.
class TokenCache {
 public:
  // `inputs` says what all of the job's rows depend on (tokenizer, chat template, program).
  TokenCache(TokenCacheOptions options, std::function<std::string()> inputs);

  // The split with this key from the folder, or what `make` makes, kept there then. `key` is the
  // text of all that the split depends on beside `inputs`; `unchanged` tells whether that still
  // holds. It and `inputs` are asked again before a split is kept. `what` names the rows in
  // messages.
  Split Get(const std::string& key, const std::string& what, const std::function<bool()>& unchanged,
            const std::function<Split()>& make);

  // Sentences for Warning events, and for the log.
  const std::vector<std::string>& warnings() const { return warnings_; }
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  std::string PathOf(const std::string& digest) const;
  // nullopt: there is none, or none that can be read.
  std::optional<Split> Find(const std::string& digest);
  // What became of it, for the log.
  std::string Keep(const std::string& digest, const Split& split);
  // Removes the files that were used longest ago until `bytes` more fit, and what killed processes
  // left.
  void MakeRoom(int64_t bytes) const;

  const TokenCacheOptions options_;
  const std::function<std::string()> inputs_;
  std::vector<std::string> warnings_, notes_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_TOKEN_CACHE_H_
