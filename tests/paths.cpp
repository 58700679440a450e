#include "tests/paths.h"

namespace liger {

std::string SourceDir() { return LIGER_SOURCE_DIR; }
std::string BinDir() { return LIGER_BIN_DIR; }

}  // namespace liger
