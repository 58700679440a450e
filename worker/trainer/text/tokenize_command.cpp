#include "worker/trainer/text/tokenize_command.h"

#include <istream>
#include <nlohmann/json.hpp>
#include <ostream>

#include "worker/trainer/error.h"
#include "worker/trainer/exact_json.h"
#include "worker/trainer/text/chat_template.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {
namespace {

using Json = nlohmann::ordered_json;

[[noreturn]] void FailRow(int64_t row, const std::string& what) {
  throw DataError("line " + std::to_string(row) + " " + what,
                  "Each line is {\"text\": ...}, {\"messages\": [...]} or, to decode, "
                  "{\"ids\": [...]}.")
      .Row(row);
}

class Command {
 public:
  explicit Command(const TokenizeOptions& options)
      : options_(options), tokenizer_(Tokenizer::FromFolder(options.model_dir)) {
    if (!options.decode) template_ = ChatTemplate::FromFolder(options.model_dir);
  }

  Json Process(const Json& row, int64_t number) const {
    if (options_.decode) return Decode(row, number);
    if (row.contains("text") && row["text"].is_string()) {
      const auto text = row["text"].get<std::string>();
      return {{"ids", tokenizer_->Encode(text, options_.add_special_tokens)}};
    }
    if (row.contains("messages")) return RenderAndEncode(row, number);
    FailRow(number, "has neither \"text\", a string, nor \"messages\"");
  }

 private:
  Json Decode(const Json& row, int64_t number) const {
    if (!row.contains("ids") || !row["ids"].is_array()) FailRow(number, "has no array \"ids\"");
    std::vector<int32_t> ids;
    for (const Json& id : row["ids"]) {
      if (!id.is_number_integer() || id < 0 || id > INT32_MAX) {
        FailRow(number, "has an id that is no id: " +
                            (IsLongInteger(id) ? LongIntegerText(id) : id.dump()));
      }
      ids.push_back(id.get<int32_t>());
    }
    return {{"text", tokenizer_->Decode(ids, options_.skip_special_tokens)}};
  }

  Json RenderAndEncode(const Json& row, int64_t number) const {
    if (!template_) {
      FailRow(number, "has messages, but " + options_.model_dir + " has no chat template");
    }
    Json extra = row;
    extra.erase("messages");
    const bool prompt = extra.value("add_generation_prompt", false);
    extra.erase("add_generation_prompt");
    const std::string rendered = template_->Render(row["messages"], prompt, extra);
    return {{"ids", tokenizer_->Encode(rendered, false)}, {"rendered", rendered}};
  }

  const TokenizeOptions options_;
  const std::unique_ptr<Tokenizer> tokenizer_;
  std::optional<ChatTemplate> template_;
};

// A row's errors say which line of the input they are about.
Json ProcessLine(const Command& command, const std::string& line, int64_t number) {
  try {
    const Json row = ParseExactJson(line);
    if (!row.is_object()) FailRow(number, "is not a JSON object");
    return command.Process(row, number);
  } catch (const JsonTextError& error) {
    FailRow(number, std::string("cannot be read: ") + error.what());
  } catch (const nlohmann::json::exception& error) {
    FailRow(number, std::string("is not what is expected: ") + error.what());
  } catch (const TrainerError& error) {
    if (error.failure().row() != 0) throw;
    throw TrainerError(error.failure().class_(),
                       "line " + std::to_string(number) + ": " + error.what(),
                       error.failure().action())
        .File(error.failure().file())
        .Row(number);
  }
}

}  // namespace

void RunTokenize(const TokenizeOptions& options, std::istream& in, std::ostream& out) {
  const Command command(options);
  std::string line;
  for (int64_t number = 1; std::getline(in, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    out << ProcessLine(command, line, number).dump() << '\n';
  }
}

}  // namespace liger::trainer
