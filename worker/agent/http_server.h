#ifndef LIGER_WORKER_AGENT_HTTP_SERVER_H_
#define LIGER_WORKER_AGENT_HTTP_SERVER_H_

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

struct mg_context;
struct mg_connection;

namespace liger::agent {

struct HttpResponse {
  int code = 200;
  std::string content_type = "text/plain";
  std::string body;
};

// A few GET pages on one port.
class HttpServer {
 public:
  using Handler = std::function<HttpResponse()>;

  // `listen` is host:port; port 0 picks a free one. UNAVAILABLE when the port
  // is in use. Handlers are called from the server's threads.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& listen,
                                                           std::map<std::string, Handler> pages);
  ~HttpServer();
  int port() const;

 private:
  HttpServer() = default;
  static int Serve(mg_connection* connection, void* handler);

  std::map<std::string, Handler> pages_;
  mg_context* context_ = nullptr;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_HTTP_SERVER_H_
