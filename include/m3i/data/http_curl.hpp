#pragma once
/// HTTP through libcurl: one connection that posts JSON to one address. Needs m3i::curl.
///
/// Certificates are checked, redirects are never followed (a key must not travel to another host), answers are bounded,
/// and nothing of the user's .netrc is used. Proxies come from the usual variables (HTTPS_PROXY, NO_PROXY, ...), except
/// for loopback addresses: what is meant to stay on this machine does.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <curl/curl.h>

#include "m3i/data/http.hpp"

namespace m3i {
inline namespace M3I_ABI {

struct CurlOptions {
  double timeout_seconds = 60;  ///< of a whole request
  double connect_seconds = 10;
  std::size_t most_bytes = std::size_t(4) << 20;  ///< of an answer's body
  std::string ca_file{};                          ///< certificates to trust instead of the system's
};

namespace detail {

/// Where libcurl's callbacks put what arrives.
struct CurlArrival {
  HttpReply reply;
  std::size_t most_bytes = 0, header_bytes = 0;
  bool oversize = false;

  static std::size_t body(char* data, std::size_t size, std::size_t count, void* self_) {
    auto& self = *static_cast<CurlArrival*>(self_);
    const std::size_t n = size * count;
    self.oversize = n > self.most_bytes - self.reply.body.size();
    if (self.oversize) return 0;  // ends the transfer
    self.reply.body.append(data, n);
    return n;
  }
  static std::size_t header(char* data, std::size_t size, std::size_t count, void* self_) {
    auto& self = *static_cast<CurlArrival*>(self_);
    const std::size_t n = size * count;
    self.header_bytes += n;
    self.oversize = self.header_bytes > (std::size_t(1) << 17);
    if (self.oversize) return 0;
    const std::string_view line(data, n);
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) return n;
    const std::string name = lower_ascii(line.substr(0, colon));
    const std::string value(trimmed(line.substr(colon + 1)));
    if (name == "retry-after") self.reply.retry_after = value;
    if (name == "date") self.reply.date = value;
    if (name == "location") self.reply.location = value;
    return n;
  }
};

inline HttpReply::Failure failure_of(CURLcode code, bool oversize) {
  using Failure = HttpReply::Failure;
  if (oversize) return Failure::oversize;
  switch (code) {
    case CURLE_OK: return Failure::none;
    case CURLE_OPERATION_TIMEDOUT: return Failure::timeout;
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_HTTP3:
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SSL_CONNECT_ERROR: return Failure::connection;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS: return Failure::certificate;
    default: return Failure::other;
  }
}

}  // namespace detail

/// One connection, kept open from request to request. For one thread.
class CurlClient {
 public:
  /// Throws ConfigError if libcurl cannot be used or cannot speak https.
  CurlClient(const std::string& url, const Endpoint& endpoint, const ApiKey& key, const CurlOptions& options)
      : key_(key), most_bytes_(options.most_bytes) {
    static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);  // once, whichever thread is first
    require<ConfigError>(ready == CURLE_OK, "libcurl: cannot be started: ", curl_easy_strerror(ready));
    curl_.reset(curl_easy_init());
    require<ConfigError>(curl_ != nullptr, "libcurl: cannot be started");
    add_header("Content-Type: application/json");
    add_header("Accept: application/json");
    add_header("Expect:");  // no waiting for "100 Continue"
    if (!key.empty()) add_header(key.authorization().c_str());
    set(CURLOPT_URL, url.c_str());
    set(CURLOPT_HTTPHEADER, headers_.get());
    set(CURLOPT_HEADEROPT, long(CURLHEADER_SEPARATE));  // a proxy's CONNECT does not see the key
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_NETRC, long(CURL_NETRC_IGNORED));
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_SSL_VERIFYPEER, 1L);
    set(CURLOPT_SSL_VERIFYHOST, 2L);
    if (!options.ca_file.empty()) set(CURLOPT_CAINFO, options.ca_file.c_str());
    if (endpoint.loopback) set(CURLOPT_PROXY, "");
    set(CURLOPT_TIMEOUT_MS, long(options.timeout_seconds * 1000));
    set(CURLOPT_CONNECTTIMEOUT_MS, long(options.connect_seconds * 1000));
    set(CURLOPT_USERAGENT, "m3i");
    set(CURLOPT_POST, 1L);
    set(CURLOPT_WRITEFUNCTION, &detail::CurlArrival::body);
    set(CURLOPT_HEADERFUNCTION, &detail::CurlArrival::header);
    set(CURLOPT_ERRORBUFFER, error_);
#if LIBCURL_VERSION_NUM >= 0x075500
    set(CURLOPT_PROTOCOLS_STR, endpoint.encrypted ? "https" : "http");
#else
    set(CURLOPT_PROTOCOLS, long(endpoint.encrypted ? CURLPROTO_HTTPS : CURLPROTO_HTTP));
#endif
  }
  CurlClient(const CurlClient&) = delete;
  CurlClient& operator=(const CurlClient&) = delete;

  /// Network trouble is told in the reply. The key is taken out of everything that came back.
  HttpReply post(const std::string& body) {
    detail::CurlArrival arrival;
    arrival.most_bytes = most_bytes_;
    error_[0] = '\0';
    set(CURLOPT_POSTFIELDS, body.data());
    set(CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(body.size()));
    set(CURLOPT_WRITEDATA, static_cast<void*>(&arrival));
    set(CURLOPT_HEADERDATA, static_cast<void*>(&arrival));
    const CURLcode code = curl_easy_perform(curl_.get());
    HttpReply reply = std::move(arrival.reply);
    reply.failure = detail::failure_of(code, arrival.oversize);
    long status = 0;
    curl_easy_getinfo(curl_.get(), CURLINFO_RESPONSE_CODE, &status);
    reply.status = int(status);
    if (arrival.oversize) reply.error = text("the answer is longer than ", most_bytes_, " bytes");
    else if (code != CURLE_OK) reply.error = key_.redact(error_[0] != '\0' ? error_ : curl_easy_strerror(code));
    reply.body = key_.redact(std::move(reply.body));
    reply.location = key_.redact(std::move(reply.location));
    return reply;
  }

 private:
  template <class V>
  void set(CURLoption option, V value) {
    const CURLcode code = curl_easy_setopt(curl_.get(), option, value);
    require<ConfigError>(code == CURLE_OK, "libcurl: option ", int(option), " is refused: ", curl_easy_strerror(code));
  }
  void add_header(const char* line) {
    curl_slist* longer = curl_slist_append(headers_.get(), line);
    require<ConfigError>(longer != nullptr, "libcurl: out of memory");
    [[maybe_unused]] auto* same = headers_.release();
    headers_.reset(longer);
  }

  struct Cleanup {
    void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
    void operator()(curl_slist* list) const { curl_slist_free_all(list); }
  };
  ApiKey key_;
  std::size_t most_bytes_;
  char error_[CURL_ERROR_SIZE] = {};
  std::unique_ptr<curl_slist, Cleanup> headers_;  // outlives the handle that uses it
  std::unique_ptr<CURL, Cleanup> curl_;
};

}  // namespace M3I_ABI
}  // namespace m3i
