#include "worker/trainer/data/row_warnings.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/plural.h"
#include "worker/trainer/data/row_format.h"

namespace liger::trainer {
namespace {

constexpr size_t kNamedFiles = 5;  // that a message names

// A pattern that takes all data files of a folder and nothing else; "" when no simple one does.
std::string PatternOfAll(const std::string& folder) {
  const absl::StatusOr<std::vector<std::string>> all = MatchDataFiles(folder);
  if (!all.ok()) return "";
  for (const std::string& ending :
       {DataEnding(all->front()), std::string(".json*"), std::string()}) {
    const std::string pattern = absl::StrCat(folder, "/*", ending);
    const auto matches = MatchDataFiles(pattern);
    if (matches.ok() && *matches == *all) return pattern;
  }
  return "";
}

std::string MaxLength(const LoadOptions& options) {
  return absl::StrCat("training.max_length (", options.max_length, ")");
}

// "of 3" of the rows, where not all of them are meant.
std::string Share(int64_t rows, int64_t of) { return rows < of ? absl::StrCat(" of ", rows) : ""; }

// Why sft.response_template is in none of the rows' tokens, with the number of rows of each cause.
void AddTemplateCauses(const DataStats& stats, const LoadOptions& options,
                       std::vector<std::string>* why, std::vector<std::string>* remedies) {
  const int64_t without = stats.without_response_template;
  if (without == 0) return;
  const int64_t cut = stats.response_template_cut, other = stats.response_template_retokenized;
  const std::string name =
      absl::StrCat("sft.response_template '", options.sft_loss.response_template, "'");
  std::vector<std::string> causes;
  if (without > cut + other) {
    const int64_t lacking = without - cut - other;
    causes.push_back(
        absl::StrCat(lacking, lacking == 1 ? " does" : " do", " not hold that text at all"));
    remedies->push_back(
        "give sft.response_template the text before the answers as `liger-cli "
        "datasets inspect` shows it");
  }
  if (other > 0) {
    causes.push_back(
        absl::StrCat(other, other == 1 ? " holds" : " hold",
                     " the text, but in other tokens than it has alone, since its first or last "
                     "characters join their neighbours"));
    remedies->push_back(
        "give the template with the line break before it, or without the space "
        "or line break at its end");
  }
  if (cut > 0) {
    causes.push_back(
        absl::StrCat(cut, cut == 1 ? " loses" : " lose", " it to the cut to ", MaxLength(options)));
    remedies->push_back(options.keep_end ? "raise training.max_length, or leave truncation_mode "
                                           "keep_end out"
                                         : "raise training.max_length");
  }
  why->push_back(absl::StrCat(name, " is not among the tokens", Share(without, stats.dropped_rows),
                              " (", absl::StrJoin(causes, "; "), ")"));
}

std::string Longest(const DataStats& stats) {
  if (stats.row_lengths.empty()) return "";
  return Plural(*std::ranges::max_element(stats.row_lengths), "token");
}

// "1 of 3 training rows was": the beginning of most sentences.
class Sentences {
 public:
  Sentences(const std::string& name, const std::string& split, const DataStats& stats)
      : name_(name), split_(split), stats_(stats) {}

  std::string Of(int64_t count, int64_t all) const {
    return absl::StrCat(count, " of ", all, " ", split_, " row", all == 1 ? "" : "s");
  }
  void Add(const std::string& sentence) {
    sentences_.push_back(absl::StrCat(name_, ": ", sentence));
  }
  // "in 1 of 3 training rows WHAT"
  void AddIn(int64_t count, const std::string& what) {
    if (count > 0) Add(absl::StrCat("in ", Of(count, stats_.rows), " ", what));
  }
  std::vector<std::string> Take() { return std::move(sentences_); }

