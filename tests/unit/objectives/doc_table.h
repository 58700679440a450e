#ifndef LIGER_TESTS_UNIT_OBJECTIVES_DOC_TABLE_H_
#define LIGER_TESTS_UNIT_OBJECTIVES_DOC_TABLE_H_

#include <string>

namespace liger::trainer {

// A table of a page below the sources, between its marks "<!-- TABLE -->" and "<!-- end of
// TABLE -->": with LIGER_WRITE_DOCS=1 in the environment it is written; else the test compares
// all of it but the errors, which other machines make a little larger or smaller (up to ten
// times).
void WriteOrCompare(const std::string& page, const std::string& table, const std::string& text);

// "3e-07"; what is below 1e-8 counts as that.
std::string RoundedError(double error);

}  // namespace liger::trainer

#endif  // LIGER_TESTS_UNIT_OBJECTIVES_DOC_TABLE_H_
