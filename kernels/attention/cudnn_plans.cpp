#include "kernels/attention/cudnn_plans.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <map>
#include <mutex>
#include <stdexcept>
#include <string>

// libcudnn is torch's, found at run time: this library loads where there is none.
#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#include <cudnn_frontend.h>

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;
}

namespace liger::kernels::cudnn {
namespace {

namespace fe = cudnn_frontend;
using fe::graph::Tensor_attributes;
using TensorPtr = std::shared_ptr<Tensor_attributes>;

bool LoadCudnn() {
  static const bool loaded = [] {
    fe::cudnn_dlhandle = dlopen("libcudnn.so.9", RTLD_NOW);
    return fe::cudnn_dlhandle != nullptr;
  }();
  return loaded;
}

void Check(fe::error_t error, const char* what) {
  if (error.is_good()) return;
  throw std::runtime_error(std::string("cuDNN's attention: ") + what + ": " + error.get_message());
}

// One a thread and device. Never destroyed: cuDNN may be gone at exit.
cudnnHandle_t HandleOf(int device) {
  thread_local std::map<int, cudnnHandle_t> handles;
  cudnnHandle_t& handle = handles[device];
  if (handle == nullptr && fe::detail::create_handle(&handle) != CUDNN_STATUS_SUCCESS) {
    handle = nullptr;
    throw std::runtime_error("cuDNN's attention: cudnnCreate failed");
  }
  return handle;
}

class GraphPlan : public Plan {
 public:
  explicit GraphPlan(const PlanKey& key) : key_(key) {
    graph_.set_io_data_type(key.is_bf16 ? fe::DataType_t::BFLOAT16 : fe::DataType_t::HALF)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    MakeInputs();
    key.is_backward ? MakeBackward() : MakeForward();
    Check(graph_.build(HandleOf(key.device), {fe::HeurMode_t::A}), "no plan");
    Check(graph_.get_workspace_size(workspace_bytes_), "no workspace size");
  }

  int64_t workspace_bytes() const override { return workspace_bytes_; }

  void Run(Pointers pointers, void* workspace, void* stream) const override {
    cudnnHandle_t handle = HandleOf(key_.device);
    if (fe::detail::set_stream(handle, static_cast<cudaStream_t>(stream)) != CUDNN_STATUS_SUCCESS) {
      throw std::runtime_error("cuDNN's attention: cudnnSetStream failed");
    }
    Check(graph_.execute(handle, pointers, workspace), "not run");
  }

 private:
  TensorPtr Index(const char* name, Tensor uid, int64_t size) {
    return graph_.tensor(Tensor_attributes()
                             .set_name(name)
                             .set_uid(uid)
                             .set_dim({size, 1, 1, 1})
                             .set_stride({1, 1, 1, 1})
                             .set_data_type(fe::DataType_t::INT32));
  }

  // [batch, heads, length, width] of rows that lie packed from `starts` on.
  Tensor_attributes Packed(const char* name, Tensor uid, int64_t heads, int64_t width,
                           const TensorPtr& starts) const {
    return Tensor_attributes()
        .set_name(name)
        .set_uid(uid)
        .set_dim({key_.batch, heads, key_.length, width})
        .set_stride({key_.length * heads * width, width, heads * width, 1})
        .set_ragged_offset(starts);
  }
  void MakeOutput(const TensorPtr& tensor, const char* name, Tensor uid, int64_t heads,
                  int64_t width, const TensorPtr& starts) const {
    const Tensor_attributes like = Packed(name, uid, heads, width, starts);
    tensor->set_output(true)
        .set_uid(uid)
        .set_dim(like.get_dim())
        .set_stride(like.get_stride())
        .set_ragged_offset(starts);
  }

