// The readers of data sets: every row of a file, by its columns. The content decides whether it is
// JSON, one of Arrow's files or packed; .csv goes by the name.

#include "tests/fuzz/fuzz_target.h"
#include "worker/trainer/data/row_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace liger::trainer;
  static const FuzzFile json("rows.json"), csv("rows.csv");
  for (const FuzzFile* file : {&json, &csv}) {
    file->Write(AsText(data, size));
    MayRefuse([file] {
      const auto rows = OpenRows(file->path(), 0);
      for (const RowKind kind : {RowKind::kSequence, RowKind::kPair}) {
        MayRefuse([&] {
          const RowReader reader(*rows, {.kind = kind, .vocab_size = 100});
          for (int64_t i = 0; i < rows->size(); ++i) MayRefuse([&] { reader.Read(i); });
        });
      }
    });
  }
  return 0;
}
