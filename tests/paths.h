#ifndef LIGER_TESTS_PATHS_H_
#define LIGER_TESTS_PATHS_H_

#include <string>

// Where this checkout is, for tests alone. Functions of one small object, not macros: what a test is
// compiled to is then the same in every checkout, and ccache has it.
namespace liger {

std::string SourceDir();  // of the sources: tests/golden and tests/data are below it
std::string BinDir();     // of the programs under test

}  // namespace liger

#endif  // LIGER_TESTS_PATHS_H_
