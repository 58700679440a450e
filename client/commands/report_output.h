#ifndef LIGER_CLIENT_COMMANDS_REPORT_OUTPUT_H_
#define LIGER_CLIENT_COMMANDS_REPORT_OUTPUT_H_

#include <string>

#include "client/commands/commands.h"
#include "client/report/report_data.h"

namespace liger::client {

// Writes a report, and prints it as -o says: the table or the JSON, and where it is.
void PrintReport(const ReportData& data, const std::string& folder, Session& session);

}  // namespace liger::client

#endif  // LIGER_CLIENT_COMMANDS_REPORT_OUTPUT_H_
