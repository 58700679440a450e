// init, version, completion: the verbs that need no coordinator.
#include <fcntl.h>
#include <unistd.h>

#include <iostream>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "client/commands/commands.h"
#include "client/completion.h"
#include "client/errors.h"
#include "client/job_template.h"
#include "common/file.h"
#include "common/version.h"

namespace liger::client {
namespace {

// Never overwrites: the file may hold an hour of somebody's edits.
void WriteNewFile(const std::string& path, const std::string& content) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0 && errno == EEXIST) {
    throw CliError(kInvalidInput, absl::StrCat(path, " exists; choose another name with --file"));
  }
  if (fd < 0) ThrowIfError(absl::ErrnoToStatus(errno, absl::StrCat("cannot create ", path)));
  absl::Cleanup closer = [fd] { close(fd); };
  ThrowIfError(WriteFully(fd, content, path));
}

}  // namespace

Action DeclareInit(CLI::App* app) {
  struct Options {
    std::string file = "job.yaml";
    std::string trainer = "sft";
  };
  auto options = std::make_shared<Options>();
  app->add_option("--file", options->file, "File to write; - for standard output")
      ->capture_default_str();
  app->add_option("--trainer", options->trainer, "sft, dpo, orpo, kto or cpo")
      ->capture_default_str();
  return [options](Session&) {
    const std::string content = JobTemplate(options->trainer);
    if (options->file == "-") {
      std::cout << content;
    } else {
      WriteNewFile(options->file, content);
      std::cout << options->file << " written; edit it, then: liger-cli submit -f " << options->file
                << "\n";
    }
    return kOk;
  };
}

Action DeclareVersion(CLI::App*) {
  return [](Session& session) {
    switch (session.output) {
      case Output::kJson:
        std::cout << "{\"version\": \"" << kVersion << "\"}\n";
        break;
      case Output::kYaml:
        std::cout << "version: \"" << kVersion << "\"\n";
        break;
      case Output::kName:
        std::cout << kVersion << "\n";
        break;
      case Output::kTable:
        std::cout << "liger-cli " << kVersion << "\n";
    }
    return kOk;
  };
}

Action DeclareCompletion(CLI::App* app) {
  auto shell = std::make_shared<std::string>();
  app->add_option("shell", *shell, "bash, zsh or fish")->required();
  CLI::App* root = app->get_parent();
  return [shell, root](Session&) {
    std::cout << CompletionScript(*root, *shell);
    return kOk;
  };
}

}  // namespace liger::client
