#ifndef LIGER_WORKER_AGENT_FITNESS_H_
#define LIGER_WORKER_AGENT_FITNESS_H_

#include <string>

// What keeps every task from running here, found before one comes. Each answers with a
// sentence, or with nothing where all is well.
namespace liger::agent {

// The data folder takes no file, or has less room than a task's own notes and logs may take.
std::string DataFolderFault(const std::string& data_dir);

// A name of --socket-interface is none of this host's interfaces. NCCL's patterns ("^docker",
// "=eth0") are left to it.
std::string InterfaceFault(const std::string& socket_interface);

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_FITNESS_H_
