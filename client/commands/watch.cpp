#include "client/watch.h"

#include "client/commands/commands.h"

namespace liger::client {

Action DeclareWatch(CLI::App* app) {
  struct Options {
    std::string job;
    double timeout_seconds = 0;
  };
  auto options = std::make_shared<Options>();
  app->add_option("job", options->job, "Name or uid")->required();
  app->add_option("--timeout", options->timeout_seconds, "Give up after this long (default: never)")
      ->type_name("SECONDS")
      ->check(Positive());
  return [options](Session& session) {
    const Followed end = FollowJob(session.connection(), options->job, options->timeout_seconds,
                                   ScreenFor(session.output));
    PrintForProgram(end.job, session.output);
    return end.code;
  };
}

}  // namespace liger::client
