#pragma once
/// Captions by a vision-language model: what is asked, how an answer is read, and which answers are worth another try.
/// Pure functions for any service that speaks the "chat completions" form with pictures as data URIs.

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "m3i/core/shape.hpp"
#include "m3i/data/http.hpp"
#include "m3i/imaging/png.hpp"
#include "m3i/io/json.hpp"
#include "m3i/io/sha256.hpp"
#include "m3i/text/unicode.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// What is asked of the model for each slice.
struct CaptionParameters {
  std::string model{};
  std::string prompt = "Describe the image in fewer than 100 words";  ///< the paper's (section III.A)
  std::optional<double> temperature{};                                ///< nothing: the service's own
  Index max_tokens = 300;                                             ///< of an answer
  bool completion_limit = false;  ///< says "max_completion_tokens", which newer models want, for "max_tokens"
  std::string detail = "low";     ///< of the picture: "low", "high", "auto"
};

/// The same for the same picture, prompt, model and parameters: what was paid for once is found by this.
inline std::string caption_key(std::string_view png, const CaptionParameters& p) {
  const Json rest{{"prompt", p.prompt},
                  {"model", p.model},
                  {"detail", p.detail},
                  {"max_tokens", p.max_tokens},
                  {"temperature", p.temperature ? Json(*p.temperature) : Json()}};
  return sha256(sha256(png) + json_text(rest, "caption parameters"));
}

/// The body of the request for a picture.
inline std::string caption_request(std::string_view png, const CaptionParameters& p) {
  const std::string picture =
      "data:image/png;base64," + base64({reinterpret_cast<const std::uint8_t*>(png.data()), png.size()});
  Json body{{"model", p.model},
            {"messages",
             {{{"role", "user"},
               {"content",
                {{{"type", "text"}, {"text", p.prompt}},
                 {{"type", "image_url"}, {"image_url", {{"url", picture}, {"detail", p.detail}}}}}}}}}};
  body[p.completion_limit ? "max_completion_tokens" : "max_tokens"] = p.max_tokens;
  if (p.temperature) body["temperature"] = *p.temperature;
  return json_text(body, "caption request");
}

/// What became of a slice. The first five are answers and final; the others are asked again by the next run.
enum class CaptionStatus { ok, length, refusal, content_filter, empty, malformed, oversize, rejected, unreachable };

inline constexpr std::array<const char*, 9> caption_status_names{
    "ok", "length", "refusal", "content_filter", "empty", "malformed", "oversize", "rejected", "unreachable"};

inline const char* caption_status_name(CaptionStatus s) { return caption_status_names[std::size_t(s)]; }
inline std::optional<CaptionStatus> parse_caption_status(std::string_view name) {
  for (std::size_t i = 0; i < caption_status_names.size(); ++i)
    if (caption_status_names[i] == name) return CaptionStatus(i);
  return std::nullopt;
}
inline bool is_final(CaptionStatus s) { return s <= CaptionStatus::empty; }
inline bool has_caption(CaptionStatus s) { return s <= CaptionStatus::length; }

struct CaptionAnswer {
  CaptionStatus status = CaptionStatus::ok;
  std::string caption{};        ///< cleaned; empty unless has_caption(status)
  std::string response{};       ///< the model's raw text
  std::string model_version{};  ///< as returned
  Index prompt_tokens = -1, completion_tokens = -1;
  std::string error{};  ///< in words, unless ok
};

/// One line of about 160 bytes of what a service says, in UTF-8 and without control characters: for messages.
inline std::string printable(std::string_view s) {
  std::string out = unicode::repair_utf8(excerpt(detail::trimmed(s), 160));
  for (char& c : out)
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = ' ';
  return out;
}

namespace detail {

inline void erase_between(std::string& s, std::string_view open, std::string_view close) {
  for (std::size_t at; (at = s.find(open)) != std::string::npos;) {
    const auto end = s.find(close, at);
    s.erase(at, end == std::string::npos ? std::string::npos : end + close.size() - at);
  }
}

inline void replace_all(std::string& s, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = s.find(from, at)) != std::string::npos; at += to.size())
    s.replace(at, from.size(), to);
}

/// "# Title", "- item", "* item", "> quote" at the start of a line.
inline std::string without_line_marks(std::string_view s) {
  std::string out;
  for (std::size_t at = 0; at < s.size();) {
    const auto end = std::min(s.find('\n', at), s.size());
    std::string_view line = trimmed(s.substr(at, end - at));
    const auto mark = std::min(line.find_first_not_of('#'), line.size());
    const bool heading = mark > 0 && mark < line.size() && line[mark] == ' ';
    if (heading) line.remove_prefix(mark + 1);
    else if (line.size() > 1 && std::string_view("-*>").find(line[0]) != std::string_view::npos && line[1] == ' ')
      line.remove_prefix(2);
    if (line.substr(0, 3) != "```") out += std::string(line) + "\n";
    at = end + 1;
  }
  return out;
}

}  // namespace detail

