#include "worker/trainer/loop/run_state.h"

#include <nlohmann/json.hpp>

#include "worker/trainer/error.h"
#include "worker/trainer/json_file.h"

namespace liger::trainer {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr int kVersion = 1;

ordered_json ProgressJson(const Progress::State& progress) {
  ordered_json window = ordered_json::object();
  for (const auto& [name, sum] : progress.window) window[name] = {sum.sum, sum.weight};
  return {{"window", window},
          {"window_steps", progress.window_steps},
          {"window_tokens", progress.window_tokens},
          {"window_seconds", progress.window_seconds},
          {"window_flops", progress.window_flops},
          {"grad_norm", progress.grad_norm},
          {"learning_rate", progress.learning_rate},
          {"train_runtime", progress.train_seconds}};
}

Progress::State ReadProgress(const json& object, int64_t tokens_total) {
  Progress::State progress;
  for (const auto& [name, pair] : object.at("window").items()) {
    progress.window[name] = {pair.at(0).get<double>(), pair.at(1).get<double>()};
  }
  object.at("window_steps").get_to(progress.window_steps);
  object.at("window_tokens").get_to(progress.window_tokens);
  object.at("window_seconds").get_to(progress.window_seconds);
  progress.window_flops = object.value("window_flops", 0.0);
  object.at("grad_norm").get_to(progress.grad_norm);
  object.at("learning_rate").get_to(progress.learning_rate);
  object.at("train_runtime").get_to(progress.train_seconds);
  progress.tokens_total = tokens_total;
  return progress;
}

RunState Read(const json& object) {
  RunState state;
  state.job_uid = object.value("job_uid", "");
  object.at("global_step").get_to(state.step);
  object.at("max_steps").get_to(state.max_steps);
  object.at("epoch").get_to(state.epoch);
  object.at("data_position").at("epoch").get_to(state.position.epoch);
  object.at("data_position").at("row").get_to(state.position.row);
  object.at("data").at("rows").get_to(state.rows);
  object.at("data").at("tokens").get_to(state.tokens);
  object.at("data").at("target_tokens").get_to(state.target_tokens);
  state.digest = object.at("data").value("digest", int64_t{0});
  if (const auto it = object.find("model"); it != object.end()) {  // older ones have none
    it->at("shapes").get_to(state.model.shapes);
    it->at("weights").get_to(state.model.weights);
    state.model.settings = it->value("settings", state.model.settings);
    state.model.text_files = it->value("text_files", state.model.text_files);
  }
  state.progress =
      ReadProgress(object.at("progress"), object.at("num_input_tokens_seen").get<int64_t>());
  if (!object.at("best_metric").is_null())
    state.best.metric = object.at("best_metric").get<double>();
  object.at("best_global_step").get_to(state.best.step);
  object.at("early_stopping_patience_used").get_to(state.best.patience_used);
  state.best.of = object.value("best_metric_of", "");  // older ones have none
  state.best.rows = object.value("best_metric_rows", "");
  object.at("eval_losses").get_to(state.eval_losses);
  object.at("last_evaluated_step").get_to(state.last_evaluated_step);
  object.at("last_loss").get_to(state.last_loss);
  for (const auto& mark : object.at("checkpoints")) {
    state.checkpoints.push_back({mark.at("step").get<int64_t>(), mark.at("best").get<bool>()});
  }
  return state;
}

}  // namespace

std::string RunState::ToJson() const {
  ordered_json marks = ordered_json::array();
  for (const CheckpointMark& mark : checkpoints) {
    marks.push_back({{"step", mark.step}, {"best", mark.best}});
  }
  const ordered_json object = {
      {"version", kVersion},
      {"job_uid", job_uid},
      {"global_step", step},
      {"max_steps", max_steps},
      {"epoch", epoch},
      {"num_input_tokens_seen", progress.tokens_total},
      {"data_position", {{"epoch", position.epoch}, {"row", position.row}}},
      {"data",
       {{"rows", rows}, {"tokens", tokens}, {"target_tokens", target_tokens}, {"digest", digest}}},
      {"model",
       {{"shapes", model.shapes},
        {"weights", model.weights},
        {"settings", model.settings},
        {"text_files", model.text_files}}},
      {"best_metric", best.metric ? ordered_json(*best.metric) : ordered_json()},
      {"best_global_step", best.step},
      {"best_metric_of", best.of},
      {"best_metric_rows", best.rows},
      {"early_stopping_patience_used", best.patience_used},
      {"eval_losses", eval_losses},
      {"last_evaluated_step", last_evaluated_step},
      {"last_loss", last_loss},
      {"progress", ProgressJson(progress)},
      {"checkpoints", marks}};
  return object.dump(2) + "\n";
}

