#include "tests/unit/objectives/doc_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <utility>
#include <vector>

#include "tests/paths.h"

namespace liger::trainer {
namespace {

std::string ReadPage(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// The text between the page's marks of a table.
std::pair<size_t, size_t> Span(const std::string& page, const std::string& table) {
  const std::string begin = "<!-- " + table + " -->\n", end = "<!-- end of " + table + " -->";
  const size_t from = page.find(begin);
  const size_t to = page.find(end);
  if (from == page.npos || to == page.npos) throw std::runtime_error("no mark of " + table);
  return {from + begin.size(), to};
}

}  // namespace

void WriteOrCompare(const std::string& page_name, const std::string& table,
                    const std::string& text) {
  const std::string path = SourceDir() + "/" + page_name;
  std::string page = ReadPage(path);
  const auto [from, to] = Span(page, table);
  if (std::getenv("LIGER_WRITE_DOCS") != nullptr) {
    page.replace(from, to - from, text);
    std::ofstream(path) << page;
    return;
  }
  const std::regex number("[0-9]e-[0-9]+");
  const std::string documented = page.substr(from, to - from);
  EXPECT_EQ(std::regex_replace(documented, number, "#"), std::regex_replace(text, number, "#"))
      << "run make models-table trainers-table";
  const auto numbers = [&](const std::string& from_text) {
    std::vector<double> values;
    for (std::sregex_iterator it(from_text.begin(), from_text.end(), number), end; it != end;
         ++it) {
      values.push_back(std::stod(it->str()));
    }
    return values;
  };
  const auto before = numbers(documented), now = numbers(text);
  ASSERT_EQ(before.size(), now.size());
  for (size_t i = 0; i < now.size(); ++i) {
    EXPECT_LT(std::abs(std::log10(now[i] / before[i])), 1.01)
        << page_name << " says " << before[i] << ", measured is " << now[i]
        << "; run make models-table trainers-table";
  }
}

std::string RoundedError(double error) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.0e", std::max(error, 1e-8));
  return text;
}

}  // namespace liger::trainer
