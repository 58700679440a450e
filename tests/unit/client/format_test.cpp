#include "client/format.h"

#include <gtest/gtest.h>

#include <cmath>

namespace liger::client {
namespace {

TEST(FormatTest, TableAlignsColumnsAndCountsUtf8) {
  Table table({"A", "BB"});
  table.Add({"▁▂▃", "x"});
  table.Add({"long cell", ""});
  EXPECT_EQ(table.ToString(), "A          BB\n▁▂▃        x\nlong cell\n");
}

TEST(FormatTest, BytesAndDurations) {
  EXPECT_EQ(Bytes(1023), "1023 B");
  EXPECT_EQ(Bytes(1536), "1.50 KiB");
  EXPECT_EQ(Bytes(int64_t{3} << 40), "3.00 TiB");
  EXPECT_EQ(Duration(12.4), "12s");
  EXPECT_EQ(Duration(200), "3m20s");
  EXPECT_EQ(Duration(3720), "1h02m");
  EXPECT_EQ(Duration(90000), "1d01h");
  EXPECT_EQ(Duration(NAN), "-");
}

TEST(FormatTest, BarIsClampedAndSparklineSpansItsRange) {
  EXPECT_EQ(ProgressBar(0.5, 4), "[##--]");
  EXPECT_EQ(ProgressBar(7, 4), "[####]");
  EXPECT_EQ(ProgressBar(NAN, 4), "[----]");
  EXPECT_EQ(Sparkline({0, 7, 3.5}, 10), "▁█▅");
  EXPECT_EQ(Sparkline({9, 0, 1}, 2), "▁█");  // the newest
  EXPECT_EQ(Sparkline({1, 1}, 10), "▁▁");    // no range
  EXPECT_EQ(Sparkline({1, NAN, 2}, 10), "▁x█");
}

TEST(FormatTest, PrintableDropsWhatCouldMoveTheCursor) {
  EXPECT_EQ(Printable("a\033[2Jb\r\n\tc\x7f é"), "a[2Jb\n\tc é");
}

}  // namespace
}  // namespace liger::client