 private:
  const std::string name_, split_;
  const DataStats& stats_;
  std::vector<std::string> sentences_;
};

void WarnOfCuts(const DataStats& stats, const LoadOptions& options, Sentences* sentences) {
  if (stats.truncated_rows > 0) {
    sentences->Add(absl::StrCat(
        sentences->Of(stats.truncated_rows, stats.rows), stats.truncated_rows == 1 ? " is" : " are",
        " cut to ", MaxLength(options), options.keep_end ? " at the start" : " at the end",
        "; the longest row has ", Longest(stats)));
  }
  if (stats.cut_prompts == 0) return;
  const std::string all = stats.lost_prompts == 0 ? ""
                          : stats.lost_prompts == stats.cut_prompts
                              ? " (none of it)"
                              : absl::StrCat(" (", stats.lost_prompts, " of them none of it)");
  sentences->Add(absl::StrCat(
      sentences->Of(stats.cut_prompts, stats.rows), stats.cut_prompts == 1 ? " keeps" : " keep",
      " less than half of the prompt", all,
      ", which truncation_mode keep_end cuts first: the model learns answers to what it does not "
      "see; raise training.max_length, or use keep_start, which cuts the answer instead and "
      "drops rows whose prompt alone is longer"));
}

void WarnOfLeftOut(const RowFields& fields, const DataStats& stats, Sentences* sentences) {
  sentences->AddIn(
      stats.lost_tools,
      "the column tools is left out, since the rows are texts or the chat template does "
      "not write it; give messages, and a model whose chat template knows tools");
  sentences->AddIn(stats.lost_tool_turns,
                   "messages of the role tool are left out, since the chat template does not write "
                   "them; use a model whose chat template knows tools, or make them a user's (" +
                       fields.roles + ")");
  sentences->AddIn(stats.lost_developer_turns,
                   "messages of the role developer are left out, since the chat template does not "
                   "write them; make them the system's (" +
                       fields.roles + ": {developer: system})");
  sentences->AddIn(stats.lost_reasoning,
                   "what the assistant reasons (reasoning_content) is left out, since the chat "
                   "template does not write it there; use a model whose chat template does, or "
                   "write it into the content");
}

// Whether rows of the format are trained on in their answers alone, where nothing else is said.
bool TrainsAnswers(liger::v1::DatasetFormat format) {
  return format == liger::v1::DATASET_FORMAT_ALPACA ||
         format == liger::v1::DATASET_FORMAT_PROMPT_COMPLETION;
}

}  // namespace

DropCause WhyDropped(const DataStats& stats, const LoadOptions& options) {
  std::vector<std::string> why, remedies;
  if (stats.dropped_cut > 0) {
    why.push_back(absl::StrCat(
        options.keep_end ? "nothing to train on is among the last tokens, " : "the prompt fills ",
        MaxLength(options), Share(stats.dropped_cut, stats.dropped_rows)));
    remedies.push_back("raise training.max_length, or shorten or remove these rows");
  }
  AddTemplateCauses(stats, options, &why, &remedies);
  const int64_t unanswered =
      stats.dropped_rows - stats.dropped_cut - stats.without_response_template;
  if (unanswered > 0) {
    why.push_back(absl::StrCat(options.sft_loss.assistant_only_loss
                                   ? "there is no turn of an assistant"
                                   : "there is no answer",
                               Share(unanswered, stats.dropped_rows)));
    remedies.push_back("complete or remove the rows without one");
  }
  return {absl::StrJoin(why, ", "), absl::StrJoin(remedies, "; ")};
}

std::vector<std::string> RowWarnings(const std::string& name, const RowFields& fields,
                                     const std::string& split, const DataStats& stats,
                                     const std::string& dropped, const LoadOptions& options) {
  Sentences sentences(name, split, stats);
  if (stats.dropped_rows > 0) {
    const DropCause cause = WhyDropped(stats, options);
    sentences.Add(absl::StrCat(sentences.Of(stats.dropped_rows, stats.rows),
                               stats.dropped_rows == 1 ? " was" : " were", " dropped (",
                               stats.first_dropped.size() == 1 ? "row " : "rows ", dropped,
                               "): ", cause.why, "; ", cause.remedy));
  }
  WarnOfCuts(stats, options, &sentences);
  if (stats.dropped_packs > 0) {
    sentences.Add(absl::StrCat(stats.dropped_packs, " ", split,
                               stats.dropped_packs == 1 ? " pack holds" : " packs hold",
                               " prompts alone, and ", stats.dropped_packs == 1 ? "was" : "were",
                               " dropped; use sft.packing_strategy: bfd, or raise "
                               "training.max_length"));
  }
  if (stats.equal_pairs > 0) {
    const int64_t pairs = stats.pairs > 0 ? stats.pairs : stats.rows;
    sentences.Add(absl::StrCat("in ", sentences.Of(stats.equal_pairs, pairs),
                               " chosen and rejected are the same tokens, so they teach nothing; "
                               "remove them, or raise training.max_length if they differ further "
                               "on"));
  }
  sentences.AddIn(stats.empty_answers,
                  "an answer is empty, so the model learns to say nothing there; complete or "
                  "remove them");
  sentences.AddIn(stats.empty_prompts,
                  "the prompt is empty; where another column than prompt holds it, name it in " +
                      fields.columns + " (prompt: question)");
  sentences.AddIn(stats.no_assistant,
                  "no assistant speaks, so the model learns to write what others say; " +
                      fields.roles + " says which of the file's roles is the assistant's");
  WarnOfLeftOut(fields, stats, &sentences);
  sentences.AddIn(stats.boundary_merges,
                  "tokens merge across the end of the prompt, so the model trains on another "
                  "context than it answers in; end prompts on a token boundary");
  return sentences.Take();
}

void AddSplitWarning(const std::vector<std::string>& left_out, SplitUse use,
                     std::vector<std::string>* warnings) {
  if (left_out.empty()) return;
  const std::string folder = std::filesystem::path(left_out.front()).parent_path().string();
  std::vector<std::string> names;
  for (const std::string& file : left_out) {
    if (names.size() == kNamedFiles) {
      names.push_back(absl::StrCat("... (", left_out.size(), " files)"));
      break;
    }
    names.push_back(std::filesystem::path(file).filename().string());
  }
  const bool train = use == SplitUse::kTraining;
  std::string remedy;
  const auto held_out = std::ranges::find_if(
      left_out, [](const std::string& file) { return IsHeldOut(SplitOf(file)); });
  const bool is_held_out = held_out != left_out.end();
  if (is_held_out) {
    remedy =
        absl::StrCat("; to evaluate on such a file, name it in dataset.eval_uri (", *held_out, ")");
  }
  const std::string pattern = PatternOfAll(folder);
  if (!train && is_held_out) {
    // All would be train, too.
  } else if (!pattern.empty()) {
    absl::StrAppend(&remedy, "; to ", train ? "train" : "evaluate",
                    " on all, name a pattern instead of the folder (", pattern, ")");
  } else if (train) {
    absl::StrAppend(&remedy, "; to train on all, name each file in dataset.sources");
  }
  // Of held-out files, test's alone are left out of an evaluation.
  const char* const taken = train         ? "the training split, which alone is trained on"
                            : is_held_out ? "the split validation, which alone is evaluated on"
                                          : "the split that is evaluated on";
  warnings->push_back(absl::StrCat(folder, ": its files are by their names not all of ", taken,
                                   "; left out: ", absl::StrJoin(names, ", "), remedy));
}

void AddEvalFormatWarning(const std::vector<liger::v1::DatasetFormat>& eval,
                          const std::vector<liger::v1::DatasetFormat>& train,
                          const LoadOptions& options, std::vector<std::string>* warnings) {
  const bool by_format =
      options.method == liger::v1::JobSpec::kSft && options.completion_only_loss.value_or(true) &&
      !options.sft_loss.assistant_only_loss && options.sft_loss.response_template.empty();
  if (!by_format || eval.empty() || train.empty()) return;
  const auto trained = train[0];
  constexpr auto kTokenized = liger::v1::DATASET_FORMAT_TOKENIZED;
  if (eval[0] == kTokenized || trained == kTokenized) return;
  if (TrainsAnswers(eval[0]) == TrainsAnswers(trained)) return;
  const char* const kOf[] = {"all tokens", "the answers alone"};
  warnings->push_back(absl::StrCat("dataset.eval_uri: rows are read as ", FormatName(eval[0]),
                                   ", so eval_loss is of ", kOf[TrainsAnswers(eval[0])],
                                   ", and training rows as ", FormatName(trained), ", of which ",
                                   kOf[TrainsAnswers(trained)],
                                   " are trained on; give both files the same columns "
                                   "(dataset.columns is for both, sources[i].columns for one)"));
}

}  // namespace liger::trainer
