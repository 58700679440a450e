#ifndef LIGER_WORKER_TRAINER_MODELS_VECTOR_MATH_H_
#define LIGER_WORKER_TRAINER_MODELS_VECTOR_MATH_H_

namespace liger::trainer {

// Calls each vector function of libtorch's CPU library once, on one element.
// Thread-safe; does its work once a process.
//
// ATen computes exp, sin, cos and their kin with MKL's vector library, which
// looks for a function's code at its first call. Where two threads make that
// call at once, one of them can get code of low accuracy (1e-4 instead of 1e-7)
// for its part, this one time: the rotary table of the first batch, say
// (github.com/pytorch/pytorch/issues/188792; MKL 2024.2, mended in 2025.0).
// Afterwards there is nothing left to look for.
void ResolveVectorMath();

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_VECTOR_MATH_H_
