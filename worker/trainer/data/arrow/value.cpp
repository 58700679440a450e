#include "worker/trainer/data/arrow/value.h"

#include <arrow/extension_type.h>
#include <arrow/util/utf8.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace liger::trainer {
namespace {

using nlohmann::ordered_json;

std::string Text(std::string_view text) {
  static const bool initialized = (arrow::util::InitializeUTF8(), true);
  if (!initialized || !arrow::util::ValidateUTF8(text)) {
    throw std::runtime_error("holds text that is not UTF-8");
  }
  return std::string(text);
}

template <typename Array>
ordered_json View(const arrow::Array& array, int64_t index) {
  return static_cast<const Array&>(array).GetView(index);
}

template <typename Array>
ordered_json TextOf(const arrow::Array& array, int64_t index) {
  return Text(static_cast<const Array&>(array).GetView(index));
}

template <typename Array>
ordered_json ListOf(const arrow::Array& array, int64_t index) {
  const auto& lists = static_cast<const Array&>(array);
  ordered_json list = ordered_json::array();
  const int64_t begin = lists.value_offset(index), end = begin + lists.value_length(index);
  for (int64_t i = begin; i < end; ++i) list.push_back(ToJson(*lists.values(), i));
  return list;
}

ordered_json Object(const arrow::Array& array, int64_t index) {
  const auto& structs = static_cast<const arrow::StructArray&>(array);
  ordered_json object = ordered_json::object();
  for (int i = 0; i < structs.num_fields(); ++i) {
    ordered_json value = ToJson(*structs.field(i), index);
    if (!value.is_null() && !value.is_binary()) {
      object[structs.struct_type()->field(i)->name()] = std::move(value);
    }
  }
  return object;
}

}  // namespace

ordered_json ToJson(const arrow::Array& array, int64_t index) {
  if (array.IsNull(index)) return nullptr;
  switch (array.type_id()) {
    case arrow::Type::BOOL:
      return View<arrow::BooleanArray>(array, index);
    case arrow::Type::INT8:
      return View<arrow::Int8Array>(array, index);
    case arrow::Type::INT16:
      return View<arrow::Int16Array>(array, index);
    case arrow::Type::INT32:
      return View<arrow::Int32Array>(array, index);
    case arrow::Type::INT64:
      return View<arrow::Int64Array>(array, index);
    case arrow::Type::UINT8:
      return View<arrow::UInt8Array>(array, index);
    case arrow::Type::UINT16:
      return View<arrow::UInt16Array>(array, index);
    case arrow::Type::UINT32:
      return View<arrow::UInt32Array>(array, index);
    case arrow::Type::UINT64:
      return View<arrow::UInt64Array>(array, index);
    case arrow::Type::FLOAT:
      return View<arrow::FloatArray>(array, index);
    case arrow::Type::DOUBLE:
      return View<arrow::DoubleArray>(array, index);
    case arrow::Type::STRING:
      return TextOf<arrow::StringArray>(array, index);
    case arrow::Type::LARGE_STRING:
      return TextOf<arrow::LargeStringArray>(array, index);
    case arrow::Type::STRING_VIEW:
      return TextOf<arrow::StringViewArray>(array, index);
    case arrow::Type::LIST:
      return ListOf<arrow::ListArray>(array, index);
    case arrow::Type::LARGE_LIST:
      return ListOf<arrow::LargeListArray>(array, index);
    case arrow::Type::FIXED_SIZE_LIST:
      return ListOf<arrow::FixedSizeListArray>(array, index);
    case arrow::Type::STRUCT:
      return Object(array, index);
    case arrow::Type::DICTIONARY: {
      const auto& encoded = static_cast<const arrow::DictionaryArray&>(array);
      return ToJson(*encoded.dictionary(), encoded.GetValueIndex(index));
    }
    case arrow::Type::EXTENSION:
      return ToJson(*static_cast<const arrow::ExtensionArray&>(array).storage(), index);
    default:
      return ordered_json::binary({});
  }
}

}  // namespace liger::trainer
