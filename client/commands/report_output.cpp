#include "client/commands/report_output.h"

#include <iostream>

#include "client/report/report.h"

namespace liger::client {

void PrintReport(const ReportData& data, const std::string& folder, Session& session) {
  const std::vector<std::string> paths = WriteReport(data, folder);
  if (session.output == Output::kJson) {
    std::cout << ReportJson(data);
    return;
  }
  if (session.output == Output::kTable) std::cout << ReportTable(data, session.columns());
  for (const std::string& path : paths) {
    std::cout << (session.output == Output::kTable ? "written: " : "") << path << "\n";
  }
}

}  // namespace liger::client
