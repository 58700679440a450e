#ifndef LIGER_KERNELS_COMMON_PARSE_REDUCTION_H_
#define LIGER_KERNELS_COMMON_PARSE_REDUCTION_H_

#include <c10/util/Exception.h>
#include <c10/util/string_view.h>

#include <initializer_list>
#include <string>

#include "kernels/reduction.h"

namespace liger::kernels {

// The reduction of that name. Throws c10::ValueError that names the op and those it takes.
inline Reduction ParseReduction(const char* op, c10::string_view name,
                                std::initializer_list<Reduction> taken) {
  std::string names;
  for (const Reduction reduction : taken) {
    if (name == ReductionName(reduction)) return reduction;
    names += names.empty() ? "'" : ", '";
    names += ReductionName(reduction);
    names += "'";
  }
  TORCH_CHECK_VALUE(false, op, ": reduction is '", name, "', expected one of ", names);
}

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_COMMON_PARSE_REDUCTION_H_
