// A reader of data sets: every row of a file of the name LIGER_FUZZ_FILE, by its columns. Whether
// it is packed, or one of Arrow's, its first bytes decide too.

#include "tests/fuzz/fuzz_target.h"
#include "worker/trainer/data/row_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace liger::trainer;
  static const FuzzFile file(LIGER_FUZZ_FILE);
  file.Write(AsText(data, size));
  MayRefuse([] {
    const auto rows = OpenRows(file.path(), 0);
    for (const RowKind kind : {RowKind::kSequence, RowKind::kPair}) {
      MayRefuse([&] {
        const RowReader reader(*rows, {.kind = kind, .vocab_size = 100});
        for (int64_t i = 0; i < rows->size(); ++i) MayRefuse([&] { reader.Read(i); });
      });
    }
  });
  return 0;
}
