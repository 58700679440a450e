#include "worker/trainer/data/row_file.h"

#include <zlib.h>
#include <zstd.h>

#include "tests/unit/data/test_util.h"

namespace liger::trainer {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// As `gzip` writes it.
std::string Gzip(std::string text) {
  z_stream stream = {};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(deflateBound(&stream, text.size()), 0);
  stream.next_in = reinterpret_cast<Bytef*>(text.data());
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

std::string Zstd(const std::string& text) {
  std::string packed(ZSTD_compressBound(text.size()), 0);
  packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 3));
  return packed;
}

std::string Rows(const std::string& content, const std::string& name) {
  const TempFile file(content, name);
  const auto rows = OpenRows(file.path(), 0);
  std::string text;
  for (int64_t i = 0; i < rows->size(); ++i) text += rows->Parse(i).dump();
  return text;
}

liger::v1::Failure ReadFailure(const std::string& content, const std::string& name) {
  return FailureOf([&] { Rows(content, name); });
}

TEST(CsvRows, ReadsRfc4180) {
  EXPECT_EQ(Rows("\xEF\xBB\xBFprompt,\"the, answer\"\r\n"
                 "plain, spaced \r\n\r\n"
                 "\"a \"\"quoted\"\" word\",\"two\nlines\"\n"
                 "5\" disk,\n"
                 "say \"\"hi\"\" now,x\n"
                 "é,\"\"\"\"",
                 "rows.csv"),
            R"({"prompt":"plain","the, answer":" spaced "})"
            R"({"prompt":"a \"quoted\" word","the, answer":"two\nlines"})"
            R"({"prompt":"5\" disk","the, answer":null})"
            R"({"prompt":"say \"\"hi\"\" now","the, answer":"x"})"
            R"({"prompt":"é","the, answer":"\""})");
}

TEST(CsvRows, BreaksAreNamedByRowAndLine) {
  EXPECT_THAT(ReadFailure("a,b\n1,\"x\ny\"\n1,2,3\n", "rows.csv").message(),
              HasSubstr("row 2 (line 4): has 3 fields, and the header names 2 columns"));
  EXPECT_THAT(ReadFailure("a,b\n1,\"x\n", "rows.csv").message(),
              AllOf(HasSubstr("row 1 (line 2)"), HasSubstr("never closed")));
  EXPECT_THAT(ReadFailure("a,b\n1,\"x\"y\n", "rows.csv").message(),
              HasSubstr("row 1 (line 2): text follows the closing quote of field 2"));
  EXPECT_THAT(ReadFailure("a\n\xFF\n", "rows.csv").message(), HasSubstr("column a: is not UTF-8"));
  EXPECT_THAT(ReadFailure("a,a\n1,2\n", "rows.csv").message(), HasSubstr("column \"a\" twice"));
  EXPECT_THAT(ReadFailure("a,b\n", "rows.csv").message(), HasSubstr("no rows"));
  EXPECT_THAT(ReadFailure("", "rows.csv").message(), HasSubstr("the file is empty"));
  EXPECT_THAT(ReadFailure("a;b\n1;2\n", "rows.csv").message(), HasSubstr("by semicolons"));
  EXPECT_THAT(ReadFailure("a\tb\n1\t2\n", "rows.csv").message(), HasSubstr("separated by tabs"));
}

TEST(CsvRows, BlanksAroundNamesAreLeftOut) {
  EXPECT_EQ(Rows("prompt , completion\na, b \n5\" disk,c\n", "rows.csv"),
            R"({"prompt":"a","completion":" b "}{"prompt":"5\" disk","completion":"c"})");
  EXPECT_THAT(ReadFailure("a, a\n1,2\n", "rows.csv").message(), HasSubstr("column \"a\" twice"));
  // Quotes behind a blank would be text.
  EXPECT_THAT(ReadFailure("a, \"b\"\n1,2\n", "rows.csv").message(),
              HasSubstr("rows.csv: a blank stands before a quote in the header"));
  const auto failure = ReadFailure("a, b\n1,2\n1, \"2, 3\"\n", "rows.csv");
  EXPECT_THAT(failure.message(),
              HasSubstr("row 2 (line 3): a blank stands before the quote of field 2"));
  EXPECT_THAT(failure.action(), HasSubstr("Remove the blanks after the commas"));
  EXPECT_EQ(Rows("a,b\n1, \"so\" he said\n", "rows.csv"), R"({"a":"1","b":" \"so\" he said"})");
}

