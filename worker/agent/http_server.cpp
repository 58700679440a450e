#include "worker/agent/http_server.h"

#include <civetweb.h>

#include <utility>

#include "absl/strings/str_cat.h"

namespace liger::agent {

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(
    const std::string& listen, std::map<std::string, Handler> pages) {
  std::unique_ptr<HttpServer> server(new HttpServer());
  server->pages_ = std::move(pages);
  const char* options[] = {"listening_ports",    listen.c_str(), "num_threads", "2",
                           "request_timeout_ms", "10000",        nullptr};
  const mg_callbacks callbacks{};
  server->context_ = mg_start(&callbacks, nullptr, options);
  if (server->context_ == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", listen,
                     ": is the port in use? Choose another --metrics-listen (of liger-cli up: "
                     "--worker-metrics-listen)"));
  }
  for (auto& [path, handler] : server->pages_) {
    mg_set_request_handler(server->context_, path.c_str(), &HttpServer::Serve, &handler);
  }
  return server;
}

HttpServer::~HttpServer() {
  if (context_ != nullptr) mg_stop(context_);
}

int HttpServer::port() const {
  mg_server_port ports[1] = {};
  return mg_get_server_ports(context_, 1, ports) > 0 ? ports[0].port : 0;
}

int HttpServer::Serve(mg_connection* connection, void* handler) {
  const HttpResponse response = (*static_cast<Handler*>(handler))();
  mg_printf(connection,
            "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
            "Connection: close\r\n\r\n",
            response.code, response.code == 200 ? "OK" : "Service Unavailable",
            response.content_type.c_str(), response.body.size());
  mg_write(connection, response.body.data(), response.body.size());
  return response.code;
}

}  // namespace liger::agent
