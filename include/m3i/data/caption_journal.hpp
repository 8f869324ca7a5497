#pragma once
/// The journal of a captioning run: a line for each answer, on the disk before the next question is asked, so that
/// nothing is paid for twice whatever ends the program.

#include <cerrno>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "m3i/core/atomic_file.hpp"
#include "m3i/data/caption.hpp"
#include "m3i/data/caption_origin.hpp"
#include "m3i/data/json_fields.hpp"
#include "m3i/io/mapped_file.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

inline Json json_of(const std::string& key, const std::string& id, const CaptionAnswer& a) {
  Json j{{"key", key}, {"id", id}, {"status", caption_status_name(a.status)}};
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) j[name] = value;
  };
  add("caption", a.caption), add("response", a.response), add("model_version", a.model_version), add("error", a.error);
  if (a.prompt_tokens >= 0) j["prompt_tokens"] = a.prompt_tokens;
  if (a.completion_tokens >= 0) j["completion_tokens"] = a.completion_tokens;
  return j;
}

inline std::pair<std::string, CaptionAnswer> journal_entry_of(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  CaptionAnswer a;
  const std::string key = fields.string("key", true), status = fields.string("status", true);
  fields.string("id", true);
  const auto known = parse_caption_status(status);
  require<FileError>(known.has_value(), where, ": unknown status \"", excerpt(status), "\"");
  a.status = *known;
  a.caption = fields.string("caption", has_caption(a.status));
  a.response = fields.string("response", false);
  a.model_version = fields.string("model_version", false);
  a.error = fields.string("error", false);
  a.prompt_tokens = token_count(fields, "prompt_tokens", where);
  a.completion_tokens = token_count(fields, "completion_tokens", where);
  fields.finish();
  return {key, a};
}

}  // namespace detail

/// Answers by caption_key(), the last one of a key. A last line without its end was cut by a crash and does not count;
/// any other line that cannot be read is a FileError that names file:line. No file: no answers.
inline std::map<std::string, CaptionAnswer> read_caption_journal(const std::string& path) {
  std::map<std::string, CaptionAnswer> out;
  if (::access(path.c_str(), F_OK) != 0) return out;
  const MappedFile file(path);
  const std::string_view bytes = file.bytes();
  Index line_number = 0;
  for (std::size_t at = 0, end; (end = bytes.find('\n', at)) != std::string_view::npos; at = end + 1) {
    const std::string where = text(path, ":", ++line_number);
    auto [key, answer] = detail::journal_entry_of(parse_json(bytes.substr(at, end - at), where), where);
    out.insert_or_assign(std::move(key), std::move(answer));
  }
  return out;
}

/// Appends answers. Holds a lock on the file, so that two runs do not ask the same. For one thread at a time.
class CaptionJournal {
 public:
  /// Opens or makes the file, and removes a last line that was cut. Throws FileError.
  explicit CaptionJournal(std::string path) : path_(std::move(path)) {
    handle_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    require<FileError>(handle_ >= 0, "journal ", path_, ": cannot be opened: ", errno_text(errno));
    try {
      const int locked = ::flock(handle_, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
      require<FileError>(locked == 0, "journal ", path_,
                         locked == EWOULDBLOCK ? ": is used by another run; wait for it, or name another output"
                                               : ": cannot be locked: " + errno_text(locked));
      drop_cut_line();
      answers_ = read_caption_journal(path_);
    } catch (...) {
      ::close(handle_);
      throw;
    }
  }
  ~CaptionJournal() { ::close(handle_); }
  CaptionJournal(const CaptionJournal&) = delete;
  CaptionJournal& operator=(const CaptionJournal&) = delete;

  const std::map<std::string, CaptionAnswer>& answers() const { return answers_; }
  const CaptionAnswer* find(const std::string& key) const {
    const auto at = answers_.find(key);
    return at == answers_.end() ? nullptr : &at->second;
  }

  /// On the disk when it returns.
  void add(const std::string& key, const std::string& id, const CaptionAnswer& answer) {
    std::string line = json_text(detail::json_of(key, id, answer), path_) + "\n";
    for (std::string_view rest = line; !rest.empty();) {
      const ssize_t n = ::write(handle_, rest.data(), rest.size());
      require<FileError>(n >= 0 || errno == EINTR, "journal ", path_, ": cannot be written: ", errno_text(errno),
                         "; what it holds is good, run again when this is mended");
      if (n > 0) rest.remove_prefix(std::size_t(n));
    }
    ::fdatasync(handle_);
    answers_.insert_or_assign(key, answer);
  }

 private:
  void drop_cut_line() {
    const MappedFile file(path_);
    const auto last = file.bytes().rfind('\n');
    const std::size_t whole = last == std::string_view::npos ? 0 : last + 1;
    if (whole == file.size()) return;
    const int error = ::ftruncate(handle_, off_t(whole)) == 0 ? 0 : errno;
    require<FileError>(error == 0, "journal ", path_, ": its cut last line cannot be removed: ", errno_text(error));
  }

  std::string path_;
  int handle_ = -1;
  std::map<std::string, CaptionAnswer> answers_;
};

}  // namespace M3I_ABI
}  // namespace m3i
