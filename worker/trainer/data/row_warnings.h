#ifndef LIGER_WORKER_TRAINER_DATA_ROW_WARNINGS_H_
#define LIGER_WORKER_TRAINER_DATA_ROW_WARNINGS_H_

#include <string>
#include <vector>

#include "common/data_files.h"
#include "worker/trainer/data/dataset.h"
#include "worker/trainer/data/row_columns.h"

namespace liger::trainer {

// Why rows were dropped, by their counts, and what to do about it.
struct DropCause {
  std::string why, remedy;
};
DropCause WhyDropped(const DataStats& stats, const LoadOptions& options);

// A sentence for each thing that a user should know of the rows of a source: those that were
// dropped (`dropped`: the first of them, as a list of numbers), cut, empty, ... `name` is the
// source's, `fields` are its own, `split` training or evaluation.
std::vector<std::string> RowWarnings(const std::string& name, const RowFields& fields,
                                     const std::string& split, const DataStats& stats,
                                     const std::string& dropped, const LoadOptions& options);

// Adds a sentence about the files of a folder of several splits that a job leaves out, if any.
void AddSplitWarning(const std::vector<std::string>& left_out, SplitUse use,
                     std::vector<std::string>* warnings);

// Adds a sentence where rows of one format are trained on in their answers alone, and of the other
// in all tokens, so that eval_loss is of other tokens than the training loss.
void AddEvalFormatWarning(const std::vector<liger::v1::DatasetFormat>& eval,
                          const std::vector<liger::v1::DatasetFormat>& train,
                          const LoadOptions& options, std::vector<std::string>* warnings);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_ROW_WARNINGS_H_
