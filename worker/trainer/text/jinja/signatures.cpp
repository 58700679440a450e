#include "worker/trainer/text/jinja/signatures.h"

#include <algorithm>
#include <vector>

#include "worker/trainer/text/jinja/error.h"

namespace liger::trainer::jinja {
namespace {

// Behind the input. What takes nothing more is not listed, and what takes anything has -1.
struct Signature {
  std::string_view name;
  int required, most;
  std::string_view keywords = "";  // those of the arguments in their order, comma-separated
};

constexpr Signature kFilters[] = {
    {"attr", 1, 1, "name"},
    {"batch", 1, 2, "linecount,fill_with"},
    {"center", 0, 1, "width"},
    {"d", 0, 2, "default_value,boolean"},
    {"default", 0, 2, "default_value,boolean"},
    {"dictsort", 0, 3, "case_sensitive,by,reverse"},
    {"filesizeformat", 0, 1, "binary"},
    {"float", 0, 1, "default"},
    {"format", 0, -1},
    {"groupby", 1, 3, "attribute,default,case_sensitive"},
    {"indent", 0, 3, "width,first,blank"},
    {"int", 0, 2, "default,base"},
    {"join", 0, 2, "d,attribute"},
    {"map", 0, -1},
    {"max", 0, 2, "case_sensitive,attribute"},
    {"min", 0, 2, "case_sensitive,attribute"},
    {"reject", 0, -1},
    {"rejectattr", 0, -1},
    {"replace", 2, 3, "old,new,count"},
    {"round", 0, 2, "precision,method"},
    {"select", 0, -1},
    {"selectattr", 0, -1},
    {"slice", 1, 2, "slices,fill_with"},
    {"sort", 0, 3, "reverse,case_sensitive,attribute"},
    {"sum", 0, 2, "attribute,start"},
    {"tojson", 0, 4, "ensure_ascii,indent,separators,sort_keys"},
    {"trim", 0, 1, "chars"},
    {"truncate", 0, 4, "length,killwords,end,leeway"},
    {"unique", 0, 2, "case_sensitive,attribute"},
    {"xmlattr", 0, 1, "autospace"},
};

constexpr Signature kTests[] = {
    {"divisibleby", 1, 1, "num"},
    {"sameas", 1, 1, "other"},
    {"in", 1, 1, "seq"},
    {"eq", 1, 1},
    {"equalto", 1, 1},
    {"==", 1, 1},
    {"ne", 1, 1},
    {"!=", 1, 1},
    {"lt", 1, 1},
    {"lessthan", 1, 1},
    {"<", 1, 1},
    {"gt", 1, 1},
    {"greaterthan", 1, 1},
    {">", 1, 1},
    {"le", 1, 1},
    {"<=", 1, 1},
    {"ge", 1, 1},
    {">=", 1, 1},
};

constexpr Signature kMethods[] = {
    {"strip", 0, 1},
    {"lstrip", 0, 1},
    {"rstrip", 0, 1},
    {"split", 0, 2, "sep,maxsplit"},
    {"rsplit", 0, 2, "sep,maxsplit"},
    {"splitlines", 0, 1, "keepends"},
    {"startswith", 1, 3},
    {"endswith", 1, 3},
    {"removeprefix", 1, 1},
    {"removesuffix", 1, 1},
    {"find", 1, 3},
    {"rfind", 1, 3},
    {"index", 1, 3},
    {"rindex", 1, 3},
    {"count", 1, 3},
    {"partition", 1, 1},
    {"rpartition", 1, 1},
    {"join", 1, 1},
    {"replace", 2, 3},
    {"center", 1, 2},
    {"ljust", 1, 2},
    {"rjust", 1, 2},
    {"zfill", 1, 1},
    {"expandtabs", 0, 1, "tabsize"},
    {"format", 0, -1},
    {"format_map", 1, 1},
    {"get", 1, 2},
    {"fromkeys", 0, -1},
    {"pop", 0, -1},
    {"popitem", 0, -1},
    {"update", 0, -1},
    {"setdefault", 0, -1},
    {"append", 0, -1},
    {"extend", 0, -1},
    {"insert", 0, -1},
    {"remove", 0, -1},
    {"sort", 0, -1},
};

std::vector<std::string_view> Keywords(std::string_view list) {
  std::vector<std::string_view> names;
  while (!list.empty()) {
    const size_t end = std::min(list.find(','), list.size());
    names.push_back(list.substr(0, end));
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return names;
}

void Check(const Signature& signature, const Args& args) {
  if (signature.most < 0) return;
  const std::string name(signature.name);
  const int positional = static_cast<int>(args.positional.size()) - 1;
  if (positional > signature.most) {
    throw RuntimeError(name + " takes at most " + std::to_string(signature.most) +
                       " arguments, got " + std::to_string(positional));
  }
  const std::vector<std::string_view> keywords = Keywords(signature.keywords);
  int required = std::max(signature.required - positional, 0);
  for (const auto& [keyword, value] : args.keyword) {
    const auto it = std::find(keywords.begin(), keywords.end(), keyword);
    if (it == keywords.end()) {
      throw RuntimeError(name + " got an unexpected keyword argument '" + keyword + "'");
    }
    const auto index = static_cast<int>(it - keywords.begin());
    if (index < positional) {
      throw RuntimeError(name + " got multiple values for argument '" + keyword + "'");
    }
    required -= index < signature.required;
  }
  if (required > 0) {
    throw RuntimeError(name + " lacks " + std::to_string(required) + " of its arguments");
  }
}

template <size_t N>
void CheckIn(const Signature (&table)[N], std::string_view name, const Args& args) {
  const auto it = std::find_if(std::begin(table), std::end(table),
                               [&](const Signature& s) { return s.name == name; });
  Check(it == std::end(table) ? Signature{name, 0, 0} : *it, args);
}

}  // namespace

void CheckFilterArguments(std::string_view filter, const Args& args) {
  CheckIn(kFilters, filter, args);
}

void CheckTestArguments(std::string_view test, const Args& args) { CheckIn(kTests, test, args); }

void CheckMethodArguments(std::string_view method, const Args& args) {
  CheckIn(kMethods, method, args);
}

}  // namespace liger::trainer::jinja
