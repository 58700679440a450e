#ifndef LIGER_CLIENT_STARTER_FILES_H_
#define LIGER_CLIENT_STARTER_FILES_H_

#include <string>

namespace liger::client {

// Copies the sample datasets that lie beside the programs (share/liger/datasets,
// in a build tree and in an installed one) into `folder` when that is empty.
// Copies, since a link would lead out of the worker's dataset root. Throws
// CliError when it cannot write there.
void CopySampleDatasets(const std::string& folder);

// What to type next, with the API at `address`: a job on a model below `models`,
// or where to get the first one; and where the samples are, should they not be below `datasets`.
std::string FirstSteps(const std::string& models, const std::string& datasets,
                       const std::string& address);

}  // namespace liger::client

#endif  // LIGER_CLIENT_STARTER_FILES_H_
