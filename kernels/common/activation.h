#ifndef LIGER_KERNELS_COMMON_ACTIVATION_H_
#define LIGER_KERNELS_COMMON_ACTIVATION_H_

namespace liger::kernels {

// Activations of gated units, y = act(gate) * up.
enum class Activation {
  kSilu,
  kGelu,      // z Phi(z), exact
  kGeluTanh,  // Phi approximated through tanh
};

// Of gelu's tanh form: Phi(z) ~ (1 + tanh(u)) / 2 = sigmoid(2 u), u = kGeluA (z + kGeluB z^3).
inline constexpr float kGeluA = 0.79788456080286535588f;  // sqrt(2 / pi)
inline constexpr float kGeluB = 0.044715f;
inline constexpr float kInvSqrt2Pi = 0.39894228040143267794f;

// act(z) and act'(z).
struct ValueAndSlope {
  float value, slope;
};

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_COMMON_ACTIVATION_H_
