#include "client/completion.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "client/errors.h"

namespace liger::client {
namespace {

std::string Options(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return absl::StrJoin(names, " ");
}

bool TakesJob(const CLI::App& verb) {
  for (const CLI::Option* option : verb.get_options()) {
    if (option->get_positional() && option->get_name() == "job") return true;
  }
  return false;
}

// "experiment submit" and the like: what may stand behind the verb.
std::string SubVerbs(const CLI::App& verb) {
  std::string words;
  for (const CLI::App* sub : verb.get_subcommands({}))
    absl::StrAppend(&words, sub->get_name(), " ");
  for (const CLI::App* sub : verb.get_subcommands({})) absl::StrAppend(&words, Options(*sub), " ");
  return words;
}

std::string Bash(const CLI::App& app) {
  std::string verbs;
  std::string cases;
  for (const CLI::App* verb : app.get_subcommands({})) {
    absl::StrAppend(&verbs, verbs.empty() ? "" : " ", verb->get_name());
    absl::StrAppend(&cases, "    ", verb->get_name(), ") words=\"", SubVerbs(*verb), Options(*verb),
                    " ", Options(app), "\"");
    if (TakesJob(*verb)) {
      absl::StrAppend(&cases,
                      "; [[ $cur == -* ]] || words=\"$(liger-cli list -o name 2>/dev/null)\"");
    }
    absl::StrAppend(&cases, " ;;\n");
  }
  return absl::StrCat(
      "_liger_cli() {\n"
      "  local cur=${COMP_WORDS[COMP_CWORD]} words\n"
      "  case ${COMP_WORDS[1]} in\n",
      cases, "    *) words=\"", verbs, "\" ;;\n", "  esac\n",
      "  [[ $COMP_CWORD -eq 1 ]] && words=\"", verbs, "\"\n",
      "  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
      "  [[ ${#COMPREPLY[@]} -eq 0 ]] && COMPREPLY=($(compgen -f -- \"$cur\"))\n"
      "}\n"
      "complete -F _liger_cli liger-cli\n");
}

std::string Fish(const CLI::App& app) {
  std::string script;
  for (const CLI::App* verb : app.get_subcommands({})) {
    absl::StrAppend(&script, "complete -c liger-cli -n __fish_use_subcommand -a ", verb->get_name(),
                    " -d '", absl::StrReplaceAll(verb->get_description(), {{"'", "\\'"}}), "'\n");
    const std::string seen = absl::StrCat("'__fish_seen_subcommand_from ", verb->get_name(), "'");
    for (const CLI::Option* option : verb->get_options()) {
      for (const std::string& name : option->get_lnames()) {
        absl::StrAppend(&script, "complete -c liger-cli -n ", seen, " -l ", name, "\n");
      }
    }
    for (const CLI::App* sub : verb->get_subcommands({})) {
      absl::StrAppend(&script, "complete -c liger-cli -n ", seen, " -a ", sub->get_name(), " -d '",
                      absl::StrReplaceAll(sub->get_description(), {{"'", "\\'"}}), "'\n");
    }
    if (TakesJob(*verb)) {
      absl::StrAppend(&script, "complete -c liger-cli -n ", seen,
                      " -f -a '(liger-cli list -o name 2>/dev/null)'\n");
    }
  }
  return script;
}

}  // namespace

std::string CompletionScript(const CLI::App& app, const std::string& shell) {
  if (shell == "bash") return Bash(app);
  if (shell == "zsh") {
    return absl::StrCat("autoload -U +X bashcompinit && bashcompinit\n", Bash(app));
  }
  if (shell == "fish") return Fish(app);
  throw CliError(kInvalidInput, absl::StrCat("'", shell, "' is not one of bash, zsh, fish"));
}

}  // namespace liger::client
