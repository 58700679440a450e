// The table of docs/trainers.md: each objective's and each loss type's largest difference from
// TRL (of SFT's options, from transformers). `make trainers-table` writes it (LIGER_WRITE_DOCS=1);
// the test compares the page with what it measures. The fixtures are those of
// tools/fixtures/{model,preference,sft_options}_fixtures.py.
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <map>
#include <set>

#include "common/spec/spec.h"
#include "tests/paths.h"
#include "tests/unit/models/golden.h"
#include "tests/unit/objectives/doc_table.h"

namespace liger::trainer {
namespace {

using nlohmann::json;

constexpr double kFirstStep = 1e-5, kTenSteps = 1e-4;
constexpr char kTiny[] = "tiny/gqa_tied_v5";

// One row: what was computed elsewhere.
struct Case {
  std::string method;
  json options;
  std::string model;      // below tests/golden/models
  std::string reference;  // likewise; "": none
  json batches, steps;
  std::string gradients, prefix;  // safetensors file, and its tensors' names
  double lr = 0;
};

std::vector<Case> TinyCasesOf(const std::string& method) {
  const json expected = golden::ReadJson(golden::Folder(kTiny) + "/expected.json");
  json options = json::object();
  if (method == "orpo") options["beta"] = expected.at("beta");
  return {{method, options, kTiny, "", expected.at(method + "_batches"), expected.at(method),
           golden::Folder(kTiny) + "/expected.safetensors", method + ".",
           expected.at("lr").get<double>()}};
}

std::vector<Case> SftOptionCases() {
  const std::string folder = golden::Folder("sft_options");
  const json expected = golden::ReadJson(folder + "/expected.json");
  std::vector<Case> cases;
  for (const auto& [name, one] : expected.at("cases").items()) {
    cases.push_back({"sft", one.at("options"), "tiny/" + one.at("model").get<std::string>(), "",
                     expected.at("batches"), one.at("steps"), folder + "/gradients.safetensors",
                     name + ".", expected.at("lr").get<double>()});
  }
  return cases;
}

std::vector<Case> PreferenceCases(const std::string& method) {
  const std::string folder = golden::Folder("preference");
  const json expected = golden::ReadJson(folder + "/expected.json");
  const char* batches = method == "kto" ? "kto_batches" : "dpo_batches";
  std::vector<Case> cases;
  for (const auto& [name, one] : expected.at(method).items()) {
    cases.push_back({method, one.at("options"), kTiny,
                     method == "cpo" ? "" : "preference/reference", expected.at(batches),
                     one.at("steps"), folder + "/gradients.safetensors", method + "." + name + ".",
                     expected.at("lr").get<double>()});
  }
  return cases;
}

std::vector<Case> AllCases() {
  std::vector<Case> all = TinyCasesOf("sft");
  for (const auto& cases : {SftOptionCases(), TinyCasesOf("orpo"), PreferenceCases("cpo"),
                            PreferenceCases("dpo"), PreferenceCases("kto")}) {
    all.insert(all.end(), cases.begin(), cases.end());
  }
  return all;
}

// Largest differences; of metrics relative where they are above 1.
struct Differences {
  double first = 0, gradients = 0, curve = 0;
};

class Measure {
 public:
  Measure(const Case& c, const std::string& kernels) : case_(c), kernels_(kernels) {}

  void Into(Differences& out) const {
    Gradients(out);
    const auto model = golden::LoadModel(golden::Folder(case_.model), kernels_);
    const auto objective = Make();
    const auto history = golden::Train(*objective, *model, Batches(), case_.lr);
    ASSERT_EQ(history.size(), case_.steps.size());
    ASSERT_EQ(history.size(), 10u);
    for (size_t step = 0; step < history.size(); ++step) {
      ASSERT_EQ(history[step].size(), case_.steps[step].size()) << "other metrics";
      double& largest = step == 0 ? out.first : out.curve;
      for (const auto& [name, value] : case_.steps[step].items()) {
        const double expected = value.get<double>();
        const double error = std::abs(history[step].at(name) - expected);
        largest = std::max(largest, error / std::max(1.0, std::abs(expected)));
      }
    }
  }

 private:
  void Gradients(Differences& out) const {
    const auto model = golden::LoadModel(golden::Folder(case_.model), kernels_);
    golden::WholeStep(*Make(), *model, Batches()[0]).loss.backward();
    const auto file = SafetensorsFile::Open(case_.gradients);
    for (const auto& item : model->named_parameters()) {
      out.gradients = std::max(
          out.gradients,
          golden::RelativeError(item.value().grad(), file->View(case_.prefix + item.key())));
    }
  }

  // Through JobSpec's own names, as a job file would have them.
  std::unique_ptr<Objective> Make() const {
    liger::v1::JobSpec spec;
    const json text = {{case_.method, case_.options}};
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(text.dump(), &spec).ok());
    auto objective = MakeObjective(spec);
    if (!case_.reference.empty()) {
      objective->SetReference(golden::LoadModel(golden::Folder(case_.reference), kernels_));
    }
    return objective;
  }

  std::vector<Batch> Batches() const {
    std::vector<Batch> batches;
    for (const auto& rows : case_.batches) {
      batches.push_back(case_.method == "sft"   ? golden::SftBatch(rows)
                        : case_.method == "kto" ? golden::LabelledBatch(rows)
                                                : golden::PairBatch(rows));
    }
    return batches;
  }

