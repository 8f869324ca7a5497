#include <cstdlib>
#include <string>

#include "caption/server.hpp"
#include "m3i/data/http_curl.hpp"

using namespace m3i;
using Failure = HttpReply::Failure;

namespace {

HttpReply post(const std::string& base, CurlOptions options = {}, const std::string& key = "sk-secret-1") {
  options.timeout_seconds = 0.3;
  CurlClient client(base + "/chat/completions", parse_endpoint(base), ApiKey(key), options);
  return client.post("{\"a\":1}");
}

HttpReply post_to(const loopback::Reply& answer, CurlOptions options = {}) {
  loopback::Server server([&](const auto&) { return answer; });
  return post(server.url(), options);
}

}  // namespace

TEST_CASE("http: a request carries JSON and key, the answer comes with its headers", "[caption]") {
  loopback::Server server([](const auto&) { return loopback::reply(200, "{}", "retry-AFTER:  3 \r\n"); });
  const HttpReply got = post(server.url());
  CHECK(got.failure == Failure::none);
  CHECK(got.status == 200);
  CHECK(got.body == "{}");
  CHECK(got.retry_after == "3");
  const auto request = server.requests().at(0);
  CHECK_THAT(request.head, Catch::StartsWith("POST /v1/chat/completions HTTP/1.1\r\n") &&
                               Catch::Contains("Authorization: Bearer sk-secret-1\r\n") &&
                               Catch::Contains("Content-Type: application/json\r\n"));
  CHECK(request.body == "{\"a\":1}");
  post(server.url(), {}, "");
  CHECK_THAT(server.requests().at(1).head, !Catch::Contains("Authorization"));
}

TEST_CASE("http: chunked answers are put together, one that breaks off is a broken connection", "[caption]") {
  const std::string head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  CHECK(post_to({head + "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"}).body == "abcde");
  CHECK(post_to({head + "3\r\nabc\r\n9\r\nde"}).failure == Failure::connection);
  CHECK(post_to({head + "zz\r\n"}).failure != Failure::none);
  CHECK(post_to({"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"half"}).failure == Failure::connection);
  CHECK(post_to({""}).failure == Failure::connection);
  CHECK(post_to({"SSH-2.0-OpenSSH_9.2\r\n"}).failure != Failure::none);
}

TEST_CASE("http: what takes too long, is too long or not there is told apart", "[caption]") {
  CHECK(post_to({"", 0, true}).failure == Failure::timeout);
  CHECK(post_to({"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", 0, true}).failure == Failure::timeout);
  const HttpReply big = post_to(loopback::reply(200, std::string(5000, 'x')), {.most_bytes = 4999});
  CHECK(big.failure == Failure::oversize);
  CHECK(big.body.size() <= 4999);
  CHECK_THAT(big.error, Catch::Contains("4999 bytes"));
  CHECK(post_to(loopback::reply(200, std::string(5000, 'x')), {.most_bytes = 5000}).failure == Failure::none);
  std::string headers;
  for (int i = 0; i < 300; ++i) headers += "X-Long-" + std::to_string(i) + ": " + std::string(1000, 'h') + "\r\n";
  CHECK(post_to(loopback::reply(200, "{}", headers)).failure == Failure::oversize);
  std::string gone;
  {
    loopback::Server server([](const auto&) { return loopback::Reply{}; });
    gone = server.url();
  }
  CHECK(post(gone).failure == Failure::connection);
}

TEST_CASE("http: a redirect is reported, and the other host never hears of us", "[caption]") {
  loopback::Server other([](const auto&) { return loopback::reply(200, "{}"); });
  const HttpReply got = post_to(loopback::reply(307, "", "Location: " + other.url() + "/elsewhere\r\n"));
  CHECK(got.status == 307);
  CHECK(got.location == other.url() + "/elsewhere");
  CHECK(other.count() == 0);
}

TEST_CASE("http: a key that the service repeats is taken out of what it says", "[caption]") {
  const HttpReply got = post_to(
      loopback::reply(401, R"({"error":"bad key sk-secret-1, sk-secret-1"})", "Location: /?key=sk-secret-1\r\n"));
  CHECK(got.body == R"({"error":"bad key [key], [key]"})");
  CHECK(got.location == "/?key=[key]");
}

TEST_CASE("http: a proxy of the environment is not used for loopback", "[caption]") {
  loopback::Server proxy([](const auto&) { return loopback::reply(500, "proxy"); });
  ::setenv("http_proxy", proxy.url().c_str(), 1);
  const HttpReply got = post_to(loopback::reply(200, "direct"));
  ::unsetenv("http_proxy");
  CHECK(got.body == "direct");
  CHECK(proxy.count() == 0);
}

TEST_CASE("http: a proxy of the environment is used for other hosts, and sees no key of an encrypted request",
          "[caption]") {
  loopback::Server proxy([](const auto&) { return loopback::reply(502, ""); });
  const std::string address = proxy.url().substr(0, proxy.url().size() - 3);
  ::setenv("http_proxy", address.c_str(), 1);
  ::setenv("https_proxy", address.c_str(), 1);
  CurlClient plain("http://caption.invalid/v1", parse_endpoint("http://caption.invalid/v1", true), ApiKey("sk-1"), {});
  CurlClient tunnel("https://caption.invalid/v1", parse_endpoint("https://caption.invalid/v1"), ApiKey("sk-1"), {});
  CHECK(plain.post("{}").status == 502);
  CHECK(tunnel.post("{}").failure == Failure::connection);
  ::unsetenv("http_proxy");
  ::unsetenv("https_proxy");
  const auto requests = proxy.requests();
  REQUIRE(requests.size() == 2);
  CHECK_THAT(requests[0].head, Catch::StartsWith("POST http://caption.invalid/v1 "));
  CHECK_THAT(requests[1].head, Catch::StartsWith("CONNECT caption.invalid:443 ") && !Catch::Contains("sk-1"));
}

TEST_CASE("http: a server that cannot speak TLS is a broken connection, not a success", "[caption]") {
  loopback::Server server([](const auto&) { return loopback::reply(200, "{}"); });
  const std::string url = "https" + server.url().substr(4);
  CHECK(post(url).failure != Failure::none);
  CHECK(server.count() == 0);
}
