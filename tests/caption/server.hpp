#pragma once
/// A web server on loopback that answers, byte for byte, what a test tells it to: good answers and bad ones.

#include <atomic>
#include <cctype>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "catch.hpp"

namespace loopback {

struct Request {
  std::string head, body;
  int number = 0;  ///< 0 for the first that the server got
};

/// What goes over the wire before the connection is closed.
struct Reply {
  std::string bytes{};
  double seconds = 0;  ///< before it
  bool hang = false;   ///< nothing more until the server ends
};

inline Reply reply(int status, const std::string& body, const std::string& headers = "") {
  return {"HTTP/1.1 " + std::to_string(status) + " Reason\r\nContent-Type: application/json\r\nConnection: close\r\n" +
          headers + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body};
}

/// The usual answer of a model; `caption` must need no escapes.
inline std::string chat(const std::string& caption, const std::string& finish = "stop") {
  return R"({"id":"c1","object":"chat.completion","model":"tester-2026-01-01","choices":[{"index":0,"message":)"
         R"({"role":"assistant","content":")" +
         caption + R"("},"finish_reason":")" + finish + R"("}],"usage":{"prompt_tokens":100,"completion_tokens":20}})";
}

class Server {
 public:
  explicit Server(std::function<Reply(const Request&)> handler) : handler_(std::move(handler)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(::listen(listener_, 64) == 0);
    REQUIRE(::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
    accepting_ = std::thread([this] { accept_all(); });
  }
  ~Server() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_all();
    ::shutdown(listener_, SHUT_RDWR);
    accepting_.join();
    for (std::thread& t : connections_) t.join();
    ::close(listener_);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/v1"; }
  int count() const { return count_; }
  std::vector<Request> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void accept_all() {
    for (;;) {
      const int connection = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection < 0) return;
      connections_.emplace_back([this, connection] {
        serve(connection);
        ::close(connection);
      });
    }
  }

  void serve(int connection) {
    Request request;
    if (!receive(connection, request)) return;
    request.number = count_++;
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    const Reply answer = handler_(request);
    if (answer.seconds > 0) std::this_thread::sleep_for(std::chrono::duration<double>(answer.seconds));
    for (std::size_t sent = 0; sent < answer.bytes.size();) {
      const auto n = ::send(connection, answer.bytes.data() + sent, answer.bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return;
      sent += std::size_t(n);
    }
    if (answer.hang) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return ending_; });
    }
  }

  /// The head and as much body as Content-Length says.
  static bool receive(int connection, Request& request) {
    std::string bytes;
    char part[4096];
    std::size_t body = std::string::npos, length = 0;
    while (body == std::string::npos || bytes.size() < body + length) {
      const auto n = ::recv(connection, part, sizeof part, 0);
      if (n <= 0) return false;
      bytes.append(part, std::size_t(n));
      if (body == std::string::npos && (body = bytes.find("\r\n\r\n")) != std::string::npos) {
        body += 4;
        const auto at = bytes.find("Content-Length: ");
        if (at < body) length = std::strtoul(bytes.c_str() + at + 16, nullptr, 10);
      }
    }
    request.head = bytes.substr(0, body);
    request.body = bytes.substr(body);
    return true;
  }

  std::function<Reply(const Request&)> handler_;
  int listener_ = -1;
  unsigned port_ = 0;
  std::atomic<int> count_{0};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool ending_ = false;
  std::vector<Request> requests_;
  std::thread accepting_;
  std::vector<std::thread> connections_;
};

}  // namespace loopback
