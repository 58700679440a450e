#ifndef LIGER_WORKER_AGENT_VERSION_H_
#define LIGER_WORKER_AGENT_VERSION_H_

namespace liger::agent {

#ifdef LIGER_VERSION
inline constexpr char kVersion[] = LIGER_VERSION;
#else
inline constexpr char kVersion[] = "dev";
#endif

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_VERSION_H_
