#include "worker/trainer/parallel/rank.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

int IntegerVariable(const char* name, int default_value) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return default_value;
  const std::string_view view(text);
  int value = 0;
  const auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), value);
  if (error != std::errc() || end != view.data() + view.size() || value < 0) {
    throw ConfigError(std::string(name) + "='" + text + "' is not a number",
                      "set it as torchrun does, or leave it unset for a run of one rank");
  }
  return value;
}

}  // namespace

RankInfo RankInfo::FromEnvironment() {
  RankInfo info;
  info.rank = IntegerVariable("RANK", info.rank);
  info.world_size = IntegerVariable("WORLD_SIZE", info.world_size);
  info.local_rank = IntegerVariable("LOCAL_RANK", info.local_rank);
  info.local_world_size = IntegerVariable("LOCAL_WORLD_SIZE", info.local_world_size);
  info.master_port = IntegerVariable("MASTER_PORT", info.master_port);
  if (const char* address = std::getenv("MASTER_ADDR")) info.master_addr = address;
  const char* served = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
  info.store_is_served = served != nullptr && std::string_view(served) == "True";
  if (const char* restart = std::getenv("TORCHELASTIC_RESTART_COUNT")) info.gang_name = restart;
  if (info.world_size < 1 || info.rank >= info.world_size) {
    throw ConfigError("RANK=" + std::to_string(info.rank) +
                          " does not fit WORLD_SIZE=" + std::to_string(info.world_size),
                      "ranks count from 0 to WORLD_SIZE - 1");
  }
  return info;
}

}  // namespace liger::trainer
