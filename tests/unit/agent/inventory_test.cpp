#include "worker/agent/inventory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <optional>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "worker/agent/inventory_thread.h"
#include "worker/agent/text_util.h"

namespace liger::agent {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;

class InventoryTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "inventory-XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
    models_.emplace(Root::Open(dir_ + "/models").value());
    datasets_.emplace(Root::Open(dir_ + "/datasets").value());
  }
  void TearDown() override { fs::remove_all(dir_); }
  void Write(const std::string& name, const std::string& content) {
    fs::create_directories(fs::path(dir_ + "/" + name).parent_path());
    std::ofstream(dir_ + "/" + name, std::ios::binary) << content;
  }
  void WriteModel(const std::string& name) {
    Write("models/" + name + "/config.json", R"({"model_type": "llama"})");
    const std::string header =
        R"({"__metadata__": {}, "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}})";
    std::string length(8, '\0');
    length[0] = static_cast<char>(header.size());
    Write("models/" + name + "/model.safetensors", length + header + std::string(24, '\0'));
  }
  std::vector<worker::v1::InventoryItem> Scan(const std::vector<std::string>& catalog = {}) {
    return inventory().Scan(catalog);
  }
  std::vector<std::string> Uris(const std::vector<std::string>& catalog = {}) {
    std::vector<std::string> uris;
    for (const auto& item : Scan(catalog)) {
      uris.push_back(item.uri().starts_with("file://" + dir_) ? item.uri().substr(7 + dir_.size())
                                                              : item.uri());
    }
    return uris;
  }
  Inventory& inventory() {
    if (!inventory_) inventory_.emplace(&*models_, &*datasets_);
    return *inventory_;
  }

  std::string dir_;
  std::optional<Root> models_, datasets_;
  std::optional<Inventory> inventory_;
};

TEST_F(InventoryTest, FindsModelsAndDatasets) {
  WriteModel("tiny");
  WriteModel("org/nested/tiny");
  Write("datasets/a.jsonl", "{}");
  Write("datasets/sub/b.json", "[]");
  Write("datasets/notes.txt", "");
  Write("datasets/.hidden/c.json", "[]");
  EXPECT_THAT(Uris(), ElementsAre("/models/org/nested/tiny", "/models/tiny", "/datasets/a.jsonl",
                                  "/datasets/sub/b.json"));
  const auto model = Scan()[1];
  EXPECT_EQ(model.kind(), "model");
  EXPECT_EQ(model.architecture(), "llama");
  EXPECT_EQ(model.parameters(), 6);
}

TEST_F(InventoryTest, NamesThePresentOnesAsTheCatalogDoesToo) {
  WriteModel("tiny");
  Write("datasets/a.jsonl", "{}");
  EXPECT_THAT(Uris({"tiny", "a.jsonl", "absent", "s3://bucket/x", "../../etc"}),
              ElementsAre("/models/tiny", "/datasets/a.jsonl", "a.jsonl", "tiny"));
}

// As a job that names them is (roots_test).
TEST_F(InventoryTest, WhatALinkLeadsOutOfTheRootToIsRefused) {
  Write("elsewhere/config.json", "{}");
  Write("elsewhere/rows.jsonl", "{}");
  WriteModel("org/tiny");
  fs::create_directory_symlink("org/tiny", dir_ + "/models/alias");
  fs::create_directory_symlink(dir_ + "/elsewhere", dir_ + "/models/out");
  Write("datasets/a.jsonl", "{}");
  fs::create_symlink("../elsewhere/rows.jsonl", dir_ + "/datasets/out.jsonl");
  std::map<std::string, std::string> refused;
  for (const auto& item : Scan({"out"})) {
    refused[fs::path(item.uri()).filename()] = item.refused();
    const Root& root = item.kind() == "model" ? *models_ : *datasets_;
    EXPECT_EQ(root.Check(item.uri()).message(), item.refused()) << item.uri();
  }
  EXPECT_EQ(refused["alias"], "");
  EXPECT_EQ(refused["tiny"], "");
  EXPECT_EQ(refused["a.jsonl"], "");
  EXPECT_THAT(refused["out"], testing::HasSubstr("out leads out of " + dir_ + "/models"));
  EXPECT_THAT(refused["out.jsonl"], testing::HasSubstr("leads out of"));
}

// However much lies there.
TEST_F(InventoryTest, ARefusedLinkIsNotFollowed) {
  Write("elsewhere/org/a/config.json", "{}");
  Write("elsewhere/org/b/config.json", "{}");
  Write("elsewhere/rows/a.jsonl", "{}");
  Write("elsewhere/rows/b.jsonl", "{}");
  fs::create_directories(dir_ + "/models");
  fs::create_directories(dir_ + "/datasets");
  fs::create_directory_symlink(dir_ + "/elsewhere/org", dir_ + "/models/hub");
  fs::create_directory_symlink(dir_ + "/elsewhere/rows", dir_ + "/datasets/rows");
  const std::vector<std::string> catalog = {"hub/a"};
  EXPECT_THAT(Uris(catalog), ElementsAre("/models/hub", "/datasets/rows", "hub/a"));
  for (const auto& item : Scan(catalog)) {
    EXPECT_THAT(item.refused(), testing::HasSubstr("leads out of"));
  }
}

TEST_F(InventoryTest, AFolderThatComesOrGoesIsAChange) {
  WriteModel("tiny");
  Scan();
  EXPECT_FALSE(inventory().FoldersChanged());
  WriteModel("org/other");
  EXPECT_TRUE(inventory().FoldersChanged());
  Scan();
  EXPECT_FALSE(inventory().FoldersChanged());
  fs::remove(dir_ + "/models/tiny/config.json");
  EXPECT_TRUE(inventory().FoldersChanged());
}