// Spreadsheets of old save lines that end in \r; those inside of quotes belong to the field.
TEST(CsvRows, LinesEndInAnyOfThreeWays) {
  for (const std::string end : {"\n", "\r\n", "\r"}) {
    SCOPED_TRACE(end);
    const std::string text =
        end + "a,\"b\"" + end + end + "1,\"x\ry\r\nz\"" + end + "2,\"\"\"\"" + end + "3,c";
    EXPECT_EQ(Rows(text, "rows.csv"),
              R"({"a":"1","b":"x\ry\r\nz"}{"a":"2","b":"\""}{"a":"3","b":"c"})");
    EXPECT_EQ(Rows("\xEF\xBB\xBF" + text + end, "rows.csv"), Rows(text, "rows.csv"));
    EXPECT_THAT(ReadFailure("a,b" + end + "1,\"x\ry\"" + end + "1,2,3" + end, "rows.csv").message(),
                HasSubstr("row 2 (line 4): has 3 fields"));
  }
}

TEST(CsvRows, ReadsNoMoreRowsThanAsked) {
  const TempFile file("a\n1\n2\n\"3\n", "rows.csv");
  EXPECT_EQ(OpenRows(file.path(), 2)->size(), 2);
}

TEST(DataText, UnpacksGzipWhateverTheName) {
  const std::string big(3'000'000, ' ');  // more than a piece
  for (const char* name : {"rows.jsonl.gz", "rows.json"}) {
    EXPECT_EQ(Rows(Gzip(big + "{\"a\": 1}\n"), name), "{\"a\":1}") << name;
  }
  EXPECT_EQ(Rows(Gzip("a\n1\n") + Gzip("2\n"), "rows.csv.gz"), R"({"a":"1"}{"a":"2"})");
  // Padded to a block, as gzip(1) takes it; but not what follows the zeros.
  const std::string padded = Gzip("a\n1\n") + std::string(3000, '\0');
  EXPECT_EQ(Rows(padded, "rows.csv.gz"), R"({"a":"1"})");
  EXPECT_THAT(FailureOf([&] { Rows(padded + "x", "rows.csv.gz"); }).message(),
              HasSubstr("the gzip stream is damaged"));
}

TEST(DataText, GzipThatIsCutOrDamagedIsRefused) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "{\"a\": " + std::to_string(i * i) + "}\n";
  const std::string packed = Gzip(text);
  for (const size_t length : {size_t{2}, size_t{12}, packed.size() / 2, packed.size() - 1}) {
    EXPECT_THAT(ReadFailure(packed.substr(0, length), "rows.jsonl.gz").message(),
                AllOf(HasSubstr("rows.jsonl.gz: byte "), HasSubstr("cut short")))
        << length;
  }
  std::string damaged = packed;
  damaged[packed.size() / 2] ^= 0x40;
  EXPECT_THAT(ReadFailure(damaged, "rows.jsonl.gz").message(), HasSubstr("is damaged"));
  EXPECT_THAT(ReadFailure(packed + "tail", "rows.jsonl.gz").message(), HasSubstr("is damaged"));
}

// ASCII text in an encoding of `width` bytes a character.
std::string Wide(const std::string& text, size_t width, bool big_endian) {
  std::string wide;
  for (const char c : text) {
    const std::string zeros(width - 1, '\0');
    wide += big_endian ? zeros + c : c + zeros;
  }
  return wide;
}

