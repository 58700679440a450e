#include "worker/trainer/models/weights.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <memory>

#include "worker/trainer/checkpoint/weights.h"
#include "worker/trainer/models/registry.h"

namespace liger::trainer {
namespace {

constexpr char kEmbedding[] = "model.embed_tokens.weight", kHead[] = "lm_head.weight";

IgnorablePredicate Ignorable(const CausalLM& model) {
  const ModelType& type = FindModelType(model.config().model_type);
  return [&type, config = model.config()](std::string_view name) {
    return type.ignores_weight(config, name);
  };
}

// A tied weight may be there under the head's name alone.
WeightReader OpenFor(const CausalLM& model, const std::string& model_dir) {
  WeightReader reader = WeightReader::Open(model_dir);
  if (model.config().tie_word_embeddings && reader.Has(kHead) && !reader.Has(kEmbedding)) {
    reader.Rename(kHead, kEmbedding);
  }
  return reader;
}

// Of so many elements each has a generator of its own, so that all cores draw at once and their
// number makes no difference.
constexpr int64_t kDrawnAtOnce = int64_t{1} << 18;

// Fills a contiguous float32 tensor of the host.
void DrawNormal(at::Tensor drawn, double deviation, at::Generator seeds) {
  auto* const source = at::check_generator<at::CPUGeneratorImpl>(seeds);
  std::vector<uint64_t> of_piece((drawn.numel() + kDrawnAtOnce - 1) / kDrawnAtOnce);
  for (uint64_t& seed : of_piece) seed = source->random64();
  const at::Tensor flat = drawn.view(-1);
  at::parallel_for(0, std::ssize(of_piece), 1, [&](int64_t first, int64_t last) {
    const at::NoGradGuard no_grad;  // the guard of the caller is its thread's alone
    for (int64_t i = first; i < last; ++i) {
      const int64_t begin = i * kDrawnAtOnce;
      flat.narrow(0, begin, std::min(kDrawnAtOnce, flat.numel() - begin))
          .normal_(0, deviation, at::detail::createCPUGenerator(of_piece[i]));
    }
  });
}

}  // namespace

std::vector<NamedTensor> CheckpointTensors(const ModelConfig& config, const std::string& name,
                                           const at::Tensor& parameter) {
  const auto pieces = FindModelType(config.model_type).checkpoint_tensors;
  return pieces ? pieces(name, parameter) : std::vector<NamedTensor>{{name, parameter}};
}

void LoadWeights(CausalLM& model, const std::string& model_dir) {
  const at::NoGradGuard no_grad;  // the targets may be views of parameters
  std::vector<NamedTensor> targets;
  for (const auto& parameter : model.named_parameters()) {
    const auto pieces = CheckpointTensors(model.config(), parameter.key(), parameter.value());
    targets.insert(targets.end(), pieces.begin(), pieces.end());
  }
  OpenFor(model, model_dir).LoadInto(targets, Ignorable(model));
}

namespace {

// The folder's files, which hold what `model` needs.
WeightReader CheckedReader(const CausalLM& model, const std::string& model_dir) {
  std::vector<ExpectedTensor> expected;
  for (const auto& parameter : model.named_parameters()) {
    for (const NamedTensor& piece :
         CheckpointTensors(model.config(), parameter.key(), parameter.value())) {
      expected.push_back({piece.name, piece.tensor.sizes().vec()});
    }
  }
  WeightReader reader = OpenFor(model, model_dir);
  reader.Check(expected, Ignorable(model));
  return reader;
}

}  // namespace

void CheckWeights(const CausalLM& model, const std::string& model_dir) {
  CheckedReader(model, model_dir);
}

FillParameter FillFromFolder(const CausalLM& model, const std::string& model_dir) {
  const auto reader = std::make_shared<const WeightReader>(CheckedReader(model, model_dir));
  return [reader, config = model.config()](const std::string& name, at::Tensor parameter) {
    const at::NoGradGuard no_grad;  // the targets may be views of the parameter
    for (const NamedTensor& piece : CheckpointTensors(config, name, parameter)) {
      reader->CopyInto(piece.name, piece.tensor);
    }
  };
}

FillRange FillRangesFromFolder(const CausalLM& model, const std::string& model_dir) {
  const auto reader = std::make_shared<const WeightReader>(CheckedReader(model, model_dir));
  return [reader, config = model.config()](const std::string& name,
                                           const std::vector<int64_t>& shape, int64_t begin,
                                           at::Tensor range) {
    const at::NoGradGuard no_grad;
    const int64_t end = begin + range.numel();
    const auto pieces = CheckpointTensors(config, name, at::empty(shape, at::kMeta));
    const bool in_order = std::all_of(pieces.begin(), pieces.end(), [](const NamedTensor& piece) {
      return piece.tensor.is_contiguous();
    });
    if (!in_order) {
      const at::Tensor whole = at::empty(shape, range.scalar_type());
      for (const NamedTensor& piece : CheckpointTensors(config, name, whole)) {
        reader->CopyInto(piece.name, piece.tensor);
      }
      range.copy_(whole.view(-1).narrow(0, begin, range.numel()));
      return;
    }
    for (const NamedTensor& piece : pieces) {
      const int64_t first = piece.tensor.storage_offset();
      const int64_t from = std::max(begin, first);
      const int64_t to = std::min(end, first + piece.tensor.numel());
      if (from >= to) continue;
      range.narrow(0, from - begin, to - from)
          .copy_(reader->View(piece.name).view(-1).narrow(0, from - first, to - from));
    }
  };
}

FillParameter FillAtRandom(const ModelConfig& config, uint64_t seed) {
  const at::Generator generator = at::detail::createCPUGenerator(seed);
  return [config, generator](const std::string& name, at::Tensor value) {
    const at::NoGradGuard no_grad;
    if (name.ends_with(".bias")) {
      value.zero_();
      return;
    }
    if (value.dim() == 1) {
      value.fill_(config.unit_offset_norms ? 0 : 1);  // a norm's
      return;
    }
    // In fp32 and on the host, so that every dtype and device starts from the same.
    at::Tensor drawn = value.scalar_type() == at::kFloat && value.is_cpu() && value.is_contiguous()
                           ? value
                           : at::empty(value.sizes(), at::kFloat);
    DrawNormal(drawn, config.initializer_range, generator);
    if (!drawn.is_same(value)) value.copy_(drawn);
    if (config.pad_token_id && name == kEmbedding) value[*config.pad_token_id].zero_();
  };
}

void InitializeWeights(CausalLM& model, uint64_t seed) {
  const FillParameter fill = FillAtRandom(model.config(), seed);
  for (const auto& parameter : model.named_parameters()) fill(parameter.key(), parameter.value());
}

}  // namespace liger::trainer
