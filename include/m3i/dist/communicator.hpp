#pragma once
/// Communicator: processes that compute one thing together, each called a rank.
///
///     communicator.broadcast(weights);          // rank 0's values everywhere
///     communicator.all_reduce_sum(gradient);    // in place, in the order of the ranks: the same bits in each run
///     const auto rows = communicator.all_gather(own);
///
/// Every rank makes the same calls in the same order. Before data moves, the ranks compare what they are about to do;
/// a difference, and a rank that has failed, is an Error on all of them that names the rank.

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "m3i/core/tensor.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// A rank failed, died, or does something else than the others.
struct RankError : Error {
  using Error::Error;
};

/// Another rank has failed, and says why itself.
struct RankFailed : RankError {
  using RankError::RankError;
};
/// A rank cannot take the step that all are in; none has taken it.
struct SkippedStep : RankError {
  using RankError::RankError;
};

/// What a rank is about to do, as the others see it. Plain bytes: it travels between processes.
struct RankCall {
  char operation[24] = {};  ///< "failed": this rank gives up; "skips": only the step; for the reason that follows
  char dtype[8] = {};
  Index elements = 0;
  Index root = 0;
  char reason[472] = {};

  static RankCall of(std::string_view operation, std::string_view dtype = "", Index elements = 0, Index root = 0) {
    RankCall call;
    call.elements = elements, call.root = root;
    operation.copy(call.operation, sizeof call.operation - 1);
    dtype.copy(call.dtype, sizeof call.dtype - 1);
    return call;
  }
  static RankCall because(std::string_view operation, std::string_view why) {
    RankCall call = of(operation);
    why.copy(call.reason, sizeof call.reason - 1);
    return call;
  }
  bool is(std::string_view name) const { return name == operation; }
  bool operator==(const RankCall& other) const {
    return std::string_view(operation) == other.operation && std::string_view(dtype) == other.dtype &&
           elements == other.elements && root == other.root;
  }
  std::string text() const {
    return m3i::text(std::string_view(operation), " of ", elements, " ", std::string_view(dtype), " (root ", root, ")");
  }
};

namespace detail {
/// sum[i] = parts[0][i] + parts[1][i] + ..., in that order; half and bf16 are added in float and rounded once.
template <class T>
void sum_in_order(const T* parts, Index ranks, Index n, T* sum) {
  for (Index i = 0; i < n; ++i) {
    auto total = static_cast<accumulate_t<T>>(parts[i]);
    for (Index r = 1; r < ranks; ++r) total += static_cast<accumulate_t<T>>(parts[r * n + i]);
    sum[i] = T(total);
  }
}
}  // namespace detail

/// The ranks of one program. A transport moves bytes of host memory; tensors of a GPU are staged unless it takes them.
class Communicator {
 public:
  Communicator() = default;
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual const char* transport() const = 0;
  /// Rank 0 writes logs, files and messages.
  bool first() const { return rank() == 0; }

  /// x = the sum of all ranks' x, in place. Added in the order of the ranks: the same bits on each, and in each run.
  template <class T>
  void all_reduce_sum(const Tensor<T>& x) {
    if (size() == 1) return;
    agree(RankCall::of("all_reduce_sum", dtype_name<T>(), x.size()));
    if (x.size() == 0 || sum_on_device(x.data(), x.size(), dtype_name<T>(), x.device())) return;
    const Tensor<T> host = x.to(Device::cpu());
    sum_on_host(host.data(), host.size());
    if (!x.device().on_host()) x.copy_from(host);
  }
  /// The rows of all ranks, in their order: x [n, ...] on each gives [size n, ...].
  template <class T>
  Tensor<T> all_gather(const Tensor<T>& x) {
    require(x.rank() > 0, "all_gather: needs rows, got a scalar");
    if (size() == 1) return x;
    agree(RankCall::of("all_gather", dtype_name<T>(), x.size()));
    Shape shape = x.shape();
    shape[0] *= size();
    const Tensor<T> host = x.to(Device::cpu()), all(shape);
    if (x.size() > 0) collect(as_bytes(host.data()), as_bytes(all.data()), host.bytes());
    return all.to(x.device());
  }
  /// x = root's x, in place.
  template <class T>
  void broadcast(const Tensor<T>& x, int root = 0) {
    require(root >= 0 && root < size(), "broadcast: root ", root, " of ", size(), " ranks");
    if (size() == 1) return;
    agree(RankCall::of("broadcast", dtype_name<T>(), x.size(), root));
    const Tensor<T> host = x.to(Device::cpu());
    if (x.size() > 0) share(as_bytes(host.data()), host.bytes(), root);
    if (!x.device().on_host()) x.copy_from(host);
  }
  /// Returns when all ranks have called it.
  void barrier() {
    if (size() > 1) agree(RankCall::of("barrier"));
  }
  /// Whether any rank says so: all take the same turn.
  bool any(bool here) {
    const auto votes = Tensor<std::int64_t>::scalar(here ? 1 : 0);
    all_reduce_sum(votes);
    return votes.item() > 0;
  }

