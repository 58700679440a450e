#ifndef LIGER_SERVER_COORDINATOR_VERBS_H_
#define LIGER_SERVER_COORDINATOR_VERBS_H_

#include <optional>

namespace liger::server {

// What liger-coordinator does besides serving: `liger-coordinator VERB --help`.
inline constexpr char kVerbsHelp[] =
    "Verbs, each with a --help of its own:\n"
    "  backup   copy database and logs of a coordinator, also of one that runs\n"
    "  restore  make a data folder of a backup\n"
    "  health   ask a coordinator's port whether it serves; for probes";

// Runs the verb that argv[1] names and returns the exit code; nullopt when it
// names none.
std::optional<int> RunVerb(int argc, char** argv);

}  // namespace liger::server

#endif  // LIGER_SERVER_COORDINATOR_VERBS_H_
