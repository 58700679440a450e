#ifndef LIGER_WORKER_TRAINER_LOOP_PATHS_H_
#define LIGER_WORKER_TRAINER_LOOP_PATHS_H_

#include <optional>
#include <string>
#include <vector>

#include "common/data_files.h"

namespace liger::trainer {

// The real path of an input that a spec names: `uri`, or `name` when there is
// no URI. `file://` is taken off; a relative path resolves below the first
// root that has it, or against the working folder when there are no roots.
// With roots, the path must lie below one of them after symbolic links are
// followed. Throws TrainerError (CONFIG) naming `field` when nothing is there or
// it cannot be opened, when the scheme is not file, or when the path leaves the roots.
std::string ResolveInput(const std::string& uri, const std::string& name,
                         const std::vector<std::string>& roots, const std::string& field);

// ResolveInput of a model or an adapter, which a file is not: throws of one, too.
std::string ResolveFolder(const std::string& uri, const std::string& name,
                          const std::vector<std::string>& roots, const std::string& field);

// ResolveInput, but nullopt when nothing is there.
std::optional<std::string> FindInput(const std::string& uri, const std::string& name,
                                     const std::vector<std::string>& roots,
                                     const std::string& field);

// The real paths of the files that a dataset's path means (common/data_files.h:
// a file, a folder or a pattern), each below the roots as ResolveInput has it; a
// relative pattern is that below the first root where it matches. A link stays one where its
// target's name does not tell how to read it (the Hub's cache). Of a folder those that are
// wanted (MatchSplitFiles, `trained` as there); what is left out stays as it lies in the folder.
// Throws TrainerError (CONFIG) naming `field`, also when no file is there or they are of several
// splits.
SplitFiles ResolveInputFiles(const std::string& uri, const std::string& name,
                             const std::vector<std::string>& roots, const std::string& field,
                             SplitUse use = SplitUse::kTraining,
                             const std::vector<std::string>& trained = {});

// A file URI or path as a path, without looking at the disk.
std::string PathOfUri(const std::string& uri, const std::string& field);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_PATHS_H_
