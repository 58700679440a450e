#ifndef LIGER_TESTS_E2E_TINY_MODEL_H_
#define LIGER_TESTS_E2E_TINY_MODEL_H_

#include <string>

namespace liger::e2e {

// A Hugging Face folder of a two-layer Llama without weights (for
// model.random_init) and with a byte-level tokenizer: every byte is a token.
// `hidden_size` is a multiple of 8.
void WriteTinyModel(const std::string& dir, int hidden_size = 32);

// Rows of {"prompt", "completion"}; row `bad_row` (1-based; 0: none) is
// `bad_line` instead, by default not JSON.
void WriteTinyDataset(const std::string& path, int rows, int bad_row = 0,
                      const std::string& bad_line = R"({"prompt": "unfinished)");

}  // namespace liger::e2e

#endif  // LIGER_TESTS_E2E_TINY_MODEL_H_
