#ifndef LIGER_COMMON_HOST_RESOURCES_H_
#define LIGER_COMMON_HOST_RESOURCES_H_

#include <cstdint>
#include <optional>
#include <string>

namespace liger {

// As the system calls itself; empty where it does not say.
std::string HostName();
// Processors this process may use: its affinity, bounded by the cgroup's quota.
int AvailableCpus();
// The host's memory, bounded by the cgroup's limit.
int64_t AvailableMemoryBytes();
// Of AvailableMemoryBytes, what is in use and could not be freed at once (page
// cache could); nullopt where the kernel does not say.
std::optional<int64_t> UsedMemoryBytes();

}  // namespace liger

#endif  // LIGER_COMMON_HOST_RESOURCES_H_