  /// The mean over the ranks.
  double mean(double here) {
    const auto sum = Tensor<double>::scalar(here);
    all_reduce_sum(sum);
    return sum.item() / size();
  }

  /// Throws SkippedStep here and in the next call of all others, which then stop at the same place of the same step.
  [[noreturn]] void skip_step(const std::string& why) {
    if (size() > 1) agree(RankCall::because("skips", why));
    fail<SkippedStep>(why);
  }

  /// Tells the others that this rank gives up: their next call throws. Called by run_ranks(), at most once.
  virtual void give_up(const std::string& why) = 0;

  // What a transport does, for host memory. The calls above compare first; these do not.

  /// to [size][bytes] -> from [size][bytes]: part r of `to` goes to rank r, part r of `from` comes from it.
  virtual void exchange(const std::byte* to, std::byte* from, std::size_t bytes) = 0;
  /// all [size][bytes]: every rank's `mine`.
  virtual void collect(const std::byte* mine, std::byte* all, std::size_t bytes) = 0;
  /// data [bytes]: root's.
  virtual void share(std::byte* data, std::size_t bytes, int root) = 0;

 protected:
  /// Sums in device memory and returns true, if this transport can.
  virtual bool sum_on_device(void*, Index, const char*, Device) { return false; }

  /// Throws RankError, on all ranks alike, unless all make the same call.
  void agree(const RankCall& mine) {
    std::vector<RankCall> calls(static_cast<std::size_t>(size()));
    collect(as_bytes(&mine), as_bytes(calls.data()), sizeof mine);
    for (std::size_t r = 0; r < calls.size(); ++r)
      if (calls[r].is("failed")) fail<RankFailed>(mine.operation, ": rank ", r, " failed: ", calls[r].reason);
    for (std::size_t r = 0; r < calls.size(); ++r)
      if (calls[r].is("skips")) fail<SkippedStep>("rank ", r, ": ", calls[r].reason);
    for (std::size_t r = 1; r < calls.size(); ++r)
      require<RankError>(calls[r] == calls[0], "ranks differ: rank 0 calls ", calls[0], ", rank ", r, " calls ",
                         calls[r], "; every rank must make the same calls with the same sizes");
  }

  static const std::byte* as_bytes(const void* p) { return static_cast<const std::byte*>(p); }
  static std::byte* as_bytes(void* p) { return static_cast<std::byte*>(p); }

 private:
  /// Each rank adds up one part of the elements and then hands it to all: 2 n elements move whatever the ranks.
  template <class T>
  void sum_on_host(T* x, Index n) {
    const Index ranks = size(), part = std::min<Index>((n + ranks - 1) / ranks, Index(1) << 18), round = part * ranks;
    const std::size_t bytes = std::size_t(round) * sizeof(T);
    std::vector<T> mine(std::size_t(round), T(0)), parts(std::size_t(round), T(0)), sum(std::size_t(part), T(0));
    for (Index begin = 0; begin < n; begin += round) {
      const std::size_t now = std::size_t(std::min(round, n - begin)) * sizeof(T);
      std::memcpy(static_cast<void*>(mine.data()), x + begin, now);
      std::memset(as_bytes(mine.data()) + now, 0, bytes - now);
      exchange(as_bytes(mine.data()), as_bytes(parts.data()), std::size_t(part) * sizeof(T));
      detail::sum_in_order(parts.data(), ranks, part, sum.data());
      collect(as_bytes(sum.data()), as_bytes(parts.data()), std::size_t(part) * sizeof(T));
      std::memcpy(static_cast<void*>(x + begin), parts.data(), now);
    }
  }
};

/// One process: nothing moves.
class OneProcess final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  const char* transport() const override { return "one process"; }
  void give_up(const std::string&) override {}
  void exchange(const std::byte* to, std::byte* from, std::size_t bytes) override { std::memcpy(from, to, bytes); }
  void collect(const std::byte* mine, std::byte* all, std::size_t bytes) override { std::memcpy(all, mine, bytes); }
  void share(std::byte*, std::size_t, int) override {}
};

}  // namespace M3I_ABI
}  // namespace m3i
