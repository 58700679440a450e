#include "tests/unit/loop/tiny_job.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "common/spec/spec.h"
#include "tests/devices.h"
#include "worker/trainer/loop/reporter.h"
#include "worker/trainer/loop/run_task.h"

namespace liger::trainer {
namespace {

namespace tv1 = liger::trainer::v1;

constexpr int kEndOfText = 256;
constexpr int kVocabulary = 260;

std::string Utf8(int code_point) {
  if (code_point < 0x80) return std::string(1, char(code_point));
  return {char(0xc0 | (code_point >> 6)), char(0x80 | (code_point & 0x3f))};
}

// The byte-level alphabet: printable bytes stand for themselves, the others
// for code points from 256 on.
nlohmann::json ByteVocabulary() {
  nlohmann::json vocabulary;
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    vocabulary[Utf8(printable ? byte : next++)] = byte;
  }
  return vocabulary;
}

nlohmann::json TokenizerJson() {
  const nlohmann::json byte_level = {{"type", "ByteLevel"},
                                     {"add_prefix_space", false},
                                     {"trim_offsets", true},
                                     {"use_regex", true}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens",
           {{{"id", kEndOfText},
             {"content", "<|endoftext|>"},
             {"single_word", false},
             {"lstrip", false},
             {"rstrip", false},
             {"normalized", false},
             {"special", true}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", nullptr},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"vocab", ByteVocabulary()},
            {"merges", nlohmann::json::array()}}}};
}

nlohmann::json ConfigJson() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"vocab_size", kVocabulary},
          {"hidden_size", 32},
          {"intermediate_size", 64},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"max_position_embeddings", 256},
          {"rms_norm_eps", 1e-5},
          {"initializer_range", 0.05},
          {"rope_theta", 10000.0},
          {"tie_word_embeddings", true},
          {"hidden_act", "silu"},
          {"attention_bias", false},
          {"mlp_bias", false},
          {"bos_token_id", kEndOfText},
          {"eos_token_id", kEndOfText},
          {"torch_dtype", "float32"}};
}

std::string SftRows() {
  std::string rows;
  const char* answers[] = {"red", "green", "blue", "white"};
  for (int i = 0; i < 24; ++i) {
    rows += nlohmann::json({{"prompt", "colour " + std::to_string(i % 4) + "? "},
                            {"completion", std::string(answers[i % 4]) + std::string(i % 5, '!')}})
                .dump() +
            "\n";
  }
  return rows;
}

std::string PairRows() {
  std::string rows;
  for (int i = 0; i < 16; ++i) {
    rows += nlohmann::json({{"prompt", "say yes " + std::to_string(i) + ": "},
                            {"chosen", "yes" + std::string(i % 3, '.')},
                            {"rejected", "no, never" + std::string(i % 4, '.')}})
                .dump() +
            "\n";
  }
  return rows;
}

std::string LabelledRows() {
  std::string rows;
  for (int i = 0; i < 32; ++i) {
    const bool wanted = i % 2 == 0;
    rows +=
        nlohmann::json({{"prompt", "say yes " + std::to_string(i) + ": "},
                        {"completion", (wanted ? "yes" : "no, never") + std::string(i % 3, '.')},
                        {"label", wanted}})
            .dump() +
        "\n";
  }
  return rows;
}

}  // namespace

tv1::Event RecordingSink::Last(tv1::Event::EventCase kind) const {
  const auto all = All(kind);
  return all.empty() ? tv1::Event() : all.back();
}

std::vector<tv1::Event> RecordingSink::All(tv1::Event::EventCase kind) const {
  std::vector<tv1::Event> all;
  for (const auto& event : events) {
    if (event.event_case() == kind) all.push_back(event);
  }
  return all;
}

TinyJob::TinyJob() {
  std::string name = (std::filesystem::temp_directory_path() / "liger_tiny_XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) std::abort();
  dir_ = std::filesystem::canonical(name).string();
  std::filesystem::create_directory(Path("model"));
  WriteFile("model/config.json", ConfigJson().dump());
  WriteFile("model/tokenizer.json", TokenizerJson().dump());
  WriteFile("model/tokenizer_config.json",
            R"({"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"})");
  WriteFile("sft.jsonl", SftRows());
  WriteFile("pairs.jsonl", PairRows());
  WriteFile("labelled.jsonl", LabelledRows());
}

TinyJob::~TinyJob() {
  std::error_code ignored;
  std::filesystem::remove_all(dir_, ignored);
}

void TinyJob::WriteFile(const std::string& name, const std::string& content) const {
  std::ofstream(Path(name)) << content;
}

Request TinyJob::Base() const {
  Request request;
  request.launch.set_version(1);
  request.launch.set_task_kind(tv1::TASK_KIND_TRAIN);
  request.launch.set_attempt_dir(Path("attempt"));
  auto* spec = request.launch.mutable_resolved_spec();
  spec->set_name("tiny");
  spec->mutable_model()->set_name(Path("model"));
  spec->mutable_model()->set_random_init(true);
  auto* training = spec->mutable_training();
  training->set_max_steps(8);
  training->set_learning_rate(1e-2);
  training->set_per_device_train_batch_size(4);
  training->set_max_length(64);
  if (OnGpus()) {
    spec->mutable_resources()->set_device_kind(liger::v1::DEVICE_KIND_CUDA);
    training->set_deterministic(true);
  }
  return request;
}

Request TinyJob::Sft() const {
  Request request = Base();
  auto* spec = request.launch.mutable_resolved_spec();
  spec->mutable_sft();
  spec->mutable_dataset()->set_uri(Path("sft.jsonl"));
  spec->mutable_dataset()->set_eval_fraction(0.25);
  spec->mutable_training()->add_sample_prompts("colour 1? ");
  spec->mutable_training()->set_sample_max_new_tokens(8);
  FillDefaults(spec);
  return request;
}

Request TinyJob::Orpo() const {
  Request request = Base();
  auto* spec = request.launch.mutable_resolved_spec();
  spec->mutable_orpo();
  spec->mutable_dataset()->set_uri(Path("pairs.jsonl"));
  FillDefaults(spec);
  return request;
}

Request TinyJob::Dpo() const {
  Request request = Base();
  auto* spec = request.launch.mutable_resolved_spec();
  spec->mutable_dpo();
  spec->mutable_dataset()->set_uri(Path("pairs.jsonl"));
  spec->mutable_dataset()->set_eval_fraction(0.25);
  FillDefaults(spec);
  return request;
}

Request TinyJob::Kto() const {
  Request request = Base();
  auto* spec = request.launch.mutable_resolved_spec();
  spec->mutable_kto();
  spec->mutable_dataset()->set_uri(Path("labelled.jsonl"));
  spec->mutable_training()->set_per_device_train_batch_size(12);  // so that each has both labels
  spec->mutable_dataset()->set_eval_fraction(0.25);
  FillDefaults(spec);
  return request;
}

TaskOutcome RunRecorded(const Request& request) {
  TaskOutcome outcome;
  Reporter reporter({&outcome.sink});
  StopFlag stop;
  outcome.exit_code = RunTask(request, reporter, stop);
  return outcome;
}

std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

}  // namespace liger::trainer
