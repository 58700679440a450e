#include "worker/trainer/data/token_spill.h"

#include <string_view>
#include <utility>
#include <vector>

#include "worker/trainer/data/unpacked_text.h"

namespace liger::trainer {
namespace {

std::string_view BytesOf(const TokenIds& ids) {
  return {reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int32_t)};
}

int64_t OwnBytes(const TokenIds& ids) {
  return ids.is_view() ? 0 : static_cast<int64_t>(BytesOf(ids).size());
}

}  // namespace

void TokenSpill::Bound(ExampleSet* set) {
  if (most_bytes_ <= 0) return;
  auto& sequences = set->sequences;
  auto& answers = set->cut_answers;
  for (; sequences_ < sequences.size(); ++sequences_) {
    bytes_ += OwnBytes(sequences[sequences_].input_ids) + OwnBytes(sequences[sequences_].labels);
  }
  for (; answers_ < answers.size(); ++answers_) bytes_ += OwnBytes(answers[answers_]);
  if (bytes_ <= most_bytes_) return;

  std::vector<TokenIds*> own;
  const auto add = [&](TokenIds* ids) {
    if (!ids->is_view() && !ids->empty()) own.push_back(ids);
  };
  for (; spilled_sequences_ < sequences_; ++spilled_sequences_) {
    add(&sequences[spilled_sequences_].input_ids);
    add(&sequences[spilled_sequences_].labels);
  }
  for (; spilled_answers_ < answers_; ++spilled_answers_) add(&answers[spilled_answers_]);
  const auto file =
      std::make_shared<UnpackedText>(name_, folder_, "tokenised", /*most_in_memory=*/0);
  for (const TokenIds* ids : own) file->Append(BytesOf(*ids));
  const auto* at = reinterpret_cast<const int32_t*>(file->Finish().data());
  for (TokenIds* ids : own) {
    const size_t size = ids->size();
    *ids = TokenIds::View({at, size}, file);
    at += size;
  }
  bytes_ = 0;
}

}  // namespace liger::trainer
