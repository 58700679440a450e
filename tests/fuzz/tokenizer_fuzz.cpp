// tokenizer.json, or with LIGER_FUZZ_FILE tokenizer.model: loads, encodes, decodes.

#include <vector>

#include "tests/fuzz/fuzz_target.h"
#include "worker/trainer/text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace liger::trainer;
  static const FuzzFile file(LIGER_FUZZ_FILE);
  file.Write(AsText(data, size));
  MayRefuse([] {
    const auto tokenizer = Tokenizer::FromFolder(file.dir());
    for (const char* text :
         {"", " a  b1c\n\tHello, world's 2026 <s>", "\u00e9e\u0301\u6211\U0001F600\xFF"}) {
      const std::vector<int32_t> ids = tokenizer->Encode(text, true);
      tokenizer->Decode(ids, false);
      tokenizer->Decode(ids, true);
    }
    tokenizer->Decode(std::vector<int32_t>{0, -1, 5, 300, 2000000000}, true);
  });
  return 0;
}