RunState RunState::FromFile(const std::string& path) {
  const json object = ReadJsonObject(path);
  const auto fail = [&](const std::string& why) {
    return ConfigError(path + " is no state of a training run: " + why,
                       "resume from another checkpoint")
        .File(path);
  };
  if (object.value("version", json()) != kVersion) {
    throw fail("its version is not " + std::to_string(kVersion));
  }
  try {
    return Read(object);
  } catch (const json::exception& error) {
    throw fail(error.what());
  }
}

void RunState::SetData(const DataStats& stats) {
  rows = stats.rows;
  tokens = stats.tokens;
  target_tokens = stats.target_tokens;
  digest = stats.digest;
}

void RunState::RequireSameShapes(const std::string& shapes, const std::string& checkpoint) const {
  if (model.shapes.empty() || model.shapes == shapes) return;
  throw ConfigError("checkpoint " + checkpoint +
                        " is of another model: its parameters have other names or shapes",
                    "resume with the model that the run was started with, or start a new run from "
                    "the model in the checkpoint (model.uri)")
      .Field("training.resume_from_checkpoint")
      .File(checkpoint);
}

void RunState::RequireSameWeights(const std::string& weights,
                                  const std::string& checkpoint) const {
  if (model.shapes.empty() || model.weights == weights) return;
  throw ConfigError("checkpoint " + checkpoint +
                        " is of another model: what it builds on had other weights when the run "
                        "began",
                    "put back the weights that the run was started with, or start a new run")
      .Field("training.resume_from_checkpoint")
      .File(checkpoint);
}

void RunState::RequireSameSettings(const std::map<std::string, std::string>& settings,
                                   const std::string& model_dir,
                                   const std::string& checkpoint) const {
  for (const auto& [name, value] : settings) {
    const auto before = model.settings.find(name);
    if (before == model.settings.end() || before->second == value) continue;
    const std::string file = model_dir + "/config.json";
    throw ConfigError("checkpoint " + checkpoint + " is of another model: " + file + " says " +
                          name + " " + value + ", and said " + before->second +
                          " when the run began",
                      "put that file back as it was, or start a new run")
        .Field("training.resume_from_checkpoint")
        .File(file);
  }
}

std::string RunState::ChangedTextFile(const std::map<std::string, std::string>& text_files,
                                      const std::string& model_dir) const {
  if (model.text_files.empty()) return "";
  std::map<std::string, std::string> all = text_files;
  all.insert(model.text_files.begin(), model.text_files.end());
  for (const auto& [name, digest] : all) {
    const auto before = model.text_files.find(name);
    const bool same = before != model.text_files.end() && before->second == digest;
    if (!same || !text_files.contains(name)) return model_dir + "/" + name;
  }
  return "";
}

void RunState::RequireSameData(const DataStats& stats, const std::string& checkpoint,
                               const std::string& changed_text_file) const {
  const bool as_many =
      rows == stats.rows && tokens == stats.tokens && target_tokens == stats.target_tokens;
  if (as_many && (digest == stats.digest || digest == 0 || stats.digest == 0)) return;
  const auto describe = [](int64_t r, int64_t t, int64_t targets) {
    return std::to_string(r) + " rows of " + std::to_string(t) + " tokens (" +
           std::to_string(targets) + " trained)";
  };
  throw DataError("dataset: has " + describe(stats.rows, stats.tokens, stats.target_tokens) +
                      ", and the run of checkpoint " + checkpoint + " had " +
                      (as_many ? "as many, but other ones or in another order"
                               : describe(rows, tokens, target_tokens)) +
                      (changed_text_file.empty()
                           ? ""
                           : "; " + changed_text_file + " has changed since the run began"),
                  "resume with the data and the tokenizer that the run was started with")
      .Field("dataset");
}

void RunState::RequireNotPast(int64_t last_step, const std::string& field,
                              const std::string& checkpoint) const {
  if (step <= last_step) return;
  throw ConfigError(field + ": the checkpoint " + checkpoint + " is at step " +
                        std::to_string(step) + " already, and the job ends at " +
                        std::to_string(last_step),
                    "raise " + field)
      .Field(field);
}

}  // namespace liger::trainer
