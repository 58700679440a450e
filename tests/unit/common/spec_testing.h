#ifndef LIGER_TESTS_UNIT_COMMON_SPEC_TESTING_H_
#define LIGER_TESTS_UNIT_COMMON_SPEC_TESTING_H_

#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "common/spec/spec.h"
#include "common/spec/yaml_proto.h"

namespace liger {

inline liger::v1::JobSpec Parse(const std::string& text) {
  liger::v1::JobSpec spec;
  EXPECT_THAT(ParseYaml(text, "", &spec), testing::IsEmpty());
  return spec;
}

// That are violated.
inline std::vector<std::string> Fields(const std::string& text) {
  std::vector<std::string> fields;
  for (const auto& violation : ValidateSpec(Parse(text))) fields.push_back(violation.field());
  return fields;
}

}  // namespace liger

#endif  // LIGER_TESTS_UNIT_COMMON_SPEC_TESTING_H_
