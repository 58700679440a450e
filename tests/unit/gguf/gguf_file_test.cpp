// GGUF files: each tensor bit-equal to PyPI's gguf, and what is refused.
#include "worker/trainer/gguf/gguf_file.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/paths.h"
#include "tests/unit/gguf/gguf_builder.h"
#include "worker/trainer/checkpoint/sha256.h"
#include "worker/trainer/error.h"
#include "worker/trainer/gguf/dequantize.h"

namespace liger::trainer {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::string kGolden = SourceDir() + "/tests/golden/gguf/";

std::string Digest(const at::Tensor& tensor) {
  Sha256 sha256;
  sha256.Update({static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes()});
  return sha256.Hex();
}

TEST(GgufFileTest, TensorsAreThoseOfTheGgufPackage) {
  const auto file = GgufFile::Open(kGolden + "tiny.gguf");
  std::ifstream in(kGolden + "expected.json");
  const auto expected = nlohmann::json::parse(in).at("dequantized");
  EXPECT_EQ(file->tensors().size(), expected.size());
  std::set<GgmlType> types;
  for (const auto& [name, tensor] : file->tensors()) {
    EXPECT_EQ(Digest(Dequantize(*file, tensor)), expected.at(name).get<std::string>()) << name;
    types.insert(tensor.type);
  }
  EXPECT_EQ(types.size(), 6u) << "a type is not covered";
}

// llama-quantize writes the embeddings and the head of Q4_0 and Q4_1 files so.
TEST(GgufFileTest, Q6KIsThatOfTheGgufPackage) {
  const auto file = GgufFile::Open(kGolden + "q6_k.gguf");
  std::ifstream in(kGolden + "expected.json");
  const GgufTensor& tensor = file->tensors().at("token_embd.weight");
  EXPECT_EQ(tensor.type, GgmlType::kQ6_K);
  EXPECT_EQ(Digest(Dequantize(*file, tensor)),
            nlohmann::json::parse(in).at("q6_k").get<std::string>());
}

class GgufBytes : public testing::Test {
 protected:
  ~GgufBytes() override { std::filesystem::remove(path_); }