/// One line of plain text: without <think> parts, marks of Markdown, "Caption:" before it, quotes around it, control
/// characters, line breaks and double blanks. The words stay as they are.
inline std::string clean_model_caption(std::string s) {
  detail::erase_between(s, "<think>", "</think>");
  s = detail::without_line_marks(s);
  detail::replace_all(s, "**", "");
  detail::replace_all(s, "__", "");
  detail::replace_all(s, "`", "");
  detail::replace_all(s, "\xc2\xa0", " ");  // no-break space
  std::string out;
  for (const char c : s) {
    const bool blank = static_cast<unsigned char>(c) <= ' ' || c == '\x7f';
    if (!blank) out += c;
    else if (!out.empty() && out.back() != ' ') out += ' ';
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  for (const char* label : {"caption:", "description:", "image description:", "answer:"})
    if (const std::string_view l = label; detail::lower_ascii(std::string_view(out).substr(0, l.size())) == l)
      out = std::string(detail::trimmed(std::string_view(out).substr(l.size())));
  const bool quoted = out.size() > 1 && out.front() == '"' && out.back() == '"' && out.find('"', 1) == out.size() - 1;
  return quoted ? std::string(detail::trimmed(std::string_view(out).substr(1, out.size() - 2))) : out;
}

/// True for an answer that declines instead of describing. Only the beginning counts: "cannot be excluded" is medicine.
inline bool is_refusal(std::string_view caption) {
  std::string s = detail::lower_ascii(caption.substr(0, 120));
  detail::replace_all(s, "\xe2\x80\x99", "'");
  for (const std::string_view sorry :
       {"i'm sorry, but ", "i am sorry, but ", "i'm sorry. ", "sorry, but ", "sorry, ", "i apologize, but "})
    if (s.rfind(sorry, 0) == 0) s.erase(0, sorry.size());
  for (const std::string_view start :
       {"i can't ", "i cannot ", "i can not ", "i'm unable to ", "i am unable to ", "i'm not able to ",
        "i am not able to ", "i won't ", "i will not ", "as an ai", "unable to assist", "i must decline"})
    if (s.rfind(start, 0) == 0) return true;
  return false;
}

namespace detail {

/// The text of a message: a string, or the parts of type "text" of a list. Nothing if it is neither.
inline std::optional<std::string> message_text(const Json& message) {
  const auto content = message.find("content");
  if (content == message.end() || content->is_null()) return "";
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array()) return std::nullopt;
  std::string out;
  for (const Json& part : *content) {
    if (!part.is_object()) return std::nullopt;
    const auto words = part.find("text");
    if (words != part.end() && words->is_string()) out += words->get<std::string>();
  }
  return out;
}

inline std::string string_or(const Json& object, const char* key, const char* otherwise = "") {
  if (!object.is_object()) return otherwise;
  const auto at = object.find(key);
  return at != object.end() && at->is_string() ? at->get<std::string>() : otherwise;
}

/// A count of tokens, or -1 if it is missing, no number, or beyond all reason.
inline Index count_or_unknown(const Json& object, const char* key) {
  if (!object.is_object()) return -1;
  const auto at = object.find(key);
  if (at == object.end() || !at->is_number_unsigned()) return -1;
  constexpr std::uint64_t most = 10'000'000;
  const auto count = at->get<std::uint64_t>();
  return count <= most ? Index(count) : -1;
}

inline CaptionAnswer unusable(CaptionStatus status, const std::string& why, std::string_view body = "") {
  CaptionAnswer out;
  out.status = status;
  out.error = unicode::repair_utf8(why);  // it may quote bytes of the service
  if (!trimmed(body).empty()) out.error += text("; it begins: ", printable(trimmed(body)));
  return out;
}

}  // namespace detail

