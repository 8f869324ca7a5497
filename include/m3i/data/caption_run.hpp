#pragma once
/// Captioning of many slices: parallel requests under a rate limit, waits that grow and that the service may set,
/// every answer in the journal. Knows no network: `connect` makes what sends.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "m3i/core/random.hpp"
#include "m3i/data/caption_cost.hpp"
#include "m3i/data/caption_journal.hpp"
#include "m3i/text/describe.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Spreads requests over time. Seconds are from any origin; not for several threads by itself.
class RateLimit {
 public:
  /// Most a minute; 0: no limit.
  RateLimit(double requests_per_minute, double tokens_per_minute)
      : per_request_(requests_per_minute > 0 ? 60 / requests_per_minute : 0),
        per_token_(tokens_per_minute > 0 ? 60 / tokens_per_minute : 0) {}

  /// When a request of so many tokens may start; its place is taken.
  double reserve(double now, Index tokens) {
    const double start = std::max({now, next_request_, next_token_, paused_until_});
    next_request_ = start + per_request_;
    next_token_ = std::max(next_token_, start) + per_token_ * double(tokens);
    return start;
  }
  /// A request took so many tokens more (or fewer, if negative) than reserved.
  void correct(Index tokens) { next_token_ += per_token_ * double(tokens); }
  /// The service asked all of us to wait.
  void pause_until(double time) { paused_until_ = std::max(paused_until_, time); }
  double paused_until() const { return paused_until_; }

 private:
  double per_request_, per_token_, next_request_ = 0, next_token_ = 0, paused_until_ = 0;
};

/// Seconds before attempt 1, 2, ...: doubled each time up to `most`, times a random factor from 0.5 to 1 that depends
/// on the seed, the slice and the attempt alone. A wait that the service asked for is never cut short.
inline double backoff_seconds(int attempt, double first, double most, Random random, double asked = 0) {
  const double jitter = random.split(std::uint64_t(attempt)).uniform();
  const double grown = std::min(most, first * std::exp2(attempt - 1)) * (0.5 + 0.5 * jitter);
  return asked > 0 ? asked + first * jitter : grown;
}

/// Time, so that tests need not wait.
struct CaptionClock {
  std::function<double()> now = [] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  };
  std::function<double()> calendar = [] {  ///< seconds since 1970
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  };
  std::function<void(double)> sleep = [](double seconds) {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  };
};

struct CaptionRunOptions {
  Index parallel = 4;
  double requests_per_minute = 0, tokens_per_minute = 0;  ///< 0: no limit
  int retries = 5;                                        ///< of one slice
  double backoff_first = 1, backoff_most = 60;            ///< seconds
  double longest_wait = 600;                              ///< a service that asks for a longer one ends the run
  Index give_up_after = 5;  ///< slices in a row without a usable answer end the run; 0: never
  std::uint64_t seed = 0;
  CaptionClock clock{};
};

/// A slice to caption.
struct CaptionJob {
  std::string key;                    ///< caption_key() of what load() gives
  std::string id;                     ///< for the journal and messages; not sent
  std::function<std::string()> load;  ///< the PNG; called by several threads for different jobs
};

/// What the caller hears while it runs, one call at a time.
struct CaptionEvents {
  std::function<void(const CaptionJob&, const CaptionAnswer&)> answer = [](const auto&, const auto&) {};
  std::function<void(const CaptionJob&, const std::string& why, double seconds)> waiting =
      [](const auto&, const auto&, double) {};
  std::function<bool()> stop = [] { return false; };  ///< asked often, from several threads
  std::function<std::string(std::string)> redact = [](std::string s) { return s; };  ///< takes the key out
};

struct CaptionRunResult {
  Index answered = 0;   ///< jobs with a final answer
  Index failed = 0;     ///< jobs that another run will ask again
  std::string stopped;  ///< why the rest was not asked; empty: all were, or the caller stopped it
};

namespace detail {

class CaptionRun {
 public:
  CaptionRun(const std::vector<CaptionJob>& jobs,
             const CaptionParameters& parameters,
             const CaptionRunOptions& options,
             CaptionJournal& journal,
             const CaptionEvents& events)
      : jobs_(jobs),
        parameters_(parameters),
        options_(options),
        journal_(journal),
        events_(events),
        limit_(options.requests_per_minute, options.tokens_per_minute) {}

  CaptionRunResult run(const std::function<HttpPost()>& connect) {
    const auto threads = std::size_t(std::clamp<Index>(options_.parallel, 1, std::max<Index>(1, Index(jobs_.size()))));
    std::vector<std::thread> workers;
    while (workers.size() < threads) try {
        workers.emplace_back([&] { work(connect); });
      } catch (const std::system_error&) {  // no more threads to be had: fewer do it too
        if (workers.empty()) throw;
        break;
      }
    for (std::thread& w : workers) w.join();
    if (error_) std::rethrow_exception(error_);
    return result_;
  }

