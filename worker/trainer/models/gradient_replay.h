#ifndef LIGER_WORKER_TRAINER_MODELS_GRADIENT_REPLAY_H_
#define LIGER_WORKER_TRAINER_MODELS_GRADIENT_REPLAY_H_

namespace liger::trainer {

// While one lives, this thread computes a block again for its gradients alone (activation
// checkpointing): nobody reads the values that the block returns, so the layer whose result they
// are need not compute them. (PyTorch's checkpoints stop early for the same reason.)
class GradientReplay {
 public:
  GradientReplay() : outer_(active_) { active_ = true; }
  ~GradientReplay() { active_ = outer_; }
  GradientReplay(const GradientReplay&) = delete;
  GradientReplay& operator=(const GradientReplay&) = delete;

  static bool active() { return active_; }

 private:
  static thread_local bool active_;
  bool outer_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_GRADIENT_REPLAY_H_
