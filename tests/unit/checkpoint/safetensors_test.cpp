#include "worker/trainer/checkpoint/safetensors.h"

#include <ATen/ATen.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/paths.h"
#include "tests/unit/checkpoint/test_util.h"
#include "worker/trainer/checkpoint/safetensors_writer.h"

namespace liger::trainer {
namespace {

using testing::HasSubstr;

const std::string kGolden = SourceDir() + "/tests/golden/checkpoint/";

// A file with this header text and this many bytes of data.
std::string FileBytes(const std::string& header, size_t data_bytes) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(header.size() >> (8 * i));
  return bytes + header + std::string(data_bytes, '\x01');
}

liger::v1::Failure OpenFailure(const std::string& bytes) {
  const TempDir dir;
  WriteFile(dir / "broken.safetensors", bytes);
  return FailureOf([&] { SafetensorsFile::Open(dir / "broken.safetensors"); });
}

// The file made by tools/fixtures/checkpoint_fixtures.py with the PyPI package.
TEST(Safetensors, ReadsWhatThePythonPackageWrote) {
  const auto file = SafetensorsFile::Open(kGolden + "dtypes.safetensors");
  const auto expected = nlohmann::json::parse(ReadFile(kGolden + "dtypes.json"));
  ASSERT_EQ(file->tensors().size(), expected["tensors"].size());
  for (const auto& [name, entry] : expected["tensors"].items()) {
    ASSERT_EQ(file->tensors().count(name), 1) << name;
    const at::Tensor view = file->View(name);
    EXPECT_EQ(view.sizes().vec(), entry["shape"].get<std::vector<int64_t>>()) << name;
    const std::vector<double> values = entry["values"];
    const at::Tensor want = at::tensor(values, at::kDouble).view(view.sizes());
    EXPECT_TRUE(at::equal(view.to(at::kDouble), want)) << name << "\n" << view << want;
  }
  EXPECT_EQ(file->metadata().at("format"), "pt");
}

TEST(Safetensors, ReadsTensorsThatTheFileDoesNotAlign) {
  const TempDir dir;
  // One byte, then a float at offset 1.
  std::string bytes = FileBytes(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                R"("b":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})",
                                1);
  const float value = 2.5f;
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
  WriteFile(dir / "f.safetensors", bytes);
  const auto file = SafetensorsFile::Open(dir / "f.safetensors");
  EXPECT_EQ(file->View("b").item<float>(), 2.5f);
  EXPECT_EQ(file->View("a").item<uint8_t>(), 1);
}

TEST(Safetensors, CopyIntoConvertsAndLeavesTheFileReadable) {
  const TempDir dir;
  const at::Tensor source = at::randn({300, 257});
  {
    OutputFolder folder(dir / "out", false, 0);
    WriteSafetensors(folder, "w.safetensors", {{"w", source}}, at::kBFloat16);
    folder.Commit();
  }
  const auto file = SafetensorsFile::Open(dir / "out/w.safetensors");
  at::Tensor fp32 = at::zeros({300, 257}).requires_grad_(true);
  file->CopyInto("w", fp32);
  EXPECT_TRUE(at::equal(fp32, source.to(at::kBFloat16).to(at::kFloat)));
  EXPECT_TRUE(fp32.is_leaf());
  at::Tensor again = at::zeros({300, 257}, at::kHalf);
  file->CopyInto("w", again);  // after the pages were given back
  EXPECT_TRUE(at::equal(again, source.to(at::kBFloat16).to(at::kHalf)));
}

TEST(Safetensors, WritesEveryDtypeAndEmptyTensors) {
  const TempDir dir;
  const std::vector<NamedTensor> tensors = {
      {"i8", at::arange(5, at::kChar)},
      {"bool", at::arange(3).remainder(2).to(at::kBool)},
      {"f64", at::randn({2, 2}, at::kDouble)},
      {"empty", at::zeros({0, 4})},
      {"scalar", at::tensor(3.5f)},
      {"transposed", at::randn({3, 5}).t()},
      {"i64", at::tensor({int64_t{1} << 40, int64_t{-7}})},
  };
  OutputFolder folder(dir / "out", false, 0);
  WriteSafetensors(folder, "t.safetensors", tensors, std::nullopt, {});
  folder.Commit();
  const auto file = SafetensorsFile::Open(dir / "out/t.safetensors");
  ASSERT_EQ(file->tensors().size(), tensors.size());
  for (const NamedTensor& t : tensors) {
    EXPECT_EQ(file->View(t.name).scalar_type(), t.tensor.scalar_type()) << t.name;
    EXPECT_TRUE(at::equal(file->View(t.name), t.tensor)) << t.name;
    EXPECT_EQ(file->tensors().at(t.name).begin % t.tensor.element_size(), 0) << t.name;
  }
}

struct BrokenHeader {
  const char* header;
  size_t data_bytes;
  const char* message;
};

class BrokenSafetensors : public testing::TestWithParam<BrokenHeader> {};

TEST_P(BrokenSafetensors, IsRefusedWithTheCause) {
  const auto failure = OpenFailure(FileBytes(GetParam().header, GetParam().data_bytes));
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_CONFIG);
  EXPECT_THAT(failure.message(), HasSubstr("broken.safetensors"));
  EXPECT_THAT(failure.message(), HasSubstr(GetParam().message));
  EXPECT_THAT(failure.file(), HasSubstr("broken.safetensors"));
  EXPECT_NE(failure.action(), "");
}

