#ifndef LIGER_TESTS_UNIT_DATA_DATASET_FIXTURE_H_
#define LIGER_TESTS_UNIT_DATA_DATASET_FIXTURE_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/paths.h"
#include "tests/unit/data/test_util.h"
#include "worker/trainer/data/dataset.h"
#include "worker/trainer/text/chat_template.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {

// Loads rows with the tokenizer and the chat template of tests/golden/data/chat.
class DatasetTest : public testing::Test {
 protected:
  Dataset Load(const std::string& content, const liger::v1::DatasetSpec& spec,
               LoadOptions options) {
    const TempFile file(content);
    options.train_files = {{file.path()}};
    return LoadDataset(spec, options, *tokenizer_, &*chat_template_);
  }

  // n rows of one token each after the BOS, all different.
  static std::string Tokenised(int n) {
    std::string rows;
    for (int i = 0; i < n; ++i) {
      rows += "{\"input_ids\": [0, " + std::to_string(i + 1) + "]}\n";
    }
    return rows;
  }

  static std::vector<int32_t> SecondIds(const ExampleSet& set) {
    std::vector<int32_t> ids;
    for (const Example& example : set.sequences) ids.push_back(example.input_ids.at(1));
    return ids;
  }

  static LoadOptions KtoOptions() {
    LoadOptions options;
    options.method = liger::v1::JobSpec::kKto;
    return options;
  }

  static inline const std::string kChat = SourceDir() + "/tests/golden/data/chat";
  const std::unique_ptr<Tokenizer> tokenizer_ = Tokenizer::FromFolder(kChat);
  const std::optional<ChatTemplate> chat_template_ = ChatTemplate::FromFolder(kChat);
};

}  // namespace liger::trainer

#endif  // LIGER_TESTS_UNIT_DATA_DATASET_FIXTURE_H_
