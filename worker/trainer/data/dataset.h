#ifndef LIGER_WORKER_TRAINER_DATA_DATASET_H_
#define LIGER_WORKER_TRAINER_DATA_DATASET_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "liger/v1/job_spec.pb.h"
#include "worker/trainer/data/example.h"
#include "worker/trainer/data/packing.h"
#include "worker/trainer/data/sft_loss_options.h"

namespace liger::trainer {

class ChatTemplate;
class TokenCache;
class Tokenizer;

struct LoadOptions {
  // The job's method; decides between sequences and pairs and how a row is
  // tokenised.
  liger::v1::JobSpec::MethodCase method = liger::v1::JobSpec::kSft;
  // SFT: unset takes TRL's default, true for prompt/completion rows only.
  std::optional<bool> completion_only_loss;
  SftLossOptions sft_loss;
  // Most tokens of a sequence; the end is cut, or with keep_end the start.
  int64_t max_length = 1024;
  bool keep_end = false;
  // Seed of the evaluation split.
  uint64_t data_seed = 42;
  // CHECK tasks: of each file this many rows are read, or all (0), and until `read_until` more.
  int64_t max_rows = 0;
  std::optional<std::chrono::steady_clock::time_point> read_until;
  // Local files: of each source (one, where the job names none), and of the
  // evaluation set. Empty: the spec's own paths, with file:// removed (MatchSplitFiles).
  std::vector<std::vector<std::string>> train_files;
  std::vector<std::string> eval_files;
  // SFT: how rows are packed, evaluation rows too (as TRL's eval_packing does
  // unless told otherwise).
  PackingStrategy packing = PackingStrategy::kNone;
  // Size of the embedding; token ids of tokenised rows must be below it. 0: the
  // tokenizer's vocabulary.
  int64_t vocab_size = 0;
  // 0: one for each core.
  int num_threads = 0;
  // Where tokenised rows are kept; null: nowhere. Must outlive the loading.
  TokenCache* cache = nullptr;
  // Where large packed files are unpacked to, and what memory does not hold of
  // tokenised rows is kept; empty: with other temporary files.
  std::string scratch_dir;
  // Most bytes of a split's tokenised rows in memory; what is beyond that is
  // mapped from such a file. 0: any.
  int64_t most_token_bytes = int64_t{1} << 30;
};

// Counts over one split, before (rows) and after (the rest) dropping. Kept with it
// in a cache (token_cache_file.cpp).
struct DataStats {
  int64_t rows = 0;            // read
  int64_t dropped_rows = 0;    // left nothing to train on after truncation
  int64_t dropped_cut = 0;     // of those, rows whose answer max_length cut off
  int64_t truncated_rows = 0;  // kept, but a sequence was cut to max_length
  int64_t tokens = 0;          // of kept rows
  int64_t target_tokens = 0;   // of those, tokens that contribute to the loss
  // Rows whose tokenised prompt is not a prefix of the tokenised prompt +
  // answer: the answer starts where they diverge, as in TRL.
  int64_t boundary_merges = 0;
  // What the kept rows were packed into, and packs without anything to train.
  int64_t packs = 0;
  int64_t dropped_packs = 0;
  // Rows of two answers that are two labelled rows each (unpaired_rows.h): the files' rows are
  // `rows` - `pairs`.
  int64_t pairs = 0;
  // Kept pairs whose two answers are the same tokens: nothing tells them apart.
  int64_t equal_pairs = 0;
  // Kept rows with an answer of no text but white space: at most its end is trained on.
  int64_t empty_answers = 0;
  // Kept rows whose prompt is a text, and an empty one.
  int64_t empty_prompts = 0;
  // Kept conversations in which no assistant speaks.
  int64_t no_assistant = 0;
  // Kept rows with what is left out of LeftOut.
  int64_t lost_tools = 0;
  int64_t lost_tool_turns = 0;
  int64_t lost_developer_turns = 0;
  int64_t lost_reasoning = 0;
  // Kept rows that keep_end leaves less than half of the prompt (of most of what is trained on,
  // where a row has several answers), and of those the ones that it leaves none.
  int64_t cut_prompts = 0;
  int64_t lost_prompts = 0;
  // Dropped rows that sft.response_template is not in (none of them counts as dropped_cut); of
  // those, rows whose cut took it off, and rows that hold its text in other tokens.
  int64_t without_response_template = 0;
  int64_t response_template_cut = 0;
  int64_t response_template_retokenized = 0;
  // Of the kept rows' tokens and labels in their order (AddToDigest), before packing; 0:
  // unknown, as where the chat template prints the date or time.
  int64_t digest = 0;
  // Tokens of each row read (of a pair's longer sequence) before anything was cut.
  std::vector<int32_t> row_lengths;
  // 1-based rows of the files that were dropped, or an answer of theirs, the first few, for
  // messages; counted through all files of the first source that dropped any.
  std::vector<int64_t> first_dropped;

  int64_t file_rows() const { return rows - pairs; }
};

struct Dataset {
  ExampleSet train;
  ExampleSet eval;  // empty when the job has no evaluation set
  DataStats train_stats;
  DataStats eval_stats;
  // What the rows of each source are read as: the job's format, or what AUTO found in its files.
  std::vector<std::vector<liger::v1::DatasetFormat>> formats;
  // About how many of the rows of the training files (with an evaluation share of theirs), and of
  // the evaluation files, LoadOptions let out of account; 0: it read all.
  int64_t unread_rows = 0;
  int64_t unread_eval_rows = 0;
  // Sentences for Warning events: dropped rows, boundary merges, ...
  std::vector<std::string> warnings;
  // Lines for the log.
  std::vector<std::string> notes;
};

// Reads, checks and tokenises the job's data as TRL 1.16 does (details with
// their sources: tokenize_row.h). chat_template may be null: then
// conversations are refused and Alpaca rows use the Stanford Alpaca prompt.
//
// Rows keep the files' order, source after source (KTO's of pairs: unpaired_rows.h); shuffling
// and mixing by weight are the Sampler's. An evaluation share (eval_fraction) is drawn from the
// rows of all sources by data_seed alone. Each source's rows are packed apart.
//
// Throws TrainerError (DATA) naming file, 1-based row, and column, line or byte.
Dataset LoadDataset(const liger::v1::DatasetSpec& spec, const LoadOptions& options,
                    const Tokenizer& tokenizer, const ChatTemplate* chat_template);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_DATASET_H_
