#ifndef LIGER_WORKER_TRAINER_GGUF_IMPORT_H_
#define LIGER_WORKER_TRAINER_GGUF_IMPORT_H_

#include <iosfwd>
#include <string>

namespace liger::trainer {

struct ImportGgufOptions {
  std::string file;
  std::string output;  // the folder to make; it must not exist
  // A folder whose tokenizer files are taken instead of the file's own tokenizer.
  std::string tokenizer_dir;
  std::string dtype = "bfloat16";  // of the weights: or float16, float32
};

// `liger-trainer import-gguf FILE --output DIR`: a Llama in a GGUF file as a Hugging
// Face folder, one tensor in memory at a time. llama.cpp's order of the rows of q
// and k is undone. The folder appears whole or not at all. Writes a line about it
// to `out`. Throws TrainerError.
void ImportGguf(const ImportGgufOptions& options, std::ostream& out);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_GGUF_IMPORT_H_
