// The readers of data sets: every row of a .json or .jsonl file, by its columns.

#include "tests/fuzz/fuzz_target.h"
#include "worker/trainer/data/json_rows.h"
#include "worker/trainer/data/row_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace liger::trainer;
  static const FuzzFile file("rows.json");
  file.Write(AsText(data, size));
  MayRefuse([] {
    const JsonRows rows(file.path(), 0);
    for (const RowKind kind : {RowKind::kSequence, RowKind::kPair}) {
      MayRefuse([&] {
        const RowReader reader(rows, {.kind = kind, .vocab_size = 100});
        for (int64_t i = 0; i < rows.size(); ++i) MayRefuse([&] { reader.Read(i); });
      });
    }
  });
  return 0;
}