TEST_F(InventoryTest, WhatAppearsIsToldLongBeforeTheNextScan) {
  absl::Mutex mutex;
  size_t found = 0;
  InventoryThread thread(
      Inventory(&*models_, &*datasets_), absl::Hours(1), [] { return ""; },
      [&](const InventoryThread::Items& items) {
        absl::MutexLock lock(&mutex);
        found = items.size();
      },
      [](int64_t) {});
  absl::SleepFor(absl::Milliseconds(200));
  WriteModel("tiny");
  const auto told = [&] {
    mutex.AssertReaderHeld();
    return found == 1;
  };
  absl::MutexLock lock(&mutex);
  EXPECT_TRUE(mutex.AwaitWithTimeout(absl::Condition(&told), absl::Seconds(10)));
}

TEST_F(InventoryTest, ALookTellsOfAFileThatWasEdited) {
  Write("datasets/rows.jsonl", "{}");
  absl::Mutex mutex;
  std::string digest, code, told_code;
  int64_t looked = 0;
  InventoryThread thread(
      Inventory(&*models_, &*datasets_), absl::Hours(1),
      [&] {
        absl::MutexLock lock(&mutex);
        return code;
      },
      [&](const InventoryThread::Items& items) {
        absl::MutexLock lock(&mutex);
        digest = items[0].digest();
        told_code = items.back().kind() == "code" ? items.back().digest() : "none";
      },
      [&](int64_t look) {
        absl::MutexLock lock(&mutex);
        looked = look;
      });
  const auto after = [&](int64_t look) {
    thread.Look(look);
    absl::MutexLock lock(&mutex);
    const auto answered = [&] {
      mutex.AssertReaderHeld();
      return looked == look;
    };
    EXPECT_TRUE(mutex.AwaitWithTimeout(absl::Condition(&answered), absl::Seconds(10)));
    return digest;
  };
  const std::string before = after(1);
  EXPECT_EQ(after(2), before);
  std::ofstream(dir_ + "/datasets/rows.jsonl", std::ios::app) << "{}";
  const std::string edited = after(3);
  EXPECT_NE(edited, before);
  EXPECT_EQ(after(1), edited) << "of a coordinator whose clock is behind";
  EXPECT_EQ(told_code, "none");
  code = "sha256:rebuilt";
  EXPECT_EQ(after(4), edited);
  EXPECT_EQ(told_code, "sha256:rebuilt");
}

TEST_F(InventoryTest, FitsIntoAMessage) {
  WriteModel("tiny");
  Write("datasets/named.jsonl", "{}");
  const std::string folder = std::string(200, 'd') + "/" + std::string(200, 'e');
  for (int i = 0; i < 2500; ++i)
    Write("datasets/" + folder + "/" + std::to_string(i) + ".json", "");
  worker::v1::Hello hello;
  const auto items = Scan({"named.jsonl"});
  hello.mutable_inventory()->Assign(items.begin(), items.end());
  EXPECT_GT(hello.inventory_size(), 1000);
  EXPECT_LT(hello.ByteSizeLong(), 800u << 10);
  EXPECT_EQ(items[0].kind(), "model");
  EXPECT_EQ(items[1].uri(), "named.jsonl");
}

TEST_F(InventoryTest, TheDigestFollowsTheFiles) {
  WriteModel("tiny");
  const std::string before = Scan()[0].digest();
  EXPECT_EQ(Scan()[0].digest(), before);
  Write("models/tiny/tokenizer.json", "{}");
  const std::string with_tokenizer = Scan()[0].digest();
  EXPECT_NE(with_tokenizer, before);
  Write("models/tiny/additional_chat_templates/tool_use.jinja", "a");
  const std::string with_template = Scan()[0].digest();
  EXPECT_NE(with_template, with_tokenizer);
  Write("models/tiny/additional_chat_templates/tool_use.jinja", "bc");
  EXPECT_NE(Scan()[0].digest(), with_template);
}

TEST_F(InventoryTest, TheDigestFollowsAnEditThatKeepsSizeAndTime) {
  Write("datasets/rows.jsonl", "a");
  const std::string file = dir_ + "/datasets/rows.jsonl";
  const std::string before = Scan()[0].digest();
  const auto time = std::filesystem::last_write_time(file);
  absl::SleepFor(absl::Milliseconds(20));  // a file system's clock ticks
  Write("datasets/rows.jsonl", "b");
  std::filesystem::last_write_time(file, time);
  EXPECT_NE(Scan()[0].digest(), before);
}

TEST_F(InventoryTest, DamagedFilesDoNotHurt) {
  Write("models/bad/config.json", "{not json");
  Write("models/bad/model.safetensors", std::string(8, '\xff') + "x");
  Write("models/odd/config.json", "[1]");
  Write("models/odd/model.safetensors", "abc");
  const auto items = Scan();
  ASSERT_EQ(items.size(), 2u);
  EXPECT_EQ(items[0].parameters(), 0);
  EXPECT_EQ(items[0].architecture(), "");
}

// ---- text_util

TEST(TextUtilTest, LastLines) {
  EXPECT_EQ(LastLines("a\nb\nc\n", 2), "b\nc\n");
  EXPECT_EQ(LastLines("a\nb", 5), "a\nb");
  EXPECT_EQ(LastLines("", 1), "");
}

TEST_F(InventoryTest, ReadTailStartsAnywhere) {
  Write("log", std::string(100, 'x') + "\xE2\x82\xAC end");
  EXPECT_EQ(ReadTail(dir_ + "/log", 6), "\xEF\xBF\xBD\xEF\xBF\xBD end");
  EXPECT_EQ(ReadTail(dir_ + "/none", 6), "");
}

}  // namespace
}  // namespace liger::agent
