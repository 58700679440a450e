#ifndef LIGER_CLIENT_JOB_TEMPLATE_H_
#define LIGER_CLIENT_JOB_TEMPLATE_H_

#include <string>

namespace liger::client {

// What `liger-cli init` writes: a valid job file for a trainer, with every
// common field commented. Throws CliError for a trainer without a template.
std::string JobTemplate(const std::string& trainer);

}  // namespace liger::client

#endif  // LIGER_CLIENT_JOB_TEMPLATE_H_
