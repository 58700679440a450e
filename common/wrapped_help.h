#ifndef LIGER_COMMON_WRAPPED_HELP_H_
#define LIGER_COMMON_WRAPPED_HELP_H_

#include <CLI/CLI.hpp>

#include <memory>
#include <string>

namespace liger {

// CLI11's help with descriptions broken between words, so that lines end at column 100 (a longer
// name's does not).
class WrappedHelp : public CLI::Formatter {
 public:
  // For all the programs' apps, before subcommands, which take it over.
  static std::shared_ptr<WrappedHelp> Make() { return std::make_shared<WrappedHelp>(); }

 private:
  static constexpr size_t kColumns = 100;

  std::string make_option_desc(const CLI::Option* option) const override {
    std::string text = option->get_description();
    const size_t width = kColumns - get_column_width();
    for (size_t begin = 0; text.size() - begin > width;) {
      size_t end = text.rfind(' ', begin + width);
      if (end == std::string::npos || end <= begin) end = text.find(' ', begin + width);
      if (end == std::string::npos) break;
      text[end] = '\n';  // the formatter indents what follows
      begin = end + 1;
    }
    return text;
  }
};

}  // namespace liger

#endif  // LIGER_COMMON_WRAPPED_HELP_H_