TEST(DataText, WideEncodingsAreNamedWithTheRemedy) {
  struct Encoding {
    const char* name;
    std::string mark;
    size_t width;
    bool big_endian;
  };
  for (const auto& [name, mark, width, big] :
       {Encoding{"UTF-16LE", "\xFF\xFE", 2, false}, Encoding{"UTF-16BE", "\xFE\xFF", 2, true},
        Encoding{"UTF-32LE", std::string("\xFF\xFE\0\0", 4), 4, false},
        Encoding{"UTF-32BE", std::string("\0\0\xFE\xFF", 4), 4, true}}) {
    for (const auto& [file, text] : {std::pair("r.jsonl", "{\"text\": \"a\"}\n"),
                                     {"r.json", "[{\"text\": \"a\"}]"},
                                     {"r.csv", "text\r\na\r\n"}}) {
      const std::string wide = Wide(text, width, big);
      for (const std::string& content : {mark + wide, wide, Gzip(mark + wide)}) {
        const auto failure = ReadFailure(content, file);
        EXPECT_THAT(failure.message(), HasSubstr(std::string(file) + ": is " + name + " text"));
        EXPECT_THAT(failure.action(), HasSubstr(std::string("iconv -f ") + name + " -t UTF-8"));
        EXPECT_EQ(failure.file().substr(failure.file().rfind('/') + 1), file);
      }
    }
  }
  // Characters of the marks alone, and of UTF-16's other characters.
  EXPECT_THAT(ReadFailure("\xFF\xFE", "r.csv").message(), HasSubstr("UTF-16LE"));
  EXPECT_THAT(ReadFailure("\xFE\xFF\x4F\x60", "r.csv").message(), HasSubstr("UTF-16BE"));
}

TEST(DataText, ShortAndForeignBytesAreNotTakenForAnEncoding) {
  for (const std::string& content :
       {std::string(1, '\0'), std::string(2, '\0'), std::string(5, '\0')}) {
    EXPECT_THAT(ReadFailure(content, "r.jsonl").message(), HasSubstr("begins with byte 0x00"));
  }
  EXPECT_THAT(ReadFailure("\xE4hnlich", "r.jsonl").message(), HasSubstr("begins with byte 0xE4"));
  EXPECT_EQ(Rows("\xEF\xBB\xBF{\"a\": 1}", "r.jsonl"), "{\"a\":1}");
  EXPECT_EQ(Rows("a\n1\n", "r.csv"), R"({"a":"1"})");
}

TEST(DataText, UnpacksZstdWhateverTheName) {
  std::string exact = "{\"a\": 1}";  // exactly a piece, so that the frame ends with it
  exact.resize(1 << 20, ' ');
  for (const char* name : {"rows.jsonl.zst", "rows.json"}) {
    EXPECT_EQ(Rows(Zstd(std::string(3'000'000, ' ') + "{\"a\": 1}\n"), name), "{\"a\":1}") << name;
    EXPECT_EQ(Rows(Zstd(exact), name), "{\"a\":1}") << name;
  }
  // Several frames, one of them of the kind that is to be skipped.
  const std::string skippable("\x50\x2A\x4D\x18\x04\0\0\0skip", 12);
  EXPECT_EQ(Rows(skippable + Zstd(exact), "pzstd.jsonl"), "{\"a\":1}");
  EXPECT_EQ(Rows(Zstd("a\n1\n") + skippable + Zstd("2\n"), "rows.csv.zst"),
            R"({"a":"1"}{"a":"2"})");
}

TEST(DataText, ZstdThatIsCutOrDamagedIsRefused) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "{\"a\": " + std::to_string(i * i) + "}\n";
  const std::string packed = Zstd(text);
  for (const size_t length : {size_t{4}, size_t{12}, packed.size() / 2, packed.size() - 1}) {
    EXPECT_THAT(ReadFailure(packed.substr(0, length), "rows.jsonl.zst").message(),
                AllOf(HasSubstr("rows.jsonl.zst: byte " + std::to_string(length) + ": "),
                      HasSubstr("the zstd stream is cut short")))
        << length;
  }
  EXPECT_THAT(ReadFailure(packed + "tail", "rows.jsonl.zst").message(), HasSubstr("is damaged"));
}