 private:
  void work(const std::function<HttpPost()>& connect) {
    try {
      const HttpPost post = connect();
      while (const CaptionJob* job = next()) caption(*job, post);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }
  bool ended() {
    const std::lock_guard lock(mutex_);
    return error_ || !result_.stopped.empty() || events_.stop();
  }
  const CaptionJob* next() {
    if (ended()) return nullptr;
    const std::lock_guard lock(mutex_);
    return next_ < jobs_.size() ? &jobs_[next_++] : nullptr;
  }
  /// False if the run ended meanwhile.
  bool sleep_until(double time) {
    for (;;) {
      if (ended()) return false;
      const double left = time - options_.clock.now();
      if (left <= 0) return true;
      options_.clock.sleep(std::min(left, 0.05));
    }
  }
  /// Waits for the next place under the rate limit, and for pauses that come up meanwhile.
  bool wait_for_turn(Index tokens) {
    double start = 0;
    {
      const std::lock_guard lock(mutex_);
      start = limit_.reserve(options_.clock.now(), tokens);
    }
    for (;;) {
      if (!sleep_until(start)) return false;
      const std::lock_guard lock(mutex_);
      if (limit_.paused_until() <= start) return true;
      start = limit_.reserve(options_.clock.now(), 0);  // after the pause, one by one again
    }
  }

  void caption(const CaptionJob& job, const HttpPost& post) {
    const std::string png = job.load();
    require<FileError>(caption_key(png, parameters_) == job.key, job.id,
                       ": its picture changed while the program was running; run it again");
    const std::string body = caption_request(png, parameters_);
    CaptionCost cost;
    cost.add(png, parameters_);
    const Index tokens = cost.tokens_in + cost.tokens_out;
    const Random random = Random(options_.seed, 0x7761697473).split(text_hash(job.key));
    std::string why;
    for (int attempt = 0; attempt <= options_.retries; ++attempt) {
      if (!wait_for_turn(tokens)) return;
      const HttpReply reply = post(body);
      CaptionVerdict verdict = judge_caption_reply(reply);
      for (std::string* s : {&verdict.answer.caption, &verdict.answer.response, &verdict.answer.model_version,
                             &verdict.answer.error, &verdict.why})
        *s = events_.redact(std::move(*s));
      if (verdict.action == CaptionVerdict::Action::keep) return keep(job, verdict.answer, tokens);
      if (verdict.action == CaptionVerdict::Action::stop) return stop(verdict.why);
      why = verdict.why;
      if (attempt < options_.retries && !back_off(job, reply, why, attempt + 1, random)) return;
    }
    CaptionAnswer none =
        unusable(CaptionStatus::unreachable, text("no answer after ", options_.retries + 1, " attempts: ", why));
    keep(job, none, 0);
  }

  /// Waits before the next attempt; false if the run ended.
  bool back_off(const CaptionJob& job, const HttpReply& reply, const std::string& why, int attempt, Random random) {
    const double asked = retry_after_seconds(reply, options_.clock.calendar()).value_or(0);
    if (asked > options_.longest_wait) {
      stop(text(why, "; it asks to wait ", std::ceil(asked), " s, longer than the ", options_.longest_wait,
                " s that this run would; run the same command again then"));
      return false;
    }
    const double wait = backoff_seconds(attempt, options_.backoff_first, options_.backoff_most, random, asked);
    const double until = options_.clock.now() + wait;
    {
      const std::lock_guard lock(mutex_);
      if (asked > 0) limit_.pause_until(options_.clock.now() + asked);  // it means the account, not the request
      events_.waiting(job, why, wait);
    }
    return sleep_until(until);
  }

  void stop(const std::string& why) {
    const std::lock_guard lock(mutex_);
    if (result_.stopped.empty()) result_.stopped = why;
  }

  void keep(const CaptionJob& job, const CaptionAnswer& answer, Index reserved) {
    const std::lock_guard lock(mutex_);
    journal_.add(job.key, job.id, answer);
    if (answer.prompt_tokens >= 0 && answer.completion_tokens >= 0 && reserved > 0)
      limit_.correct(answer.prompt_tokens + answer.completion_tokens - reserved);
    ++(is_final(answer.status) ? result_.answered : result_.failed);
    const bool useful = is_final(answer.status) && answer.status != CaptionStatus::empty;
    in_a_row_ = useful ? 0 : in_a_row_ + 1;
    events_.answer(job, answer);
    if (options_.give_up_after > 0 && in_a_row_ >= options_.give_up_after && result_.stopped.empty())
      result_.stopped = text(in_a_row_, " slices in a row got no usable answer, the last: ", answer.error);
  }

  const std::vector<CaptionJob>& jobs_;
  const CaptionParameters& parameters_;
  const CaptionRunOptions& options_;
  CaptionJournal& journal_;
  const CaptionEvents& events_;
  RateLimit limit_;
  std::mutex mutex_;  // guards all below, the journal, the limit and the calls of events
  CaptionRunResult result_;
  std::exception_ptr error_;
  std::size_t next_ = 0;
  Index in_a_row_ = 0;
};

}  // namespace detail

/// Asks for every job and returns when all have an answer, when one shows that the others would fail too, or when
/// events.stop() says so; requests under way are waited for, since they are paid for. Jobs with a final answer in the
/// journal should be left out by the caller. Throws FileError if the journal cannot be written.
inline CaptionRunResult run_captions(const std::vector<CaptionJob>& jobs,
                                     const CaptionParameters& parameters,
                                     const CaptionRunOptions& options,
                                     CaptionJournal& journal,
                                     const std::function<HttpPost()>& connect,
                                     const CaptionEvents& events) {
  require<ConfigError>(options.parallel > 0 && options.retries >= 0 && options.backoff_first >= 0,
                       "caption: parallel requests must be at least 1, retries and waits at least 0");
  return detail::CaptionRun(jobs, parameters, options, journal, events).run(connect);
}

}  // namespace M3I_ABI
}  // namespace m3i
