#include "worker/trainer/models/rope_config.h"

#include <cmath>
#include <map>
#include <set>
#include <string>

namespace liger::trainer {
namespace {

using Type = RopeConfig::Type;

Type ParseType(const ConfigReader& rope, const RopeConfig::Family& family) {
  const char* key = rope.Find("rope_type") ? "rope_type" : "type";
  const std::string name = rope.String(key, "default");
  if (family.yarn_is_longrope && (name == "su" || name == "yarn")) return Type::kLongRope;
  static const std::map<std::string, Type> types = {
      {"default", Type::kDefault}, {"linear", Type::kLinear}, {"dynamic", Type::kDynamic},
      {"yarn", Type::kYarn},       {"llama3", Type::kLlama3}, {"longrope", Type::kLongRope}};
  const auto it = types.find(name);
  if (it == types.end()) rope.Unsupported(key, name);
  return it->second;
}

// Anything else in there would be a feature that is not known.
void CheckKeys(const ConfigReader& rope) {
  static const std::set<std::string> known = {"type",
                                              "rope_type",
                                              "rope_theta",
                                              "factor",
                                              "low_freq_factor",
                                              "high_freq_factor",
                                              "beta_fast",
                                              "beta_slow",
                                              "mscale",
                                              "mscale_all_dim",
                                              "attention_factor",
                                              "truncate",
                                              "short_factor",
                                              "long_factor",
                                              "original_max_position_embeddings",
                                              "finetuned",
                                              "partial_rotary_factor"};
  for (const auto& [key, value] : rope.json().items()) {
    if (!known.count(key)) rope.Unsupported(key, value);
  }
}

int64_t RotaryDim(const ConfigReader& config, const ConfigReader& rope, int64_t head_dim,
                  const RopeConfig::Family& family) {
  constexpr char kKey[] = "partial_rotary_factor";
  const ConfigReader& source = rope.Find(kKey) ? rope : config;
  const double part = source.Positive(kKey, 1.0);
  if (part != 1.0 && !family.partial) source.Unsupported(kKey, *source.Find(kKey));
  const int64_t rotary_dim = static_cast<int64_t>(static_cast<double>(head_dim) * part);
  if (part > 1.0 || rotary_dim < 2 || rotary_dim % 2 != 0) {
    source.Fail(kKey, "makes " + std::to_string(rotary_dim) + " rotated entries of a head of " +
                          std::to_string(head_dim) + "; it must be an even number of them");
  }
  return rotary_dim;
}

// The length that the model was trained with before its context was extended.
// transformers lets the one beside rope_parameters win, a family's default too.
int64_t OriginalLength(const ConfigReader& config, const ConfigReader& rope,
                       int64_t max_position_embeddings, const RopeConfig::Family& family) {
  constexpr char kKey[] = "original_max_position_embeddings";
  if (config.Find(kKey) || family.original_length != 0) {
    return config.Size(kKey, family.original_length);
  }
  return rope.Size(kKey, max_position_embeddings);
}

double Mscale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

void ParseYarn(const ConfigReader& rope, RopeConfig& out) {
  // null, but not absence, stands for the ratio of the lengths.
  const double ratio =
      double(out.max_position_embeddings) / double(out.original_max_position_embeddings);
  out.factor = rope.Contains("factor") ? rope.Positive("factor", ratio) : rope.Positive("factor");
  // 0 stands for absence, as in transformers.
  const auto or_zero = [&rope](const char* key, double absent) {
    const double value = rope.NotNegative(key, 0);
    return value == 0 ? absent : value;
  };
  out.beta_fast = or_zero("beta_fast", 32);
  out.beta_slow = or_zero("beta_slow", 1);
  out.truncate = rope.Bool("truncate", true);
  const double mscale = or_zero("mscale", 0), all_dim = or_zero("mscale_all_dim", 0);
  out.attention_factor = mscale != 0 && all_dim != 0
                             ? Mscale(out.factor, mscale) / Mscale(out.factor, all_dim)
                             : Mscale(out.factor, 1);
  out.attention_factor = rope.Positive("attention_factor", out.attention_factor);
}

void ParseLongRope(const ConfigReader& rope, RopeConfig& out) {
  const double original = double(out.original_max_position_embeddings);
  out.factor = rope.Positive("factor", double(out.max_position_embeddings) / original);
  const double extended =
      out.factor <= 1 ? 1.0 : std::sqrt(1 + std::log(out.factor) / std::log(original));
  out.attention_factor = rope.Positive("attention_factor", extended);
  out.short_factor = rope.PositiveList("short_factor", out.rotary_dim / 2);
  out.long_factor = rope.PositiveList("long_factor", out.rotary_dim / 2);
}

void ParseLlama3(const ConfigReader& rope, RopeConfig& out) {
  out.factor = rope.Positive("factor");
  out.low_freq_factor = rope.Positive("low_freq_factor");
  out.high_freq_factor = rope.Positive("high_freq_factor");
  if (out.high_freq_factor <= out.low_freq_factor) {
    rope.Fail("high_freq_factor", "must be greater than low_freq_factor");
  }
}

}  // namespace

RopeConfig RopeConfig::Parse(const ConfigReader& config, int64_t head_dim,
                             int64_t max_position_embeddings, const Family& family) {
  // transformers' `rope_scaling or rope_parameters`.
  const auto* scaling = config.Find("rope_scaling");
  const char* key = scaling && !scaling->empty() ? "rope_scaling" : "rope_parameters";
  static const ConfigReader::Json kNone = ConfigReader::Json::object();
  const auto* found = config.Find(key);
  const auto& json = found ? *found : kNone;
  if (!json.is_object()) config.Unsupported(key, json);
  const ConfigReader rope(json, config.file(), std::string(key) + ".");

  RopeConfig out;
  out.type = ParseType(rope, family);
  CheckKeys(rope);
  out.theta = rope.Positive("rope_theta", config.Positive("rope_theta", family.theta));
  out.rotary_dim = RotaryDim(config, rope, head_dim, family);
  out.max_position_embeddings = max_position_embeddings;
  out.original_max_position_embeddings =
      OriginalLength(config, rope, max_position_embeddings, family);
  switch (out.type) {
    case Type::kDefault:
      break;
    case Type::kLinear:
    case Type::kDynamic:
      out.factor = rope.Positive("factor");
      break;
    case Type::kYarn:
      ParseYarn(rope, out);
      break;
    case Type::kLlama3:
      ParseLlama3(rope, out);
      break;
    case Type::kLongRope:
      ParseLongRope(rope, out);
      break;
  }
  return out;
}

}  // namespace liger::trainer
