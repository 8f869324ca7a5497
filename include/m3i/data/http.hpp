#pragma once
/// What a client of a web service needs to know before and after the network: addresses, keys, replies and their
/// waiting times. Nothing here sends anything; `http_curl.hpp` does.

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "m3i/core/error.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// An address of a service, checked: nothing in it can be read differently by another parser.
struct Endpoint {
  std::string url;   ///< "https://api.openai.com/v1", without a slash at the end
  std::string host;  ///< "api.openai.com", "[::1]"
  bool encrypted = false;
  bool loopback = false;  ///< this machine: localhost, 127.x.x.x, [::1]
};

namespace detail {

inline std::string lower_ascii(std::string_view s) {
  std::string out(s);
  for (char& c : out) c = char(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

inline std::string_view trimmed(std::string_view s) {
  constexpr std::string_view blanks = " \t\r\n";
  const auto first = s.find_first_not_of(blanks);
  return first == std::string_view::npos ? "" : s.substr(first, s.find_last_not_of(blanks) - first + 1);
}

/// 127.x.x.x in four decimal numbers. Shorter and octal forms are not taken: other programs read them otherwise.
inline bool is_loopback_v4(std::string_view host) {
  if (host.substr(0, 4) != "127.") return false;
  int dots = 0, number = 0, digits = 0;
  for (const char c : host) {
    if (c == '.') {
      if (digits == 0) return false;
      ++dots, number = digits = 0;
    } else {
      if (c < '0' || c > '9' || (digits == 1 && number == 0)) return false;
      number = number * 10 + (c - '0');
      if (++digits > 3 || number > 255) return false;
    }
  }
  return dots == 3 && digits > 0;
}

}  // namespace detail

/// Reads "http(s)://host(:port)(/path)". Throws ConfigError for anything else, above all for a user name or password in
/// it, and for plain http to another machine unless `allow_http`.
inline Endpoint parse_endpoint(std::string_view url, bool allow_http = false) {
  const std::string shown(url.find('@') == std::string_view::npos ? url : std::string_view("(hidden: holds an @)"));
  const auto scheme_end = std::min(url.find("://"), url.size());
  const std::string scheme = detail::lower_ascii(url.substr(0, scheme_end));
  require<ConfigError>(scheme_end < url.size() && (scheme == "https" || scheme == "http"), "address ", shown,
                       ": expected https://HOST/PATH");
  require<ConfigError>(url.find('@') == std::string_view::npos, "address ", shown,
                       ": no user name, password or key may stand in an address; keys come from the environment");
  for (const char c : url.substr(scheme_end + 3))
    require<ConfigError>(
        std::isalnum(static_cast<unsigned char>(c)) || std::string_view("-._~:/[]%").find(c) != std::string_view::npos,
        "address ", shown, ": expected https://HOST/PATH of letters, digits and - . _ ~ : / %");
  while (url.back() == '/') url.remove_suffix(1);
  const std::string_view rest = url.size() > scheme_end + 3 ? url.substr(scheme_end + 3) : "";
  const std::string_view authority = rest.substr(0, std::min(rest.find('/'), rest.size()));
  const bool v6 = !authority.empty() && authority.front() == '[';
  const auto host_end =
      v6 ? std::min(authority.find(']'), authority.size() - 1) + 1 : std::min(authority.find(':'), authority.size());
  const std::string host = detail::lower_ascii(authority.substr(0, host_end));
  const std::string_view port = authority.substr(host_end);
  const bool host_ok =
      v6 ? host.size() > 3 && host.back() == ']' && host.find_first_not_of("0123456789abcdef:.", 1) == host.size() - 1
         : !host.empty() && host.front() != '.' && host.front() != '-' &&
               host.find_first_of("[]%_~") == std::string::npos;
  require<ConfigError>(host_ok, "address ", shown, ": has no host name; expected https://HOST/PATH");
  unsigned number = 0;
  const bool port_ok = port.empty() || (port.front() == ':' &&
                                        std::from_chars(port.data() + 1, port.data() + port.size(), number).ptr ==
                                            port.data() + port.size() &&
                                        number > 0 && number < 65536);
  require<ConfigError>(port_ok, "address ", shown, ": the port must be a number from 1 to 65535");
  Endpoint out{text(scheme, "://", rest), host, scheme == "https", false};
  out.loopback = host == "localhost" || host == "[::1]" || (!v6 && detail::is_loopback_v4(host));
  require<ConfigError>(out.encrypted || out.loopback || allow_http, "address ", shown,
                       ": http sends pictures and key unencrypted; use https, or say --allow-http for a network that ",
                       "you trust");
  return out;
}

/// A key that cannot be printed: text() does not exist, and redact() takes it out of what others say.
class ApiKey {
 public:
  ApiKey() = default;
  explicit ApiKey(std::string value) : value_(std::move(value)) {}

  /// From an environment variable; empty if the variable is unset or empty. Throws ConfigError, without the value, if
  /// it holds blanks or characters that cannot stand in a header.
  static ApiKey from_environment(const std::string& variable) {
    const bool name = !variable.empty() && std::all_of(variable.begin(), variable.end(), [](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
    });
    require<ConfigError>(name, "key: expected the NAME of an environment variable that holds it, not the key itself");
    const char* value = std::getenv(variable.c_str());
    const std::string_view key = value == nullptr ? "" : detail::trimmed(value);
    const bool clean = std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c < '\x7f'; });
    require<ConfigError>(clean, "the key in ", variable, " holds a blank, a line break or a letter that no key has");
    return ApiKey(std::string(key));
  }