TEST(OpenRows, PointersOfGitLfsAreTold) {
  const std::string pointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:1f3a\nsize 52428800\n";
  for (const char* name : {"r.parquet", "r.arrow", "r.json", "r.jsonl.gz", "r.csv"}) {
    const auto failure = ReadFailure(pointer, name);
    EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_DATA);
    EXPECT_THAT(failure.message(), HasSubstr(std::string(name) + ": is a Git LFS pointer"));
    EXPECT_THAT(failure.action(), HasSubstr("`git lfs pull`"));
  }
}

TEST(OpenRows, PackingsThatAreNotReadAreTold) {
  std::string tar = "train.jsonl" + std::string(600, '\0');
  tar.replace(257, 8,
              std::string("ustar\0"
                          "00",
                          8));
  std::string gnu_tar = tar;
  gnu_tar.replace(257, 8, std::string("ustar  \0", 8));
  for (const auto& [name, content, form] :
       {std::tuple("r.jsonl.bz2", std::string("BZh91AY&SY\x1A"), "is packed with bzip2"),
        {"r.jsonl.xz",
         std::string("\xFD"
                     "7zXZ\0\0\x04",
                     8),
         "is packed with xz"},
        {"r.zip", std::string("PK\x03\x04\x14"), "is a zip archive"},
        {"r.7z", std::string("7z\xBC\xAF\x27\x1C\0", 7), "is a 7z archive"},
        {"r.tar", tar, "is a tar archive"},
        {"r.jsonl.gz", Gzip(tar), "is a tar archive"},
        {"r.jsonl.zst", Zstd(gnu_tar), "is a tar archive"},
        {"r.tar.gz", std::string("\x1F\x8B"), "is a tar archive"}}) {
    for (const std::string as : {name, "r.csv", "r.parquet"}) {
      if (as != name && content.starts_with("\x1F\x8B")) continue;
      if (as == "r.parquet" && content.starts_with("\x28\xB5")) continue;
      const auto failure = ReadFailure(content, as);
      EXPECT_THAT(failure.message(), HasSubstr(as + ": " + form + ", which is not read")) << name;
      EXPECT_THAT(failure.action(), HasSubstr("Unpack it"));
    }
  }
  const std::string text = "{\"a\": \"" + std::string(248, ' ') + "ustar\"}";
  EXPECT_EQ(text.find("ustar"), 255u);
  EXPECT_EQ(Rows("  " + text, "r.jsonl").size(), text.size() - 1);
}

// Rows of equal length: how many there are follows from how far the first ones reach.
TEST(RowFile, ALimitEndsAtItsRowsOrBytesWhicheverAreMore) {
  std::string lines, csv = "a\n", array = "[";
  for (int i = 0; i < 100; ++i) {
    lines += "{\"a\": \"xyz\"}\n";
    csv += "xyz\n";
    array += (i == 0 ? "" : ",") + std::string("{\"a\": \"xyz\"}");
  }
  for (const auto& [content, name] :
       {std::pair(lines, "r.jsonl"), {csv, "r.csv"}, {array + "]", "r.json"}}) {
    SCOPED_TRACE(name);
    const TempFile file(content, name);
    const auto rows = [&](RowLimit limit) { return OpenRows(file.path(), limit); };
    EXPECT_EQ(rows(0)->size(), 100);
    EXPECT_EQ(rows(0)->AboutInAll(), 100);
    EXPECT_EQ(rows(7)->size(), 7);
    EXPECT_NEAR(rows(7)->AboutInAll(), 100, 8);  // a header counts as a part of them
    EXPECT_EQ(rows(100)->AboutInAll(), 100);
    const RowLimit half(7, content.size() / 2);
    EXPECT_NEAR(rows(half)->size(), 50, 2);
    EXPECT_NEAR(rows(half)->AboutInAll(), 100, 2);
    EXPECT_EQ(rows(RowLimit(7, content.size()))->size(), 100);
    EXPECT_GT(rows(99)->AboutInAll(), 99) << "the rest is not forgotten";
  }
}

}  // namespace
}  // namespace liger::trainer
