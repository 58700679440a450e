#ifndef LIGER_CLIENT_COMPLETION_H_
#define LIGER_CLIENT_COMPLETION_H_

#include <string>

#include "CLI/CLI.hpp"

namespace liger::client {

// A completion script made from the verbs and options of `app`; job names come
// from `liger-cli list -o name`. Throws CliError for an unknown shell.
std::string CompletionScript(const CLI::App& app, const std::string& shell);

}  // namespace liger::client

#endif  // LIGER_CLIENT_COMPLETION_H_