  bool empty() const { return value_.empty(); }
  /// For the Authorization header alone.
  std::string authorization() const { return "Authorization: Bearer " + value_; }
  /// Everything that is not the key.
  std::string redact(std::string s) const {
    if (value_.empty()) return s;
    for (std::size_t at = 0; (at = s.find(value_, at)) != std::string::npos;) s.replace(at, value_.size(), "[key]");
    return s;
  }

 private:
  std::string value_;
};

/// What came back from one request.
struct HttpReply {
  enum class Failure { none, timeout, connection, certificate, oversize, other };
  Failure failure = Failure::none;  ///< none: an answer with a status came whole
  int status = 0;
  std::string body{};
  std::string retry_after{}, date{}, location{};  ///< headers of these names; empty: absent
  std::string error{};                            ///< of a failure, in words
};

/// Sends one JSON body and returns what came back; does not throw for network trouble.
using HttpPost = std::function<HttpReply(const std::string& body)>;

/// Seconds since 1970 of "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, the form that servers must send), or nothing.
inline std::optional<double> parse_http_date(std::string_view s) {
  s = detail::trimmed(s);
  if (s.size() != 29 || s.substr(3, 2) != ", " || s.substr(25) != " GMT") return std::nullopt;
  const auto number = [&](std::size_t at, std::size_t length) {
    int value = 0;
    const auto end = s.data() + at + length;
    const bool digit = s[at] >= '0' && s[at] <= '9';
    return digit && std::from_chars(s.data() + at, end, value).ptr == end ? value : -1;
  };
  static constexpr std::string_view months = "JanFebMarAprMayJunJulAugSepOctNovDec";
  const auto month = months.find(s.substr(8, 3));
  const int day = number(5, 2), year = number(12, 4), hour = number(17, 2), minute = number(20, 2),
            second = number(23, 2);
  if (month == std::string_view::npos || month % 3 != 0) return std::nullopt;
  using namespace std::chrono;
  const year_month_day date{std::chrono::year(year), std::chrono::month(unsigned(month) / 3 + 1),
                            std::chrono::day(unsigned(day < 0 ? 0 : day))};
  if (year < 1970 || !date.ok() || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60)
    return std::nullopt;
  const auto days = sys_days(date).time_since_epoch().count();
  return double(days) * 86400 + hour * 3600 + minute * 60 + second;
}

/// Seconds that a reply asks to wait (Retry-After: a number, or a date, compared with the server's own clock if it told
/// it and else with `now`, seconds since 1970); nothing if it does not ask or cannot be understood. Never below 0.
inline std::optional<double> retry_after_seconds(const HttpReply& reply, double now) {
  const std::string_view s = detail::trimmed(reply.retry_after);
  if (s.empty()) return std::nullopt;
  double seconds = 0;
  if (s.find_first_not_of("0123456789.") == std::string_view::npos) {
    const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), seconds);
    if (error != std::errc() || end != s.data() + s.size()) return std::nullopt;
    return seconds;
  }
  const auto date = parse_http_date(s);
  if (!date) return std::nullopt;
  return std::max(0.0, *date - parse_http_date(reply.date).value_or(now));
}

}  // namespace M3I_ABI
}  // namespace m3i
