#include "common/spec/spec.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/data_files.h"
#include "common/file.h"

namespace liger {

using liger::v1::JobSpec;
using liger::v1::TrainingSpec;

std::string MethodName(const JobSpec& spec) {
  const auto* oneof = JobSpec::descriptor()->FindOneofByName("method");
  const auto* field = spec.GetReflection()->GetOneofFieldDescriptor(spec, oneof);
  return field == nullptr ? "" : field->name();
}

std::string DatasetTitle(const liger::v1::DatasetSpec& dataset) {
  if (!dataset.name().empty()) return dataset.name();
  std::string title = dataset.uri();
  for (const auto& source : dataset.sources()) title += (title.empty() ? "" : ", ") + source.uri();
  return title;
}

bool LooksLikePath(std::string_view name) {
  return name.find('/') != std::string_view::npos || name.starts_with('.') ||
         name.starts_with('~') || NamesDataFile(name) || IsPattern(name);
}

namespace {

// Sets an optional field that has no value yet.
#define LIGER_DEFAULT(message, field, value) \
  if (!(message)->has_##field()) (message)->set_##field(value)

void FillMethod(JobSpec* spec) {
  if (spec->has_sft()) {
    LIGER_DEFAULT(spec->mutable_sft(), packing, false);
    if (spec->sft().packing() && spec->sft().packing_strategy().empty()) {
      spec->mutable_sft()->set_packing_strategy("bfd");
    }
  }
  if (spec->has_orpo()) LIGER_DEFAULT(spec->mutable_orpo(), beta, 0.1);
  if (spec->has_sft()) {
    auto* sft = spec->mutable_sft();
    LIGER_DEFAULT(sft, assistant_only_loss, false);
    LIGER_DEFAULT(sft, label_smoothing_factor, 0.0);
    LIGER_DEFAULT(sft, z_loss_weight, 0.0);
    LIGER_DEFAULT(sft, neftune_noise_alpha, 0.0);
  }
  if (spec->has_cpo()) {
    auto* cpo = spec->mutable_cpo();
    LIGER_DEFAULT(cpo, beta, 0.1);
    if (cpo->loss_type().empty()) cpo->set_loss_type("sigmoid");
    LIGER_DEFAULT(cpo, label_smoothing, 0.0);
    LIGER_DEFAULT(cpo, cpo_alpha, 1.0);
    LIGER_DEFAULT(cpo, simpo_gamma, 0.5);
  }
  if (spec->has_dpo()) {
    auto* dpo = spec->mutable_dpo();
    LIGER_DEFAULT(dpo, beta, 0.1);
    if (dpo->loss_type().empty()) dpo->add_loss_type("sigmoid");
    const auto& types = dpo->loss_type();
    const bool exo = std::find(types.begin(), types.end(), "exo_pair") != types.end();
    LIGER_DEFAULT(dpo, label_smoothing, exo ? 1e-3 : 0.0);
    if (dpo->loss_weights().empty()) {
      for (int i = 0; i < types.size(); ++i) dpo->add_loss_weights(1.0);
    }
    if (dpo->f_divergence_type().empty()) dpo->set_f_divergence_type("reverse_kl");
    LIGER_DEFAULT(dpo, f_alpha_divergence_coef, 0.5);
    LIGER_DEFAULT(dpo, use_weighting, false);
    LIGER_DEFAULT(dpo, discopop_tau, 0.05);
    LIGER_DEFAULT(dpo, precompute_ref_log_probs, false);
    LIGER_DEFAULT(dpo, sync_ref_model, false);
    LIGER_DEFAULT(dpo, ref_model_mixup_alpha, 0.6);
    LIGER_DEFAULT(dpo, ref_model_sync_steps, 512);
  }
  if (spec->has_kto()) {
    LIGER_DEFAULT(spec->mutable_kto(), beta, 0.1);
    LIGER_DEFAULT(spec->mutable_kto(), desirable_weight, 1.0);
    LIGER_DEFAULT(spec->mutable_kto(), undesirable_weight, 1.0);
    if (spec->kto().loss_type().empty()) spec->mutable_kto()->set_loss_type("kto");
    LIGER_DEFAULT(spec->mutable_kto(), precompute_ref_log_probs, false);
  }
}

void FillLora(liger::v1::LoraSpec* lora) {
  LIGER_DEFAULT(lora, merge, false);
  if (!lora->adapter_uri().empty()) return;  // the rest is the folder's
  LIGER_DEFAULT(lora, r, 16);
  LIGER_DEFAULT(lora, lora_alpha, 2.0 * lora->r());
  LIGER_DEFAULT(lora, lora_dropout, 0.0);
  if (lora->target_modules().empty()) lora->add_target_modules("all-linear");
  LIGER_DEFAULT(lora, use_rslora, false);
  LIGER_DEFAULT(lora, use_dora, false);
}

void FillDtypes(TrainingSpec* training, bool cuda) {
  using namespace liger::v1;  // NOLINT: the enum values below read better bare
  if (training->precision() == PRECISION_UNSPECIFIED) {
    const bool bf16 = training->has_bf16() ? training->bf16() : cuda;
    training->set_precision(bf16 ? PRECISION_BF16_MIXED : PRECISION_FP32);
  }
  const Precision precision = training->precision();
  const bool bf16_storage =
      precision == PRECISION_BF16_STOCHASTIC || precision == PRECISION_BF16_NEAREST;
  const DType storage = bf16_storage ? DTYPE_BF16 : DTYPE_FP32;
  const DType compute = precision == PRECISION_FP32 ? DTYPE_FP32 : DTYPE_BF16;
  if (training->storage_dtype() == DTYPE_UNSPECIFIED) training->set_storage_dtype(storage);
  if (training->compute_dtype() == DTYPE_UNSPECIFIED) training->set_compute_dtype(compute);
  if (training->gradient_dtype() == DTYPE_UNSPECIFIED) training->set_gradient_dtype(storage);
  if (training->optimizer_dtype() == DTYPE_UNSPECIFIED) training->set_optimizer_dtype(storage);
  training->clear_bf16();  // said by precision now
}

void FillSteps(TrainingSpec* training) {
  if (training->lr_scheduler_type().empty()) training->set_lr_scheduler_type("linear");
  if (!training->has_warmup_steps()) LIGER_DEFAULT(training, warmup_ratio, 0.0);
  LIGER_DEFAULT(training, max_steps, 0);
  LIGER_DEFAULT(training, num_train_epochs, 3.0);
  LIGER_DEFAULT(training, per_device_train_batch_size, 8);
  LIGER_DEFAULT(training, per_device_eval_batch_size, training->per_device_train_batch_size());
  LIGER_DEFAULT(training, gradient_accumulation_steps, 1);
  LIGER_DEFAULT(training, max_length, 1024);
  if (training->truncation_mode().empty()) training->set_truncation_mode("keep_start");
  LIGER_DEFAULT(training, group_by_length, false);
}

// transformers' names of the same optimizers.
std::string OptimizerName(const std::string& name) {
  if (name.empty() || name == "adamw_torch" || name == "adamw_torch_fused") return "adamw";
  if (name == "adamw_bnb_8bit") return "adamw_8bit";
  return name == "lion_32bit" ? "lion" : name;
}

void FillRun(TrainingSpec* training) {
  training->set_optim(OptimizerName(training->optim()));
  LIGER_DEFAULT(training, sgd_momentum, 0.0);
  LIGER_DEFAULT(training, save_steps, 0);
  LIGER_DEFAULT(training, save_total_limit, 2);
  LIGER_DEFAULT(training, load_best_model_at_end, false);
  std::string* metric = training->mutable_metric_for_best_model();
  if (metric->empty()) *metric = "loss";
  LIGER_DEFAULT(training, greater_is_better, !metric->ends_with("loss"));
  LIGER_DEFAULT(training, early_stopping_patience, 0);
  LIGER_DEFAULT(training, early_stopping_threshold, 0.0);
}

void FillTraining(TrainingSpec* training, double learning_rate, bool cuda) {
  LIGER_DEFAULT(training, learning_rate, learning_rate);
  FillSteps(training);
  LIGER_DEFAULT(training, adam_beta1, 0.9);
  LIGER_DEFAULT(training, adam_beta2, 0.999);
  LIGER_DEFAULT(training, adam_epsilon, 1e-8);
  LIGER_DEFAULT(training, weight_decay, 0.0);
  LIGER_DEFAULT(training, max_grad_norm, 1.0);
  LIGER_DEFAULT(training, seed, 42);
  LIGER_DEFAULT(training, data_seed, training->seed());
  LIGER_DEFAULT(training, deterministic, false);
  FillDtypes(training, cuda);
  LIGER_DEFAULT(training, gradient_checkpointing, false);
  LIGER_DEFAULT(training, gradient_checkpointing_every, 1);
  LIGER_DEFAULT(training, gradient_checkpointing_keep_attention, false);
  LIGER_DEFAULT(training, activation_offloading, false);
  LIGER_DEFAULT(training, logging_steps, 1);
  LIGER_DEFAULT(training, eval_steps, 0);
  LIGER_DEFAULT(training, sample_max_new_tokens, 64);
  FillRun(training);
}

void FillDataset(liger::v1::DatasetSpec* dataset, TrainingSpec* training) {
  LIGER_DEFAULT(dataset, max_samples, 0);
  LIGER_DEFAULT(dataset, eval_fraction, 0.0);
  LIGER_DEFAULT(dataset, max_eval_samples, 0);
  LIGER_DEFAULT(dataset, shuffle, true);
  LIGER_DEFAULT(dataset, strict, false);
  const bool has_eval = dataset->eval_fraction() > 0 || !dataset->eval_uri().empty();
  LIGER_DEFAULT(training, eval_on_start, has_eval);
}

// What the mode means for a model's type is in the trainer's registry, so the
// switches stay as given.
void FillKernels(liger::v1::KernelSpec* kernels) {
  if (kernels->mode() == liger::v1::KERNEL_MODE_UNSPECIFIED) {
    kernels->set_mode(liger::v1::KERNEL_MODE_LIGER);
  }
}

}  // namespace

double DefaultLearningRate(const JobSpec& spec) { return spec.has_sft() ? 2e-5 : 1e-6; }

void FillDefaults(JobSpec* spec) {
  LIGER_DEFAULT(spec, priority, 0);
  LIGER_DEFAULT(spec->mutable_model(), random_init, false);
  FillMethod(spec);
  if (spec->has_lora()) FillLora(spec->mutable_lora());
  auto* resources = spec->mutable_resources();
  if (resources->device_kind() == liger::v1::DEVICE_KIND_UNSPECIFIED) {
    resources->set_device_kind(liger::v1::DEVICE_KIND_CPU);
  }
  LIGER_DEFAULT(resources, count, 1);
  FillTraining(spec->mutable_training(), DefaultLearningRate(*spec),
               resources->device_kind() == liger::v1::DEVICE_KIND_CUDA);
  FillDataset(spec->mutable_dataset(), spec->mutable_training());
  FillKernels(spec->mutable_kernels());
  // Below the worker's output root; said here, so that it is looked at before
  // hours of training.
  if (spec->output().uri().empty()) spec->mutable_output()->set_uri(spec->name());
  LIGER_DEFAULT(spec->mutable_output(), overwrite, false);
}

#undef LIGER_DEFAULT

std::string SpecHash(const JobSpec& resolved_spec) {
  JobSpec spec = resolved_spec;
  spec.clear_name();
  spec.clear_labels();
  spec.clear_priority();
  spec.clear_output();
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string json;
  // Printing a message of known fields to a string cannot fail.
  (void)google::protobuf::util::MessageToJsonString(spec, &json, options);
  return Sha256(nlohmann::json::parse(json).dump());  // nlohmann sorts keys
}

}  // namespace liger
