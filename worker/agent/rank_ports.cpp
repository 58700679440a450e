#include "worker/agent/rank_ports.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace liger::agent {
namespace {

constexpr int kHighestPort = 65535;

// A bound socket that does not listen; none when the port is in use. Bound without
// SO_REUSEADDR, so that it shows what others have bound; with it from then on, so that
// the trainer, which sets it too, may bind the port and listen there.
UniqueFd Bind(int port) {
  UniqueFd holder(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_ANY);
  address.sin_port = htons(static_cast<uint16_t>(port));
  const int on = 1;
  if (!holder.valid() ||
      bind(holder.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
      setsockopt(holder.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0) {
    holder.reset();
  }
  return holder;
}

}  // namespace

absl::StatusOr<RankPorts> RankPorts::Parse(const std::string& range) {
  const absl::string_view text = range;
  const size_t dash = text.find('-');
  int first = 0, last = 0;
  if (dash == absl::string_view::npos || !absl::SimpleAtoi(text.substr(0, dash), &first) ||
      !absl::SimpleAtoi(text.substr(dash + 1), &last) || first < 1 || last < first ||
      last > kHighestPort) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--rank-ports: '", range, "' is no range of ports such as 29500-29999"));
  }
  return RankPorts(first, last);
}

absl::StatusOr<int> RankPorts::Hold(const std::string& task) {
  if (const auto held = held_.find(task); held != held_.end()) return held->second.port;
  for (int port = first_; port <= last_; ++port) {
    UniqueFd socket = Bind(port);
    if (!socket.valid()) continue;
    held_[task] = {port, std::move(socket)};
    return port;
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("every port from ", first_, " to ", last_,
                   " is in use, so that the ranks cannot meet; end what uses them, or give "
                   "liger-worker another range with --rank-ports"));
}

}  // namespace liger::agent
