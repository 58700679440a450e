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

TEST(FormatTest, AWideLastColumnIsWrappedOrGoesBelowItsRow) {
  Table table({"NAME", "CAUSE"});
  table.Add({"job", "no worker has the model that it names"});
  EXPECT_EQ(table.ToString(30),
            "NAME  CAUSE\njob   no worker has the model\n      that it names\n");
  EXPECT_EQ(table.ToString(80), table.ToString());
  Table narrow({"A LONG FIRST COLUMN", "CAUSE"});
  narrow.Add({"job", "no worker has the model that it names"});
  narrow.Add({"other", ""});
  EXPECT_EQ(narrow.ToString(30),
            "A LONG FIRST COLUMN\n  CAUSE\njob\n  no worker has the model that\n  it names\n"
            "other\n");
  EXPECT_EQ(table.ToString(30, Table::Overflow::kCut),
            "NAME  CAUSE\njob   no worker has the model…\n");
}

TEST(FormatTest, TheCauseOfASuccessIsNotItsOutput) {
  liger::v1::JobStatus status;
  status.set_state(liger::v1::JobStatus::SUCCEEDED);
  status.set_output_uri("file:///out");
  status.set_message("the model is at file:///out");
  EXPECT_EQ(Cause(status), "");
  status.set_message("published, but its worker was lost");
  EXPECT_EQ(Cause(status), "published, but its worker was lost");
}

TEST(FormatTest, WrapBreaksWordsThatAreTooLong) {
  EXPECT_EQ(Wrap("/a/long/path é end", 6, 1), "/a/lon\n g/pat\n h é\n end");
}

TEST(FormatTest, MetricsStandInTheOrderPeopleLookForThem) {
  const std::map<std::string, double> values = {
      {"accuracy", 0}, {"eval_loss", 0}, {"grad_norm", 0},         {"learning_rate", 0},
      {"loss", 0},     {"step_seconds", 0}, {"tokens_per_second", 0}};
  std::string names;
  for (const auto& [name, value] : InOrder(values)) names += name + " ";
  EXPECT_EQ(names,
            "loss eval_loss tokens_per_second grad_norm learning_rate accuracy step_seconds ");
}

TEST(FormatTest, BytesAndDurations) {
  EXPECT_EQ(Bytes(999), "999 B");
  EXPECT_EQ(Bytes(1500), "1.50 kB");
  EXPECT_EQ(Bytes(999'999'999), "1.00 GB");
  EXPECT_EQ(Bytes(3'000'000'000'000), "3.00 TB");
  EXPECT_EQ(Duration(12.4), "12s");
  EXPECT_EQ(Duration(200), "3m20s");
  EXPECT_EQ(Duration(3720), "1h02m");
  EXPECT_EQ(Duration(90000), "1d01h");
  EXPECT_EQ(Duration(NAN), "-");
}

TEST(FormatTest, NumbersHaveFourDigitsAndCountsAllOfThem) {
  EXPECT_EQ(Number(5.5683), "5.568");
  EXPECT_EQ(Number(6.66667e-7), "6.667e-07");
  EXPECT_EQ(Number(90543), "90543");
  EXPECT_EQ(Number(1e300), "1e+300");
  EXPECT_EQ(Number(NAN), "-");
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
  EXPECT_EQ(Printable("a\xc2\x9b" "2Jb\xc2\xa9"), "a2Jb\xc2\xa9") << "the C1 controls, too";
}

}  // namespace
}  // namespace liger::client
