#include "server/catalog/catalog.h"

#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/paths.h"

namespace liger::server {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

liger::v1::JobSpec Spec(const std::string& model, const std::string& dataset) {
  liger::v1::JobSpec spec;
  spec.mutable_model()->set_name(model);
  if (!dataset.empty()) spec.mutable_dataset()->set_name(dataset);
  spec.mutable_orpo();
  return spec;
}

TEST(DefaultCatalog, HasTheModelsAndADatasetForEveryTrainer) {
  const Catalog& catalog = Catalog::Default();
  for (const char* name :
       {"smollm2-135m", "llama3-8b", "llama3.2-1b", "llama2-7b", "tinyllama-1.1b"}) {
    const liger::v1::CatalogModel* model = catalog.FindModel(name);
    ASSERT_NE(model, nullptr) << name;
    EXPECT_GT(model->parameters(), 100'000'000) << name;
    EXPECT_NE(model->architecture(), "") << name;
  }
  for (const char* trainer : {"sft", "dpo", "orpo", "kto"}) {
    EXPECT_NE(catalog.DefaultDataset(trainer), nullptr) << trainer;
  }
  EXPECT_THAT(catalog.uris(), Contains("llama3-8b"));
}

TEST(DefaultCatalog, ItsDatasetsAreTheOnesThatShip) {
  for (const auto& dataset : Catalog::Default().datasets()) {
    EXPECT_TRUE(std::filesystem::exists(SourceDir() + "/tests/data/" + dataset.uri()))
        << dataset.name();
  }
}

TEST(CatalogResolve, PinsNamesAndAnnouncesTheDefaultDataset) {
  liger::v1::JobSpec spec = Spec("llama3-8b", "");
  const CatalogResolution resolution = Catalog::Default().Resolve(&spec);
  EXPECT_THAT(resolution.violations, IsEmpty());
  ASSERT_THAT(resolution.notices, SizeIs(1));
  EXPECT_THAT(resolution.notices[0], HasSubstr("dpo-en-demo, the default for orpo"));
  EXPECT_EQ(spec.model().uri(), "llama3-8b");
  EXPECT_EQ(spec.dataset().name(), "dpo-en-demo");
  EXPECT_EQ(spec.dataset().uri(), "dpo_en_demo.json");
  EXPECT_EQ(spec.dataset().format(), liger::v1::DATASET_FORMAT_SHAREGPT);
}

TEST(CatalogResolve, LeavesPathsAndGivenUrisAlone) {
  liger::v1::JobSpec spec = Spec("models/mine", "rows.jsonl");
  EXPECT_THAT(Catalog::Default().Resolve(&spec).violations, IsEmpty());
  EXPECT_EQ(spec.model().uri(), "models/mine");
  EXPECT_EQ(spec.dataset().uri(), "rows.jsonl");
  EXPECT_EQ(spec.dataset().format(), liger::v1::DATASET_FORMAT_AUTO);

  spec = Spec("llama3-8b", "alpaca-en-demo");
  spec.mutable_model()->set_uri("file:///elsewhere");
  spec.mutable_dataset()->set_format(liger::v1::DATASET_FORMAT_TEXT);
  const CatalogResolution resolution = Catalog::Default().Resolve(&spec);
  EXPECT_THAT(resolution.violations, IsEmpty());
  ASSERT_THAT(resolution.notices, SizeIs(1));
  EXPECT_EQ(resolution.notices[0],
            "model.uri file:///elsewhere is read, not what the catalog has as llama3-8b "
            "(llama3-8b)");
  EXPECT_EQ(spec.model().uri(), "file:///elsewhere");
  EXPECT_EQ(spec.dataset().format(), liger::v1::DATASET_FORMAT_TEXT);
  // What was resolved once resolves to itself.
  spec = Spec("llama3-8b", "alpaca-en-demo");
  Catalog::Default().Resolve(&spec);
  EXPECT_THAT(Catalog::Default().Resolve(&spec).notices, IsEmpty());
}

TEST(CatalogResolve, SourcesAreNamesOrPaths) {
  liger::v1::JobSpec spec = Spec("llama3-8b", "");
  for (const char* uri : {"alpaca-en-demo", "data/*.jsonl", "alpaka-en-demo"}) {
    spec.mutable_dataset()->add_sources()->set_uri(uri);
  }
  const CatalogResolution resolution = Catalog::Default().Resolve(&spec);
  const auto* known = Catalog::Default().FindDataset("alpaca-en-demo");
  EXPECT_EQ(spec.dataset().sources(0).uri(), known->uri());
  EXPECT_EQ(spec.dataset().sources(0).format(), known->format());
  EXPECT_EQ(spec.dataset().sources(1).uri(), "data/*.jsonl");
  EXPECT_EQ(spec.dataset().name(), "");  // no default beside them
  spec.mutable_dataset()->set_eval_uri("alpaca-en-demo");
  Catalog::Default().Resolve(&spec);
  EXPECT_EQ(spec.dataset().eval_uri(), known->uri());
  ASSERT_THAT(resolution.violations, SizeIs(1));
  EXPECT_EQ(resolution.violations[0].field(), "dataset.sources[2].uri");
}

TEST(CatalogResolve, AnUnknownNameListsNearOnes) {
  liger::v1::JobSpec spec = Spec("lama3-8b", "alpaka-en-demo");
  const CatalogResolution resolution = Catalog::Default().Resolve(&spec);
  ASSERT_THAT(resolution.violations, SizeIs(2));
  EXPECT_EQ(resolution.violations[0].field(), "model.name");
  EXPECT_THAT(resolution.violations[0].message(), HasSubstr("unknown model 'lama3-8b'"));
  EXPECT_THAT(resolution.violations[0].message(),
              HasSubstr("(a folder of the model root, or a job's output: ./lama3-8b)"));
  EXPECT_THAT(resolution.violations[0].message(), HasSubstr("llama3-8b"));
  EXPECT_EQ(resolution.violations[1].field(), "dataset.name");
  EXPECT_THAT(resolution.violations[1].message(), HasSubstr("alpaca-en-demo"));
}

// It may be there: a worker knows.
TEST(CatalogResolve, AnEvalUriNearANameStaysAPath) {
  liger::v1::JobSpec spec = Spec("llama3-8b", "alpaca-en-demo");
  spec.mutable_dataset()->set_eval_uri("alpaka-en-demo");
  const CatalogResolution resolution = Catalog::Default().Resolve(&spec);
  EXPECT_THAT(resolution.violations, IsEmpty());
  EXPECT_THAT(resolution.notices, IsEmpty());
  EXPECT_EQ(spec.dataset().eval_uri(), "alpaka-en-demo");
  EXPECT_THAT(Catalog::Default().NearDatasets("alpaka-en-demo"),
              AllOf(HasSubstr("; the catalog has no dataset of that name; near: "),
                    HasSubstr("alpaca-en-demo")));
  for (const char* path : {"zzz", "./alpaka-en-demo", "alpaka-en-demo.jsonl"}) {
    EXPECT_EQ(Catalog::Default().NearDatasets(path), "") << path;
  }
}

TEST(NearMatches, ByEditsThenByContent) {
  const std::vector<std::string> names = {"llama3-8b", "llama3.2-1b", "mistral-7b"};
  EXPECT_EQ(NearMatches("LLAMA3-8B", names).at(0), "llama3-8b");
  EXPECT_THAT(NearMatches("llama", names), SizeIs(2));
  EXPECT_THAT(NearMatches("zzz", names), IsEmpty());
  EXPECT_THAT(NearMatches("", names), IsEmpty());
}

struct BadCatalog {
  const char* yaml;
  const char* says;
};
class CatalogErrors : public ::testing::TestWithParam<BadCatalog> {};
TEST_P(CatalogErrors, NameTheFileAndTheMistake) {
  const auto catalog = Catalog::FromYaml(GetParam().yaml, "my.yaml");
  ASSERT_EQ(catalog.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(catalog.status().message(), HasSubstr("my.yaml"));
  EXPECT_THAT(catalog.status().message(), HasSubstr(GetParam().says));
}
INSTANTIATE_TEST_SUITE_P(
    Files, CatalogErrors,
    ::testing::Values(BadCatalog{"models:\n- name: a\n  url: b\n", "url"},
                      BadCatalog{"models:\n- uri: b\n", "models[0].name"},
                      BadCatalog{"models:\n- name: a\n", "models[0].uri"},
                      BadCatalog{"models:\n- {name: a, uri: b}\n- {name: a, uri: c}\n", "twice"},
                      BadCatalog{"models:\n- {name: a/b, uri: b}\n", "path"},
                      BadCatalog{"models:\n- {name: a, uri: b, hint: c}\n", "remove"},
                      BadCatalog{"datasets:\n- {name: a, uri: b, default_for: [rlhf]}\n", "rlhf"},
                      BadCatalog{"datasets:\n- {name: a, uri: b, default_for: [sft]}\n"
                                 "- {name: c, uri: d, default_for: [sft]}\n",
                                 "another dataset"},
                      BadCatalog{"models: [\n", "my.yaml"}));

TEST(CatalogFile, AMissingFileIsNotFound) {
  EXPECT_EQ(Catalog::FromFile("/no/such/catalog.yaml").status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace liger::server