  const Case& case_;
  const std::string kernels_;
};

// "loss_type: robust, label_smoothing: 0.2"; models other than the usual one in brackets.
std::string Describe(const Case& c) {
  std::string text;
  for (const auto& [name, value] : c.options.items()) {
    std::string shown = value.is_array() && value.size() == 1 ? value[0].dump() : value.dump();
    std::erase(shown, '"');
    text += (text.empty() ? "" : ", ") + name + ": " + shown;
  }
  if (text.empty()) text = "defaults";
  return c.model == kTiny ? text : text + " (" + c.model.substr(c.model.find('/') + 1) + ")";
}

TEST(TrainersTableTest, LargestDifferences) {
  std::string table =
      "| trainer | options | first step | its gradients | ten steps |\n|---|---|---|---|---|\n";
  for (const Case& c : AllCases()) {
    SCOPED_TRACE(c.method + " " + Describe(c));
    Differences differences;
    for (const char* kernels : {"LIGER", "BASELINE"}) Measure(c, kernels).Into(differences);
    EXPECT_LT(differences.first, kFirstStep);
    EXPECT_LT(differences.gradients, kFirstStep);
    EXPECT_LT(differences.curve, kTenSteps);
    table += "| " + c.method + " | " + Describe(c) + " | " + RoundedError(differences.first) +
             " | " + RoundedError(differences.gradients) + " | " + RoundedError(differences.curve) +
             " |\n";
  }
  WriteOrCompare("docs/trainers.md", "differences", table);
}

// "rewards/{chosen,rejected}" as two names.
void AddNames(const std::string& word, std::set<std::string>* names) {
  const size_t open = word.find('{');
  if (open == std::string::npos) {
    names->insert(word);
    return;
  }
  for (size_t at = open + 1; at < word.size();) {
    const size_t end = std::min(word.find_first_of(",}", at), word.size());
    names->insert(word.substr(0, open) + word.substr(at, end - at));
    at = end + 1;
  }
}

// What a section of the page says behind "Metrics:", without what stands in brackets.
std::set<std::string> ListedMetrics(const std::string& section) {
  std::ifstream file(SourceDir() + "/docs/trainers.md");
  std::string page((std::istreambuf_iterator<char>(file)), {});
  page = page.substr(page.find("\n## " + section));
  page = page.substr(page.find("Metrics: ") + 9);
  std::set<std::string> names;
  std::string word;
  int round = 0;
  bool braces = false;
  for (const char c : page) {
    if (c == '(' || c == ')') round += c == '(' ? 1 : -1;
    if (round > 0 || c == ')') continue;
    if (c == '{' || c == '}') braces = c == '{';
    const bool between = (c == ',' && !braces) || c == '.';
    if (!between && c != ' ' && c != '\n') word += c;
    if (!between) continue;
    AddNames(word, &names);
    word.clear();
    if (c == '.') break;
  }
  return names;
}

TEST(TrainersTableTest, EveryMetricOfAMethodIsListed) {
  const std::map<std::string, std::string> sections = {{"sft", "SFT"},
                                                       {"orpo", "ORPO"},
                                                       {"cpo", "CPO and SimPO"},
                                                       {"dpo", "DPO"},
                                                       {"kto", "KTO"}};
  std::map<std::string, std::set<std::string>> logged;
  for (const Case& c : AllCases()) {
    for (const auto& step : c.steps) {
      for (const auto& [name, value] : step.items()) logged[c.method].insert(name);
    }
  }
  EXPECT_EQ(logged.size(), sections.size());
  for (const auto& [method, section] : sections) {
    EXPECT_EQ(ListedMetrics(section), logged[method]) << section;
  }
}

// A loss type that the spec takes and no fixture has would be in no row above.
TEST(TrainersTableTest, EveryLossTypeHasARow) {
  const auto has = [](const std::string& method, const std::string& field,
                      const std::string& value) {
    const auto cases = AllCases();
    return std::any_of(cases.begin(), cases.end(), [&](const Case& c) {
      if (c.method != method || !c.options.contains(field)) return false;
      const json& given = c.options.at(field);
      return given.is_array() ? std::find(given.begin(), given.end(), value) != given.end()
                              : given == value;
    });
  };
  // What validation lists behind "is not one of" is all that there is.
  const auto known = [](const std::string& field, liger::v1::JobSpec spec) {
    spec.mutable_model()->set_name("m");
    spec.mutable_dataset()->set_name("d");
    for (const auto& violation : ValidateSpec(spec)) {
      if (violation.field() != field) continue;
      std::string list = violation.message();
      list = list.substr(list.find("one of ") + 7);
      list = list.substr(0, list.find(';'));
      std::vector<std::string> names;
      for (size_t at = 0; at <= list.size();) {
        const size_t end = std::min(list.find(", ", at), list.size());
        names.push_back(list.substr(at, end - at));
        at = end + 2;
      }
      return names;
    }
    ADD_FAILURE() << field << " takes anything";
    return std::vector<std::string>();
  };
  liger::v1::JobSpec dpo, divergence, kto, cpo;
  dpo.mutable_dpo()->add_loss_type("?");
  divergence.mutable_dpo()->set_f_divergence_type("?");
  kto.mutable_kto()->set_loss_type("?");
  cpo.mutable_cpo()->set_loss_type("?");
  for (const auto& [method, field, spec, defaults] :
       {std::tuple("dpo", "loss_type", dpo, ""),
        std::tuple("dpo", "f_divergence_type", divergence, "reverse_kl"),
        std::tuple("kto", "loss_type", kto, "kto"),
        std::tuple("cpo", "loss_type", cpo, "sigmoid")}) {
    const auto names = known(std::string(method) + "." + field, spec);
    EXPECT_GE(names.size(), 2u);
    for (const std::string& name : names) {
      // The default is the row without the option.
      if (name == defaults) continue;
      EXPECT_TRUE(has(method, field, name)) << method << " " << name;
    }
  }
}

}  // namespace
}  // namespace liger::trainer
