#include "worker/trainer/loop/inputs.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <set>
#include <span>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "common/file.h"
#include "common/plural.h"
#include "common/spec/kto_weights.h"
#include "worker/trainer/data/row_warnings.h"
#include "worker/trainer/data/token_cache.h"
#include "worker/trainer/error.h"
#include "worker/trainer/loop/best_model.h"
#include "worker/trainer/loop/cached_inputs.h"
#include "worker/trainer/loop/paths.h"

namespace liger::trainer {
namespace {

// Where temporary files may be made: with the attempt's, which the agent clears away,
// or with other temporary ones.
std::string ScratchFolder(const Request& request) {
  const std::string& attempt = request.launch.attempt_dir();
  if (!attempt.empty() && std::filesystem::is_directory(attempt)) return attempt;
  return std::filesystem::temp_directory_path().string();
}

// LIGER_DATA_MEMORY_MB, in bytes.
int64_t MostTokenBytes() {
  const char* text = std::getenv("LIGER_DATA_MEMORY_MB");
  if (text == nullptr || *text == '\0') return LoadOptions().most_token_bytes;
  int64_t megabytes = 0;
  const char* end = text + std::strlen(text);
  const auto parsed = std::from_chars(text, end, megabytes);
  if (parsed.ec != std::errc() || parsed.ptr != end || megabytes < 0 || megabytes > (1 << 30)) {
    throw ConfigError(
        std::string("LIGER_DATA_MEMORY_MB='") + text + "' is not a whole number of megabytes",
        "set it to a number such as 1024, or to 0 for no bound");
  }
  return megabytes << 20;
}

LoadOptions MakeLoadOptions(const Request& request, const InputPaths& paths,
                            const ModelConfig& config) {
  const liger::v1::JobSpec& spec = request.spec();
  LoadOptions options;
  options.method = spec.method_case();
  if (spec.has_sft() && spec.sft().has_completion_only_loss()) {
    options.completion_only_loss = spec.sft().completion_only_loss();
  }
  options.sft_loss = {.assistant_only_loss = spec.sft().assistant_only_loss(),
                      .response_template = spec.sft().response_template(),
                      .instruction_template = spec.sft().instruction_template()};
  options.max_length = spec.training().max_length();
  options.keep_end = spec.training().truncation_mode() == "keep_end";
  options.data_seed = static_cast<uint64_t>(spec.training().data_seed());
  options.max_rows = request.launch.check_max_rows();
  if (options.max_rows > 0 && request.launch.check_seconds() > 0) {
    options.read_until = std::chrono::steady_clock::now() +
                         std::chrono::milliseconds(
                             static_cast<int64_t>(1000 * request.launch.check_seconds()));
  }
  options.train_files = paths.train_files;
  options.eval_files = paths.eval_files;
  if (spec.sft().packing()) options.packing = ParsePackingStrategy(spec.sft().packing_strategy());
  options.vocab_size = config.vocab_size;
  options.scratch_dir = ScratchFolder(request);
  options.most_token_bytes = MostTokenBytes();
  return options;
}

// See RequireDigests.
absl::StatusOr<std::string> DigestOf(const std::vector<std::string>& files) {
  std::string lines;
  for (const std::string& file : files) {
    absl::StatusOr<std::string> digest = Sha256File(file);
    if (!digest.ok() || files.size() == 1) return digest;
    lines += *digest + "\n";
  }
  return Sha256(lines);
}

void RequireDigest(const std::string& field, const std::string& expected,
                   const std::vector<std::string>& files) {
  if (expected.empty()) return;
  const std::string what =
      files.size() == 1 ? files[0] : "the " + std::to_string(files.size()) + " files together";
  const absl::StatusOr<std::string> actual = DigestOf(files);
  if (!actual.ok()) {
    throw ConfigError(field + ": cannot be checked: " + std::string(actual.status().message()),
                      "leave the digest out, or name a model that has a manifest.json")
        .Field(field)
        .File(files[0]);
  }
  if (*actual == expected) return;
  throw ConfigError(field + ": " + what + " is " + *actual + ", not " + expected,
                    "the file has changed: put the right one there, or correct the digest")
      .Field(field)
      .File(files[0]);
}

std::string SourceField(int index, const char* field) {
  return "dataset.sources[" + std::to_string(index) + "]." + field;
}

// A tokenizer may know more ids than the model has rows; using one would read
// past the embedding.
void RequireIdsBelow(int64_t vocab_size, const ExampleSet& set, const std::string& rows) {
  for (size_t i = 0; i < set.sequences.size(); ++i) {
    const auto& ids = set.sequences[i].input_ids;
    const auto bad = std::find_if(ids.begin(), ids.end(),
                                  [vocab_size](int32_t id) { return id < 0 || id >= vocab_size; });
    if (bad == ids.end()) continue;
    throw DataError(rows + ": token id " + std::to_string(*bad) + " is outside of the model's " +
                        std::to_string(vocab_size) + " embeddings",
                    "use the tokenizer that belongs to the model, or resize its embeddings");
  }
}

// The section's field that the job has: a catalog gives a name its URI.
template <typename Section>
std::string NameOrUri(const std::string& section, const Section& spec) {
  return section + (spec.name().empty() && !spec.uri().empty() ? ".uri" : ".name");
}

void ResolveModel(const Request& request, InputPaths& paths) {
  const liger::v1::ModelSpec& model = request.spec().model();
  const ModelShape* shape = model.random_init() ? FindModelShape(model.name()) : nullptr;
  const std::string field = NameOrUri("model", model);
  if (shape == nullptr) {
    paths.model_dir = ResolveFolder(model.uri(), model.name(), request.roots(), field);
    return;
  }
  const auto found = FindInput(model.uri(), model.name(), request.roots(), field);
  if (found && std::filesystem::exists(*found + "/config.json")) {
    paths.model_dir = *found;
    return;
  }
  paths.shape = std::make_shared<const ShapeFolder>(*shape, found, ScratchFolder(request));
  paths.model_dir = paths.shape->path();
}

// nullopt: the rows are neither looked for nor kept.
std::optional<TokenCache> MakeCache(const Request& request, const InputPaths& paths,
                                    const TextInputs& text) {
  // The first rows of a large file are sooner read than its digest is taken.
  if (request.data_cache.dir.empty() || request.launch.check_max_rows() > 0) return std::nullopt;
  const ClockUse clock = text.chat_template ? text.chat_template->clock_use() : ClockUse::kNone;
  if (clock == ClockUse::kTime) return std::nullopt;
  return TokenCache(request.data_cache, [dir = paths.model_dir, clock] {
    return CachedInputs(dir, clock == ClockUse::kDate);
  });
}

// KTO's KL term is estimated with the answers of other rows; what to train on has two at least.
void RequireOtherAnswers(const liger::v1::JobSpec& spec, const Dataset& dataset) {
  const bool all_read = dataset.unread_rows + dataset.unread_eval_rows == 0;
  const bool estimates_kl = spec.has_kto() && spec.kto().loss_type() != "apo_zero_unpaired";
  if (!estimates_kl || !all_read || dataset.eval.num_rows() != 1) return;
  const bool share = spec.dataset().eval_uri().empty();
  throw DataError(
             "the evaluation set has one row, and kto no other row's answer to estimate its KL "
             "term with",
             share ? "Raise dataset.eval_fraction." : "Give an evaluation set of two at least.")
      .Field(share ? "dataset.eval_fraction" : "dataset.eval_uri");
}

// Whether some micro-batch of an evaluation has rows of both labels.
bool AnyHasBoth(const std::vector<uint8_t>& desirable, int64_t rows_per_batch) {
  const auto size = std::ssize(desirable);
  for (int64_t begin = 0; begin < size; begin += rows_per_batch) {
    const auto batch = std::span(desirable).subspan(begin, std::min(rows_per_batch, size - begin));
    const auto wanted = std::ranges::count(batch, 1);
    if (wanted > 0 && wanted < std::ssize(batch)) return true;
  }
  return false;
}

// KTO's metrics of one label are there only where it is, and its margins, as TRL has them, where a
// micro-batch has both: one that decides which model is kept must not be found missing after hours.
void RequireDecidingMetric(const liger::v1::JobSpec& spec, const Dataset& dataset) {
  const liger::v1::TrainingSpec& training = spec.training();
  if (!spec.has_kto() || !BestModel(training).tracks() || dataset.eval.num_rows() == 0 ||
      dataset.unread_rows + dataset.unread_eval_rows > 0) {
    return;
  }
  const std::vector<uint8_t>& desirable = dataset.eval.desirable;
  const std::string& metric = training.metric_for_best_model();
  std::string why;
  if (metric.ends_with("/chosen") && std::ranges::count(desirable, 1) == 0) {
    why = "no evaluation row's label is true";
  } else if (metric.ends_with("/rejected") && std::ranges::count(desirable, 0) == 0) {
    why = "no evaluation row's label is false";
  } else if (metric.ends_with("rewards/margins") &&
             !AnyHasBoth(desirable, training.per_device_eval_batch_size())) {
    why = absl::StrCat("no ", training.per_device_eval_batch_size(),
                       " evaluation rows behind each other (per_device_eval_batch_size) have both "
                       "labels");
  }
  if (why.empty()) return;
  throw ConfigError("evaluations will have no " + metric + ": " + why,
                    "use another metric_for_best_model (eval_loss), a larger "
                    "per_device_eval_batch_size, or an evaluation set that has both labels mixed")
      .Field("training.metric_for_best_model");
}

// Of the files that a source leaves out, those that are not among `used` (RealPaths).
std::vector<std::string> Without(std::vector<std::string> left_out,
                                 const std::set<std::string>& used) {
  std::erase_if(left_out, [&](const std::string& file) {
    const std::set<std::string> real = RealPaths({file});
    return real.empty() || used.contains(*real.begin());
  });
  return left_out;
}

// Tells of files that the job does not use at all, of held-out ones that both leave out once, and
// of those that it has for both.
void AddSplitWarnings(const std::vector<SplitFiles>& sources, const SplitFiles& eval,
                      const std::vector<std::string>& trained, std::vector<std::string>* warnings) {
  std::set<std::string> used = RealPaths(trained);
  std::set<std::string> of_eval = RealPaths(eval.files);
  std::vector<std::string> both;
  std::ranges::set_intersection(used, of_eval, std::back_inserter(both));
  if (!both.empty()) {
    warnings->push_back(absl::StrCat(
        "dataset.eval_uri: ", std::filesystem::path(both.front()).filename().string(),
        both.size() == 1 ? " is"
                         : absl::StrCat(" and ", Plural(both.size() - 1, "more file"), " are"),
        " trained on, too: evaluations will not tell how the model does on rows it has not seen"));
  }
  used.merge(of_eval);
  const std::vector<std::string> left_by_eval = Without(eval.left_out, used);
  for (const std::string& file : left_by_eval) {
    if (IsHeldOut(SplitOf(file))) used.merge(RealPaths({file}));
  }
  for (const SplitFiles& source : sources) {
    AddSplitWarning(Without(source.left_out, used), SplitUse::kTraining, warnings);
  }
  AddSplitWarning(left_by_eval, SplitUse::kEvaluation, warnings);
}

void ResolveData(const Request& request, InputPaths& paths) {
  const liger::v1::DatasetSpec& dataset = request.spec().dataset();
  const auto roots = request.roots();
  std::vector<SplitFiles> sources;
  for (int i = 0; i < dataset.sources_size(); ++i) {
    sources.push_back(
        ResolveInputFiles(dataset.sources(i).uri(), "", roots, SourceField(i, "uri")));
  }
  if (dataset.sources().empty()) {
    sources = {
        ResolveInputFiles(dataset.uri(), dataset.name(), roots, NameOrUri("dataset", dataset))};
  }
  std::vector<std::string> trained;
  for (const SplitFiles& source : sources) {
    paths.train_files.push_back(source.files);
    trained.insert(trained.end(), source.files.begin(), source.files.end());
  }
  SplitFiles eval;
  if (!dataset.eval_uri().empty()) {
    eval = ResolveInputFiles(dataset.eval_uri(), "", roots, "dataset.eval_uri",
                             SplitUse::kEvaluation, trained);
  }
  paths.eval_files = eval.files;
  AddSplitWarnings(sources, eval, trained, &paths.warnings);
}

}  // namespace

InputPaths InputPaths::Resolve(const Request& request) {
  const liger::v1::JobSpec& spec = request.spec();
  const auto roots = request.roots();
  InputPaths paths;
  ResolveModel(request, paths);
  ResolveData(request, paths);
  if (!spec.lora().adapter_uri().empty()) {
    paths.adapter_dir = ResolveFolder(spec.lora().adapter_uri(), "", roots, "lora.adapter_uri");
  }
  return paths;
}

void RequireDigests(const liger::v1::JobSpec& spec, const InputPaths& paths) {
  RequireDigest("model.digest", spec.model().digest(), {paths.model_dir + "/manifest.json"});
  const liger::v1::DatasetSpec& dataset = spec.dataset();
  RequireDigest("dataset.digest", dataset.digest(), paths.train_files.front());
  for (int i = 0; i < dataset.sources_size(); ++i) {
    RequireDigest(SourceField(i, "digest"), dataset.sources(i).digest(), paths.train_files.at(i));
  }
}

TextInputs TextInputs::Load(const InputPaths& paths) {
  TextInputs text;
  if (paths.shape && !paths.shape->has_tokenizer()) {
    text.tokenizer = Tokenizer::Absent(
        ConfigError("there is no tokenizer: model.random_init took the model's published shape, "
                    "which has none, and the rows or sample prompts are text",
                    "put the model's tokenizer files (tokenizer.json, tokenizer_config.json) into "
                    "its folder below the worker's model root, or use rows of token ids "
                    "(input_ids)")
            .Field("model.random_init"));
    return text;
  }
  text.tokenizer = Tokenizer::FromFolder(paths.model_dir);
  text.chat_template = ChatTemplate::FromFolder(paths.model_dir);
  return text;
}

Dataset LoadData(const Request& request, const InputPaths& paths, const ModelConfig& config,
                 const TextInputs& text) {
  LoadOptions options = MakeLoadOptions(request, paths, config);
  std::optional<TokenCache> cache = MakeCache(request, paths, text);
  if (cache) options.cache = &*cache;
  Dataset dataset =
      LoadDataset(request.spec().dataset(), options, *text.tokenizer, text.template_or_null());
  dataset.warnings.insert(dataset.warnings.begin(), paths.warnings.begin(), paths.warnings.end());
  if (cache) {
    dataset.notes = cache->notes();
    const auto& warnings = cache->warnings();
    dataset.warnings.insert(dataset.warnings.end(), warnings.begin(), warnings.end());
  }
  if (text.tokenizer->max_id() >= config.vocab_size) {
    RequireIdsBelow(config.vocab_size, dataset.train, "the training rows");
    RequireIdsBelow(config.vocab_size, dataset.eval, "the evaluation rows");
  }
  RequireOtherAnswers(request.spec(), dataset);
  RequireDecidingMetric(request.spec(), dataset);
  if (dataset.unread_rows == 0) {
    const auto& desirable = dataset.train.desirable;
    const std::string advice = KtoWeightAdvice(
        request.spec().kto(), std::ranges::count(desirable, 1), std::ranges::count(desirable, 0));
    if (!advice.empty()) dataset.warnings.push_back(advice);
  }
  return dataset;
}

}  // namespace liger::trainer