/// Reads the body of an answer with status 200. Never throws: what cannot be read is `malformed` or `empty`, in words.
inline CaptionAnswer parse_caption_reply(const std::string& body) {
  using detail::unusable;
  if (detail::trimmed(body).empty()) return unusable(CaptionStatus::malformed, "the answer is empty");
  Json json;
  try {
    json = parse_json(body, "the answer");
  } catch (const Error& error) {
    return unusable(CaptionStatus::malformed, error.what(), body);
  }
  const auto wrong = [&](const char* what) {
    return unusable(CaptionStatus::malformed, text("the answer has no ", what), body);
  };
  if (!json.is_object()) return wrong("JSON object");
  if (json.contains("error") && !json["error"].is_null()) return wrong("choices but an error");
  const auto choices = json.find("choices");
  if (choices == json.end() || !choices->is_array() || choices->empty()) return wrong("list \"choices\"");
  const Json& choice = choices->front();
  const auto message = choice.is_object() ? choice.find("message") : choice.end();
  if (message == choice.end() || !message->is_object()) return wrong("\"message\" in its first choice");
  const auto content = detail::message_text(*message);
  if (!content) return wrong("text in \"content\"");

  CaptionAnswer out;
  out.response = *content;
  out.model_version = detail::string_or(json, "model");
  if (const auto usage = json.find("usage"); usage != json.end()) {
    out.prompt_tokens = detail::count_or_unknown(*usage, "prompt_tokens");
    out.completion_tokens = detail::count_or_unknown(*usage, "completion_tokens");
  }
  const std::string finish = detail::string_or(choice, "finish_reason"),
                    refusal = detail::string_or(*message, "refusal");
  const std::string caption = clean_model_caption(*content);
  const auto without = [&](CaptionStatus status, std::string why) {
    out.status = status;
    out.error = std::move(why);
    return out;
  };
  if (finish == "content_filter") return without(CaptionStatus::content_filter, "stopped by the service's filter");
  if (!refusal.empty()) {
    if (out.response.empty()) out.response = refusal;
    return without(CaptionStatus::refusal, "the model declined: " + excerpt(refusal));
  }
  if (caption.empty())
    return without(CaptionStatus::empty, finish == "length" ? "no word before the limit of tokens; raise --max-tokens "
                                                              "(models that think first need thousands)"
                                                            : "the model answered with no text");
  if (is_refusal(caption)) return without(CaptionStatus::refusal, "the model declined: " + excerpt(caption));
  out.caption = caption;
  if (finish == "length") return without(CaptionStatus::length, "cut by the limit of tokens");
  return out;
}

/// What to do after a reply.
struct CaptionVerdict {
  enum class Action {
    keep,   ///< `answer` stands, good or bad
    retry,  ///< the same request may succeed later
    stop    ///< every other request would fail in the same way
  };
  Action action = Action::keep;
  CaptionAnswer answer{};
  std::string why{};  ///< of retry and stop
};

namespace detail {

/// "message" and "code" of an error body in any of the usual forms; empty if it has none.
struct ServiceError {
  std::string message, code;
};
inline ServiceError service_error(const std::string& body) {
  try {
    const Json json = parse_json(body, "");
    if (!json.is_object()) return {};
    const auto error = json.find("error");
    if (error == json.end()) return {string_or(json, "message", string_or(json, "detail").c_str()), ""};
    if (error->is_string()) return {error->get<std::string>(), ""};
    return {string_or(*error, "message"), string_or(*error, "code", string_or(*error, "type").c_str())};
  } catch (const Error&) {
    return {};
  }
}

inline CaptionVerdict verdict_on_failure(const HttpReply& reply) {
  using Action = CaptionVerdict::Action;
  switch (reply.failure) {
    case HttpReply::Failure::oversize: return {Action::keep, unusable(CaptionStatus::oversize, reply.error), ""};
    case HttpReply::Failure::timeout:
    case HttpReply::Failure::connection: return {Action::retry, {}, reply.error};
    case HttpReply::Failure::certificate:
      return {Action::stop, {}, reply.error + "; the service cannot prove who it is, so nothing is sent to it"};
    default: return {Action::stop, {}, reply.error};
  }
}

}  // namespace detail

/// Judges a reply: retried are 408, 409, 429, 5xx, time-outs and broken connections; 401, 402, 403, 404, redirects,
/// bad certificates and an exhausted account stop everything; other refusals concern the slice.
inline CaptionVerdict judge_caption_reply(const HttpReply& reply) {
  using Action = CaptionVerdict::Action;
  if (reply.failure != HttpReply::Failure::none) return detail::verdict_on_failure(reply);
  const int s = reply.status;
  if (s >= 200 && s < 300) return {Action::keep, parse_caption_reply(reply.body), ""};
  if (s >= 300 && s < 400)
    return {Action::stop,
            {},
            text("HTTP ", s, ": the service sends us to ",
                 reply.location.empty() ? "another address" : printable(reply.location),
                 ", which is not followed: the key would go there; if you trust it, give it as "
                 "--base-url")};
  const detail::ServiceError error = detail::service_error(reply.body);
  std::string why = text("HTTP ", s);
  if (const auto words = printable(error.message.empty() ? reply.body : error.message); !words.empty())
    why += ": " + words;
  const bool filtered = error.code == "content_filter" || error.code == "content_policy_violation";
  if (filtered) return {Action::keep, detail::unusable(CaptionStatus::content_filter, why), ""};
  if (s == 401 || s == 403) return {Action::stop, {}, why + "; check the key (--key-env) and what it may use"};
  if (s == 402 || error.code == "insufficient_quota") return {Action::stop, {}, why + "; the account is used up"};
  if (s == 404) return {Action::stop, {}, why + "; check --base-url (it usually ends with /v1) and --model"};
  if (s == 408 || s == 409 || s == 429 || s >= 500) return {Action::retry, {}, why};
  return {Action::keep, detail::unusable(CaptionStatus::rejected, why), ""};
}

}  // namespace M3I_ABI
}  // namespace m3i
