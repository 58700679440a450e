#include "worker/trainer/text/config_node.h"

#include "worker/trainer/text/unicode.h"

namespace liger::trainer {

bool ConfigNode::Has(const char* key) const {
  return value_->is_object() && value_->contains(key) && !(*value_)[key].is_null();
}

ConfigNode ConfigNode::At(const char* key) const {
  if (!value_->is_object()) Fail("must be an object");
  const auto it = value_->find(key);
  if (it == value_->end()) Fail(std::string("lacks \"") + key + "\"");
  return ConfigNode(*it, file_, path_.empty() ? key : path_ + "." + key);
}

std::string ConfigNode::String() const {
  if (!value_->is_string()) Fail("must be a string");
  return value_->get<std::string>();
}

bool ConfigNode::Bool(const char* key, bool fallback) const {
  if (!Has(key)) return fallback;
  const ConfigNode node = At(key);
  if (!node.value_->is_boolean()) node.Fail("must be true or false");
  return node.value_->get<bool>();
}

int64_t ConfigNode::Int() const {
  if (!value_->is_number_integer()) Fail("must be an integer");
  return value_->get<int64_t>();
}

std::vector<ConfigNode> ConfigNode::Array() const {
  if (!value_->is_array()) Fail("must be an array");
  std::vector<ConfigNode> nodes;
  for (size_t i = 0; i < value_->size(); ++i) {
    nodes.emplace_back((*value_)[i], file_, path_ + "[" + std::to_string(i) + "]");
  }
  return nodes;
}

std::vector<std::pair<std::string, ConfigNode>> ConfigNode::Object() const {
  if (!value_->is_object()) Fail("must be an object");
  std::vector<std::pair<std::string, ConfigNode>> nodes;
  for (const auto& [key, value] : value_->items()) {
    nodes.emplace_back(key, ConfigNode(value, file_, path_.empty() ? key : path_ + "." + key));
  }
  return nodes;
}

char32_t ConfigNode::Char() const {
  const std::string s = String();
  const char* p = s.data();
  const char32_t c = s.empty() ? 0 : unicode::NextCodePoint(p);
  if (s.empty() || p != s.data() + s.size()) Fail("must be one character");
  return c;
}

void ConfigNode::Fail(const std::string& what, const std::string& action) const {
  std::string name = file_.substr(file_.rfind('/') + 1);
  TrainerError error =
      ConfigError(name + ": " + (path_.empty() ? "the file" : path_) + " " + what,
                  action.empty() ? "Check " + file_ + " against the model's original." : action);
  error.File(file_).Field(path_);
  throw error;
}

void ConfigNode::FailUnknownType(const std::string& kind, const std::string& known) const {
  Fail("asks for the " + kind + " " + value_->dump() + ", which is not implemented",
       "Implemented are: " + known + ".");
}

}  // namespace liger::trainer