INSTANTIATE_TEST_SUITE_P(
    All, BrokenSafetensors,
    testing::Values(
        BrokenHeader{R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})", 8,
                     "header, byte 62 of the file: not valid JSON"},
        BrokenHeader{R"({"a":1e999})", 0, "header, byte 18 of the file: number overflow"},
        BrokenHeader{R"([1])", 0, "not an object"},
        BrokenHeader{R"({"a":3})", 0, "tensor a: its entry is not an object"},
        BrokenHeader{R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", 8,
                     "tensor a: unknown dtype \"F31\""},
        BrokenHeader{R"({"a":{"shape":[2],"data_offsets":[0,8]}})", 8, "no dtype"},
        BrokenHeader{R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", 8, "shape is absent"},
        BrokenHeader{R"({"a":{"dtype":"F32","shape":[2]}})", 8, "data_offsets is absent"},
        BrokenHeader{R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", 8, "not a pair"},
        BrokenHeader{R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8, "backwards"},
        BrokenHeader{R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8,
                     "shape holds -2"},
        BrokenHeader{R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", 8,
                     "shape holds 2.0"},
        BrokenHeader{R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]}})",
                     8, "data_offsets holds 18446744073709551615"},
        BrokenHeader{R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4,
                     "truncated, or offsets out of range"},
        BrokenHeader{R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[100,108]}})", 8,
                     "truncated, or offsets out of range"},
        BrokenHeader{R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8,
                     "takes 12 bytes, and its data_offsets span 8"},
        BrokenHeader{
            R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})", 8,
            "overflows 64 bits"},
        // 2^62 floats and a zero: the product wraps to 0 without a check.
        BrokenHeader{
            R"({"a":{"dtype":"F32","shape":[4611686018427387904,0],"data_offsets":[0,0]}})", 0,
            "overflows 64 bits"},
        BrokenHeader{R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                     R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                     12, "tensors a and b overlap"},
        BrokenHeader{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                     R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
                     12, "bytes 4 to 8 of the data, before tensor b, belong to no tensor"},
        BrokenHeader{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 9,
                     "the file goes on to 9"},
        BrokenHeader{R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                     R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                     2, "\"a\" twice"},
        BrokenHeader{R"({"__metadata__":{"format":1}})", 0, "__metadata__.format"},
        BrokenHeader{R"({"__metadata__":[]})", 0, "__metadata__ is not an object"}));

TEST(Safetensors, RefusesFilesTooShortForTheirHeader) {
  EXPECT_THAT(OpenFailure("").message(), HasSubstr("truncated"));
  EXPECT_THAT(OpenFailure("1234567").message(), HasSubstr("truncated: 7 bytes"));
  const std::string whole =
      FileBytes(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1);
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
    EXPECT_THAT(OpenFailure(whole.substr(0, bytes)).message(), HasSubstr("truncated")) << bytes;
  }
}

TEST(Safetensors, RefusesAHeaderOver100Megabytes) {
  std::string bytes = FileBytes("", 0);
  const uint64_t length = 100'000'001;
  std::memcpy(bytes.data(), &length, sizeof(length));
  EXPECT_THAT(OpenFailure(bytes).message(), HasSubstr("over the format's limit of 100000000"));
  std::memset(bytes.data(), 0xFF, sizeof(length));  // 2^64 - 1 must not wrap
  EXPECT_THAT(OpenFailure(bytes).message(), HasSubstr("over the format's limit"));
}

TEST(Safetensors, RefusesAHeaderThatNestsTooDeep) {
  const std::string header =
      "{\"a\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}";
  EXPECT_THAT(OpenFailure(FileBytes(header, 0)).message(),
              HasSubstr("header, byte 269 of the file: nested more than 256 levels deep"));
}

TEST(Safetensors, AFileCutAfterItWasOpenedIsTold) {
  const TempDir dir;
  const std::string path = dir / "cut.safetensors";
  const std::string header = R"({"a":{"dtype":"U8","shape":[1000000],"data_offsets":[0,1000000]}})";
  WriteFile(path, FileBytes(header, 1'000'000));
  const auto file = SafetensorsFile::Open(path);
  std::filesystem::resize_file(path, 100);
  const at::Tensor target = at::empty({1'000'000}, at::kByte);
  const auto failure = FailureOf([&] { file->CopyInto("a", target); });
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_STORAGE);
  EXPECT_EQ(failure.file(), path);
  EXPECT_THAT(failure.message(), HasSubstr("was cut short"));
}

TEST(Safetensors, ReportsAMissingFile) {
  const auto failure = FailureOf([] { SafetensorsFile::Open("/nonexistent/model.safetensors"); });
  EXPECT_THAT(failure.message(), HasSubstr("/nonexistent/model.safetensors: No such file"));
}

// A change of any byte of the header is either refused or harmless, and never a
// crash.
TEST(Safetensors, SurvivesFlippedBytes) {
  const std::string whole = FileBytes(R"({"a":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]},)"
                                      R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
                                      12);
  const TempDir dir;
  for (size_t at = 0; at + 12 < whole.size(); ++at) {
    for (const int flip : {0x01, 0x10, 0x80}) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      WriteFile(dir / "f.safetensors", bytes);
      try {
        const auto file = SafetensorsFile::Open(dir / "f.safetensors");
        for (const auto& [name, info] : file->tensors()) file->View(name).clone();
      } catch (const TrainerError& e) {
        EXPECT_NE(e.failure().action(), "");
      }
    }
  }
}

}  // namespace
}  // namespace liger::trainer
