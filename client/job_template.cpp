#include "client/job_template.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/errors.h"

namespace liger::client {
namespace {

// No row of alpaca-en-demo is longer (with SmolLM2's tokenizer: 742 tokens).
constexpr char kSftLength[] =
    "  max_length: 768               # tokens of a row; longer rows are cut (default 1024)\n"
    "  # truncation_mode: keep_start # cut at the end; keep_end: at the start\n";
// Some rows of dpo-en-demo and kto-en-demo are longer, a few by their prompt alone: cut at the end
// they would have no answer left and be dropped. Cut at the start they lose of their prompt first.
constexpr char kPreferenceLength[] =
    "  max_length: 2048              # tokens of a row; longer rows are cut (default 1024)\n"
    "  truncation_mode: keep_end     # cut at the start, the prompt first (default keep_start)\n";

constexpr char kTemplate[] = R"(# A fine-tuning job. Submit it: liger-cli submit -f job.yaml
# Lines within a section that are commented out show the defaults; those at the
# margin are examples.

# name: my-job                  # otherwise made from model and trainer
# labels: {team: nlp}

# A name of `liger-cli models`, or the path of a Hugging Face folder on the worker.
model: smollm2-135m

# A name of `liger-cli datasets`, or the path of a file (JSON, JSON lines, CSV, Parquet, Arrow),
# a folder or a pattern.
dataset:
  name: @DATASET@
  eval_fraction: 0.1            # share of the rows held out for evaluation (default 0)
  # max_samples: 0              # 0: all rows
  # shuffle: true

@METHOD@
# lora: {r: 16, lora_alpha: 32}   # trains adapters on every linear layer, not the model

training:
  learning_rate: @LR@           # (default @DEFAULT_LR@)
  max_steps: 20                 # 0: num_train_epochs decides (default 0)
  # num_train_epochs: 3
  per_device_train_batch_size: 4   # (default 8)
  # gradient_accumulation_steps: 1
@MAX_LENGTH@  # lr_scheduler_type: linear   # linear, cosine, constant, constant_with_warmup
  # warmup_ratio: 0             # or warmup_steps
  # weight_decay: 0
  # max_grad_norm: 1
  # seed: 42
  # precision: FP32             # of a CPU; BF16_MIXED of a GPU; BF16_STOCHASTIC
  # gradient_checkpointing: false   # true: less memory, about a third more time
  # gradient_checkpointing_keep_attention: false  # true: attention runs once, for more memory
  # activation_offloading: false    # true: what checkpointing keeps goes to the host's memory
  # eval_steps: 0               # 0: only before the first and after the last step
  sample_prompts:
    - "What is the capital of France?"

# LIGER: fused kernels (default). BASELINE: every op as Hugging Face transformers writes it.
kernels: LIGER

# output: {uri: my-result}      # below the worker's output root; otherwise the job's name
# resources: {device_kind: CUDA}   # otherwise CUDA when a worker has a GPU
)";

}  // namespace

std::string JobTemplate(const std::string& trainer) {
  if (trainer == "sft") {
    return absl::StrReplaceAll(
        kTemplate, {{"@DATASET@", "alpaca-en-demo"},
                    {"@MAX_LENGTH@", kSftLength},
                    {"@METHOD@",
                     "# Supervised fine-tuning.\n"
                     "sft:\n"
                     "  # completion_only_loss: true   # default for prompt/answer rows\n"},
                    {"@LR@", "2e-5"},
                    {"@DEFAULT_LR@", "2e-5"}});
  }
  if (trainer == "orpo") {
    return absl::StrReplaceAll(
        kTemplate, {{"@DATASET@", "dpo-en-demo"},
                    {"@MAX_LENGTH@", kPreferenceLength},
                    {"@METHOD@",
                     "# Odds-ratio preference optimisation, on pairs.\n"
                     "orpo:\n"
                     "  beta: 0.1                     # of the odds-ratio term (default 0.1)\n"},
                    {"@LR@", "8e-6"},
                    {"@DEFAULT_LR@", "1e-6"}});
  }
  if (trainer == "dpo") {
    return absl::StrReplaceAll(
        kTemplate,
        {{"@DATASET@", "dpo-en-demo"},
         {"@MAX_LENGTH@", kPreferenceLength},
         {"@METHOD@",
          "# Direct preference optimisation, on pairs; keeps a frozen copy of the model.\n"
          "dpo:\n"
          "  beta: 0.1                     # pull towards the copy (default 0.1)\n"
          "  # loss_type: sigmoid          # default; ipo, hinge, robust, ...\n"},
         {"@LR@", "1e-6"},
         {"@DEFAULT_LR@", "1e-6"}});
  }
  if (trainer == "kto") {
    return absl::StrReplaceAll(
        kTemplate, {{"@DATASET@", "kto-en-demo"},
                    {"@MAX_LENGTH@", kPreferenceLength},
                    {"@METHOD@",
                     "# Kahneman-Tversky optimisation, on answers labelled good or bad, or pairs;\n"
                     "# keeps a frozen copy of the model.\n"
                     "kto:\n"
                     "  beta: 0.1                     # pull towards the copy (default 0.1)\n"
                     "  # desirable_weight: 1.0       # raise for the rarer label\n"},
                    {"@LR@", "1e-6"},
                    {"@DEFAULT_LR@", "1e-6"}});
  }
  if (trainer == "cpo") {
    return absl::StrReplaceAll(
        kTemplate, {{"@DATASET@", "dpo-en-demo"},
                    {"@MAX_LENGTH@", kPreferenceLength},
                    {"@METHOD@",
                     "# Contrastive preference optimisation, or SimPO, on pairs; no frozen copy.\n"
                     "cpo:\n"
                     "  beta: 0.1                     # scale of the margin (default 0.1)\n"
                     "  # loss_type: sigmoid          # default; hinge, ipo, simpo\n"
                     "  # cpo_alpha: 1.0              # of the chosen answers' NLL; 0 for SimPO\n"},
                    {"@LR@", "1e-6"},
                    {"@DEFAULT_LR@", "1e-6"}});
  }
  throw CliError(
      kInvalidInput,
      absl::StrCat("--trainer ", trainer, ": there are templates for sft, dpo, orpo, kto and cpo"));
}

}  // namespace liger::client
