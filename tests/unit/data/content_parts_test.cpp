#include "worker/trainer/data/content_parts.h"

#include "tests/paths.h"
#include "tests/unit/data/test_util.h"
#include "worker/trainer/data/dataset.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {
namespace {

constexpr char kWhole[] = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}";
constexpr char kTrimmed[] =
    "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}{% endfor %}";
constexpr char kAdded[] = "{% for m in messages %}{{ '[' + m.role + ']' + m.content }}{% endfor %}";
constexpr char kJson[] =
    "{% for m in messages %}[{{ m.role }}]{{ m.content | tojson }}{% endfor %}";
constexpr char kParts[] =
    "{% for m in messages %}[{{ m.role }}]{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for p in m.content %}<{{ p.text }}>{% endfor %}{% endif %}{% endfor %}";

ChatTemplate Template(const char* source) {
  return ChatTemplate::FromString(source, "test", nlohmann::ordered_json::object());
}

TEST(ContentParts, AreReadByTemplatesThatWriteTheirText) {
  EXPECT_TRUE(ReadsContentParts(Template(kParts)));
  for (const char* source : {kWhole, kTrimmed, kAdded, kJson}) {
    EXPECT_FALSE(ReadsContentParts(Template(source))) << source;
  }
}

std::string Rendered(const char* source, liger::v1::JobSpec::MethodCase method,
                     const std::string& row, size_t sequence) {
  const auto tokenizer = Tokenizer::FromFolder(SourceDir() + "/tests/golden/data/chat");
  const ChatTemplate chat_template = Template(source);
  const TempFile file("[" + row + "]");
  LoadOptions options;
  options.method = method;
  options.train_files = {{file.path()}};
  const Dataset dataset = LoadDataset({}, options, *tokenizer, &chat_template);
  return tokenizer->Decode(dataset.train.sequences.at(sequence).input_ids, false);
}

TEST(ContentParts, AreJoinedWhereTheTemplateWantsText) {
  const std::string messages = R"({"messages": [
      {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
      {"role": "assistant", "content": [{"type": "text", "text": "c"}]}]})";
  for (const char* source : {kWhole, kTrimmed, kAdded}) {
    EXPECT_EQ(Rendered(source, liger::v1::JobSpec::kSft, messages, 0), "[user]a\nb[assistant]c");
  }
  EXPECT_EQ(Rendered(kParts, liger::v1::JobSpec::kSft, messages, 0),
            "[user]<a><b>[assistant]<c>");
  const std::string pair = R"({"prompt": [{"role": "user", "content": "q"}],
      "chosen": [{"role": "assistant", "content": [{"type": "text", "text": "y"}]}],
      "rejected": [{"role": "assistant", "content": [{"type": "text", "text": "n"}]}]})";
  for (const auto method : {liger::v1::JobSpec::kDpo, liger::v1::JobSpec::kKto}) {
    EXPECT_EQ(Rendered(kWhole, method, pair, 1), "[user]q[assistant]n");
  }
}

}  // namespace
}  // namespace liger::trainer
