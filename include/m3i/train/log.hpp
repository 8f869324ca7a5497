#pragma once
/// The training log: JSON lines, one record a line, flushed as it is written, so that a kill loses nothing.
///
///     RunLog log = RunLog::create("run/log.jsonl");
///     log.write({{"step", 1}, {"loss", 0.83}, {"rate", 2e-5}});
///
/// After a resume the log continues at the checkpoint's step, and no step stands in it twice.

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/file.h>

#include <nlohmann/json.hpp>

#include "m3i/core/error.hpp"
#include "m3i/core/shape.hpp"
#include "m3i/train/setting.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

struct LogFileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using LogFile = std::unique_ptr<std::FILE, LogFileCloser>;

/// Calls function(line number from 1, line without its end, offset after its end) for each line that ends in '\n' until
/// it returns false. A last line without an end is what a kill left of an unfinished write; it is not a record.
template <class Function>
void for_each_line(const std::string& path, Function&& function) {
  const LogFile file(std::fopen(path.c_str(), "rb"));
  require<FileError>(file != nullptr, path, ": the log cannot be opened for reading");
  std::string line;
  std::uintmax_t offset = 0;
  Index number = 0;
  std::vector<char> block(1 << 16);
  for (std::size_t got; (got = std::fread(block.data(), 1, block.size(), file.get())) > 0;)
    for (std::size_t i = 0; i < got; ++i) {
      ++offset;
      if (block[i] != '\n') {
        require<FileError>(line.size() < (1u << 20), path, ": line ", number + 1, " is longer than 1 MiB; not a log");
        line += block[i];
        continue;
      }
      if (!function(++number, line, offset)) return;
      line.clear();
    }
  require<FileError>(std::ferror(file.get()) == 0, path, ": reading the log failed");
}

inline OrderedJson log_record(const std::string& path, Index number, const std::string& line) {
  OrderedJson record = OrderedJson::parse(std::string_view(line), nullptr, false);
  require<FileError>(record.is_object(), path, ": line ", number, " is not a JSON record { ... }");
  return record;
}

}  // namespace detail

/// Appends records to a JSON-lines file. Every failure (full disk, removed folder) is a FileError that names the file.
/// The file is locked as long as the log is open: two runs in one folder would remove each other's checkpoints.
class RunLog {
 public:
  /// A new log. Refuses a file that has content, so that an earlier run is never mixed with this one.
  static RunLog create(const std::string& path) {
    RunLog log(path);
    std::error_code none;
    const auto bytes = std::filesystem::file_size(path, none);
    require<FileError>(none || bytes == 0, path,
                       ": a log of an earlier run is there; resume that run, or write to another folder");
    return log;
  }

  /// Continues a log after `step`: records with a later step, and an unfinished last line, are cut off.
  /// A log that is not there is created.
  static RunLog resume(const std::string& path, Index step) {
    RunLog log(path);
    std::uintmax_t keep = 0;
    detail::for_each_line(path, [&](Index number, const std::string& line, std::uintmax_t end) {
      const OrderedJson record = detail::log_record(path, number, line);
      const auto at = record.find("step");
      if (at != record.end() && at->is_number() && at->get<double>() > static_cast<double>(step)) return false;
      keep = end;
      return true;
    });
    std::error_code none;
    std::filesystem::resize_file(path, keep, none);
    require<FileError>(!none, path, ": the log cannot be cut to ", keep, " bytes: ", none.message());
    return log;
  }

  /// One line. A number that is not finite is written as null.
  void write(const OrderedJson& record) {
    const std::string line = record.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
    const bool ok =
        std::fwrite(line.data(), 1, line.size(), file_.get()) == line.size() && std::fflush(file_.get()) == 0;
    require<FileError>(ok, path_, ": the log cannot be written; is the disk full?");
  }

  const std::string& path() const { return path_; }

 private:
  explicit RunLog(std::string path) : path_(std::move(path)), file_(std::fopen(path_.c_str(), "ab")) {
    require<FileError>(file_ != nullptr, path_, ": the log cannot be opened for writing; does its folder exist?");
    const bool ours = ::flock(::fileno(file_.get()), LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
    require<FileError>(ours, path_, ": is being written; let that run end, or write to another folder");
  }

  std::string path_;
  detail::LogFile file_;
};

/// The points (x, y) of one quantity of a log; both of the same length.
struct LogColumn {
  std::vector<double> x, y;
};

/// A log that was read whole.
struct LogRecords {
  std::vector<OrderedJson> records;

  /// The records that have both keys as numbers (null counts as NaN), in file order. A key may be dotted: "ot.mass".
  LogColumn column(std::string_view y, std::string_view x = "step") const {
    LogColumn out;
    for (const auto& record : records) {
      const OrderedJson *a = find(record, x), *b = find(record, y);
      if (!a || !b || !a->is_number() || !(b->is_number() || b->is_null())) continue;
      out.x.push_back(a->get<double>());
      out.y.push_back(b->is_null() ? std::numeric_limits<double>::quiet_NaN() : b->get<double>());
    }
    return out;
  }

 private:
  static const OrderedJson* find(const OrderedJson& record, std::string_view key) {
    const OrderedJson* at = &record;
    for (;;) {
      const auto dot = key.find('.');
      const auto next = at->is_object() ? at->find(std::string(key.substr(0, dot))) : at->end();
      if (next == at->end()) return nullptr;
      at = &*next;
      if (dot == std::string_view::npos) return at;
      key.remove_prefix(dot + 1);
    }
  }
};

/// Reads a log, also one that is being written. Throws FileError that names the line if it is not a log.
inline LogRecords read_log(const std::string& path) {
  LogRecords out;
  detail::for_each_line(path, [&](Index number, const std::string& line, std::uintmax_t) {
    out.records.push_back(detail::log_record(path, number, line));
    return true;
  });
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