  void MakeInputs() {
    query_starts_ = Index("query_starts", kQueryStarts, key_.batch + 1);
    key_starts_ = Index("key_starts", kKeyStarts, key_.batch + 1);
    stats_starts_ = Index("stats_starts", kStatsStarts, key_.batch + 1);
    query_lengths_ = Index("query_lengths", kQueryLengths, key_.batch);
    key_lengths_ = Index("key_lengths", kKeyLengths, key_.batch);
    query_ = graph_.tensor(Packed("query", kQuery, key_.heads, key_.head_dim, query_starts_));
    keys_ = graph_.tensor(Packed("key", kKey, key_.key_heads, key_.head_dim, key_starts_));
    value_ = graph_.tensor(Packed("value", kValue, key_.key_heads, key_.head_dim, key_starts_));
  }

  template <typename Options>
  void SetMask(Options& options) const {
    options.set_attn_scale(static_cast<float>(key_.scale))
        .set_padding_mask(true)
        .set_seq_len_q(query_lengths_)
        .set_seq_len_kv(key_lengths_)
        .set_diagonal_alignment(key_.aligns_last ? fe::DiagonalAlignment_t::BOTTOM_RIGHT
                                                 : fe::DiagonalAlignment_t::TOP_LEFT)
        .set_diagonal_band_right_bound(0);
    if (key_.window > 0) options.set_diagonal_band_left_bound(static_cast<int>(key_.window));
  }

  void MakeForward() {
    auto options = fe::graph::SDPA_attributes().set_name("attention").set_generate_stats(true);
    SetMask(options);
    auto [out, stats] = graph_.sdpa(query_, keys_, value_, options);
    MakeOutput(out, "out", kOut, key_.heads, key_.head_dim, query_starts_);
    MakeOutput(stats, "stats", kStats, key_.heads, 1, stats_starts_);
    stats->set_data_type(fe::DataType_t::FLOAT);
  }

  void MakeBackward() {
    const TensorPtr out =
        graph_.tensor(Packed("out", kOut, key_.heads, key_.head_dim, query_starts_));
    const TensorPtr grad =
        graph_.tensor(Packed("grad_out", kGradOut, key_.heads, key_.head_dim, query_starts_));
    const TensorPtr stats = graph_.tensor(
        Packed("stats", kStats, key_.heads, 1, stats_starts_).set_data_type(fe::DataType_t::FLOAT));
    auto options = fe::graph::SDPA_backward_attributes()
                       .set_name("attention_backward")
                       .set_max_total_seq_len_q(key_.total)
                       .set_max_total_seq_len_kv(key_.total);
    SetMask(options);
    auto [grad_query, grad_key, grad_value] =
        graph_.sdpa_backward(query_, keys_, value_, out, grad, stats, options);
    MakeOutput(grad_query, "grad_query", kGradQuery, key_.heads, key_.head_dim, query_starts_);
    MakeOutput(grad_key, "grad_key", kGradKey, key_.key_heads, key_.head_dim, key_starts_);
    MakeOutput(grad_value, "grad_value", kGradValue, key_.key_heads, key_.head_dim, key_starts_);
  }

  const PlanKey key_;
  // execute() is not const, though it changes nothing of a built graph.
  mutable fe::graph::Graph graph_;
  int64_t workspace_bytes_ = 0;
  TensorPtr query_starts_, key_starts_, stats_starts_, query_lengths_, key_lengths_;
  TensorPtr query_, keys_, value_;
};

}  // namespace

bool Available(int device) {
  int major = 0;
  if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess) {
    cudaGetLastError();  // nobody else's
    return false;
  }
  return major >= 9 && LoadCudnn();
}

const PlanOrError& PlanFor(const PlanKey& key) {
  static std::mutex& mutex = *new std::mutex;
  static auto& plans = *new std::map<PlanKey, PlanOrError>;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto [entry, is_new] = plans.try_emplace(key);
  PlanOrError& known = entry->second;
  if (!is_new) return known;
  try {
    if (!Available(key.device)) throw std::runtime_error("cuDNN's attention: not on this device");
    known.plan = std::make_shared<GraphPlan>(key);
  } catch (const std::runtime_error& error) {
    known.error = error.what();
  }
  return known;
}

}  // namespace liger::kernels::cudnn
