// The template interpreter: any text as a template, over one conversation with tools.

#include <nlohmann/json.hpp>

#include "tests/fuzz/fuzz_target.h"
#include "worker/trainer/text/chat_template.h"

namespace {

using nlohmann::ordered_json;

const ordered_json& Messages() {
  static const ordered_json messages = ordered_json::parse(R"([
    {"role": "system", "content": " Be brief.\n"},
    {"role": "user", "content": "2 + 2?"},
    {"role": "assistant", "content": "", "tool_calls": [
      {"type": "function", "function":
        {"name": "add", "arguments": {"a": 2, "b": [2, null, 1.5]}}}]},
    {"role": "tool", "name": "add", "content": "4"},
    {"role": "assistant", "content": "<think>easy</think>4 \u2014 \ud83d\ude00"}])");
  return messages;
}

const ordered_json& Extra() {
  static const ordered_json extra = ordered_json::parse(R"({
    "bos_token": "<s>", "eos_token": "</s>", "tools": [{"type": "function", "function": {
      "name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {
        "a": {"type": "integer"}}}}}]})");
  return extra;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace liger::trainer;
  MayRefuse([&] {
    const auto parsed = ChatTemplate::FromString(std::string(AsText(data, size)), "fuzz", Extra());
    MayRefuse([&] { parsed.RenderWithSpans(Messages(), true, ordered_json::object()); });
    parsed.RenderWithSpans(Messages(), false, Extra());
  });
  return 0;
}