  std::shared_ptr<const GgufFile> Open(const std::string& bytes) const {
    std::ofstream(path_, std::ios::binary) << bytes;
    return GgufFile::Open(path_);
  }
  std::string Error(const std::string& bytes) const {
    try {
      Open(bytes);
    } catch (const TrainerError& error) {
      EXPECT_EQ(error.failure().file(), path_);
      return error.what();
    }
    return "no error";
  }
  const std::string path_ = testing::TempDir() + "gguf-" + std::to_string(getpid()) + ".gguf";
};

TEST_F(GgufBytes, ValuesByKey) {
  const auto file = Open(GgufBuilder()
                             .Uint("a", 7)
                             .Float("b", 1e-5f)
                             .Bool("c", true)
                             .Text("d", "text")
                             .Texts("e", {"x", "", "yz"})
                             .Floats("f", {0.5f, -1})
                             .Ints("g", {3, -4})
                             .Constant("t", {2, 3}, 2)
                             .Bytes(2));
  EXPECT_EQ(file->Integer("a"), 7);
  EXPECT_EQ(file->Number("b"), 1e-5) << "the decimal number, not the nearest fp32";
  EXPECT_EQ(file->Number("a"), 7.0);
  EXPECT_EQ(file->Bool("c"), true);
  EXPECT_EQ(file->String("d"), "text");
  EXPECT_THAT(file->Strings("e"), ElementsAre("x", "", "yz"));
  EXPECT_THAT(file->Floats("f"), ElementsAre(0.5f, -1.f));
  EXPECT_THAT(file->Integers("g"), ElementsAre(3, -4));
  EXPECT_EQ(file->Integer("absent"), std::nullopt);
  EXPECT_THAT(file->tensors().at("t").shape, ElementsAre(2, 3));
  EXPECT_THROW(file->Integer("d"), TrainerError);
  EXPECT_THROW(file->String("e"), TrainerError);
  EXPECT_THROW(file->Strings("f"), TrainerError);
}

TEST_F(GgufBytes, EveryCutIsRefused) {
  const std::string whole =
      GgufBuilder().Text("key", "text").Ints("list", {1, 2}).Constant("t", {2, 3}, 2).Bytes();
  EXPECT_EQ(Error(whole), "no error");
  // The last bytes are padding behind the data.
  for (size_t size = 0; size < whole.size() - 8; ++size) {
    EXPECT_THAT(Error(whole.substr(0, size)), HasSubstr(": byte ")) << size;
  }
}

// Each names the byte; none allocates what the file only claims to hold.
TEST_F(GgufBytes, HostileNumbersAreRefused) {
  const uint64_t huge = ~uint64_t{0};
  const std::string begin = "GGUF" + Little(uint32_t{3});
  const std::string one_value = begin + Little(uint64_t{0}) + Little(uint64_t{1});
  const std::string key = Little(uint64_t{1}) + "k";
  EXPECT_THAT(Error("PK"), HasSubstr("byte 0: does not begin with GGUF"));
  EXPECT_THAT(Error("GGUF" + Little(uint32_t{0x03000000})), HasSubstr("big-endian"));
  EXPECT_THAT(Error(begin + Little(huge) + Little(uint64_t{0})),
              HasSubstr("byte 8: the number of tensors is 18446744073709551615"));
  EXPECT_THAT(Error(begin + Little(uint64_t{0}) + Little(huge)), HasSubstr("byte 16: "));
  EXPECT_THAT(Error(one_value + Little(huge) + "abcdefgh"),
              HasSubstr("byte 24: the length of a key"));
  EXPECT_THAT(Error(one_value + key + Little(uint32_t{99}) + "12345678"),
              HasSubstr("byte 33: k is of type 99"));
  EXPECT_THAT(Error(one_value + key + Little(uint32_t{9}) + Little(uint32_t{8}) + Little(huge)),
              HasSubstr("byte 41: the length of k is 18446744073709551615"));
  EXPECT_THAT(Error(one_value + key + Little(uint32_t{9}) + Little(uint32_t{9}) + Little(huge)),
              HasSubstr("array of arrays"));
  EXPECT_THAT(Error(GgufBuilder().Uint("k", 1).Uint("k", 2).Bytes()), HasSubstr("there twice"));
  EXPECT_THAT(Error(GgufBuilder().Uint("\xff", 1).Bytes()), HasSubstr("not UTF-8"));
  EXPECT_THAT(Error(GgufBuilder().Uint("general.alignment", 3).Bytes()), HasSubstr("power of 2"));
  EXPECT_THAT(Error(GgufBuilder().Uint("general.alignment", 1u << 31).Bytes()),
              HasSubstr("power of 2"));
}

TEST_F(GgufBytes, HostileTensorsAreRefused) {
  const auto error = [&](const std::vector<uint64_t>& shape, uint32_t type) {
    return Error(GgufBuilder().Tensor("t", shape, type, "12345678").Bytes());
  };
  EXPECT_EQ(error({2}, 0), "no error");
  EXPECT_THAT(error({2}, 12), HasSubstr("t is of ggml type 12 (Q4_K), which is not implemented"));
  EXPECT_THAT(error({2}, 13), HasSubstr("ggml type 13 (Q5_K)"));
  EXPECT_THAT(error({32}, 14), HasSubstr("blocks of 256"));
  EXPECT_THAT(error({2}, 99), HasSubstr("ggml type 99, which is not implemented"));
  EXPECT_THAT(error({0}, 0), HasSubstr("a dimension of 0"));
  EXPECT_THAT(error({uint64_t{1} << 63}, 0), HasSubstr("a dimension of"));
  EXPECT_THAT(error({uint64_t{1} << 40, uint64_t{1} << 40}, 0), HasSubstr("larger than the file"));
  EXPECT_THAT(error({1 << 20}, 0), HasSubstr("larger than the file"));
  EXPECT_THAT(error({33}, 8), HasSubstr("blocks of 32"));
  EXPECT_THAT(error({}, 0), HasSubstr("0 dimensions"));
  EXPECT_THAT(error({1, 1, 1, 1, 1}, 0), HasSubstr("5 dimensions"));
  EXPECT_THAT(Error(GgufBuilder().Constant("t", {1}, 1).Constant("t", {1}, 1).Bytes()),
              HasSubstr("tensor t is there twice"));
  std::string moved = GgufBuilder().Constant("t", {2}, 1).Bytes();
  // Behind the header of 24 bytes: the name, the dimensions, the type.
  moved.replace(24 + 8 + 1 + 4 + 8 + 4, 8, Little(uint64_t{1} << 40));
  EXPECT_THAT(Error(moved), HasSubstr("ends behind the file's end"));
}

}  // namespace
}  // namespace liger::trainer
