#pragma once
/// Philox 4x32-10 as a pure function of (seed, stream, index): the same number for any thread, order and device.
/// Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".

#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "m3i/core/config.hpp"
#include "m3i/core/tensor.hpp"

namespace m3i {
inline namespace M3I_ABI {

struct Philox4 {
  std::uint32_t x, y, z, w;
};

/// Four 32-bit random words.
M3I_HD inline Philox4 philox(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  std::uint32_t k0 = std::uint32_t(seed), k1 = std::uint32_t(seed >> 32);
  Philox4 c{std::uint32_t(index), std::uint32_t(index >> 32), std::uint32_t(stream), std::uint32_t(stream >> 32)};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t(0xD2511F53u) * c.x, b = std::uint64_t(0xCD9E8D57u) * c.z;
    c = {std::uint32_t(b >> 32) ^ c.y ^ k0, std::uint32_t(b), std::uint32_t(a >> 32) ^ c.w ^ k1, std::uint32_t(a)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

/// 53 random bits as a number in [0, 1).
M3I_HD inline double unit_interval(std::uint32_t high, std::uint32_t low) {
  return double((std::uint64_t(high) << 21) ^ (low >> 11)) * 0x1p-53;
}

/// A named sequence of random numbers: value i of stream s is a function of (seed, s, i). Copies continue on their own.
struct Random {
  std::uint64_t seed = 0, stream = 0, next = 0;
  /// [3]: if defined, operations (dropout, drop path) read seed, stream and a first index from this memory when they
  /// run, and count on from there; see ReplayedRandom.
  Tensor<std::int64_t> key = {};

  explicit Random(std::uint64_t seed_, std::uint64_t stream_ = 0, std::uint64_t next_ = 0)
      : seed(seed_), stream(stream_), next(next_) {}

  /// A stream of its own for each label, so that drawing more in one place changes nothing elsewhere.
  Random split(std::uint64_t label) const {
    const Philox4 r = at(~label);
    return Random(seed ^ (std::uint64_t(r.x) << 32 | r.y), std::uint64_t(r.z) << 32 | r.w);
  }
  /// Uniform in [0, 1).
  double uniform() {
    const Philox4 r = at(next++);
    return unit_interval(r.x, r.y);
  }
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  /// Standard normal (Box and Muller).
  double normal() {
    const Philox4 r = at(next++);
    return std::sqrt(-2 * std::log(1 - unit_interval(r.x, r.y))) *
           std::cos(6.283185307179586476925 * unit_interval(r.z, r.w));
  }
  /// Normal within [-bound, bound] standard deviations, by rejection.
  double truncated_normal(double bound = 2) {
    require<ConfigError>(bound > 0, "random: truncated_normal within ", bound, " deviations holds no number");
    for (;;)
      if (const double x = normal(); std::abs(x) <= bound) return x;
  }
  /// Uniform integer in [0, n).
  Index below(Index n) {
    require(n > 0, "random: below(", n, ") has nothing to choose from");
    return std::min(n - 1, Index(uniform() * double(n)));
  }
  /// A random order of 0..n-1 (Fisher and Yates).
  std::vector<Index> permutation(Index n) {
    require(n >= 0, "random: permutation of ", n, " numbers");
    std::vector<Index> order(static_cast<std::size_t>(n));
    std::iota(order.begin(), order.end(), Index(0));
    for (Index i = n - 1; i > 0; --i) std::swap(order[std::size_t(i)], order[std::size_t(below(i + 1))]);
    return order;
  }

 private:
  Philox4 at(std::uint64_t index) const {
    require(!key.defined(),
            "random: the host cannot draw from a key that operations read on a device; see ReplayedRandom");
    return philox(seed, stream, index);
  }
};

/// The numbers of a step that is recorded once and replayed (CudaGraph): what is recorded draws from random(), and
/// set() says before each run which numbers these are. They are those that the generator itself would have given.
class ReplayedRandom {
 public:
  explicit ReplayedRandom(Device device) : key_({3}, device) {}

  void set(const Random& numbers) {
    const std::vector<std::int64_t> key{std::int64_t(numbers.seed), std::int64_t(numbers.stream),
                                        std::int64_t(numbers.next)};
    key_.copy_from(Tensor<std::int64_t>::from(key, {3}));
  }
  Random random() const {
    Random numbers(0);
    numbers.key = key_;
    return numbers;
  }

 private:
  Tensor<std::int64_t> key_;
};

namespace detail {
template <class T, class Draw>
Tensor<T> random_tensor(const Shape& shape, Random& random, Device device, const Draw& draw) {
  std::vector<T> values(static_cast<std::size_t>(shape.size()));
  for (T& v : values) v = T(draw(random));
  return Tensor<T>::from(values, shape, device);
}
}  // namespace detail

template <class T>
Tensor<T> uniform_tensor(const Shape& shape, Random& random, double low = 0, double high = 1, Device device = {}) {
  return detail::random_tensor<T>(shape, random, device, [=](Random& r) { return r.uniform(low, high); });
}
template <class T>
Tensor<T> normal_tensor(const Shape& shape, Random& random, double deviation = 1, Device device = {}) {
  return detail::random_tensor<T>(shape, random, device, [=](Random& r) { return deviation * r.normal(); });
}
/// Normal of the given deviation, cut at two deviations (the initialisation of most transformers).
template <class T>
Tensor<T> truncated_normal_tensor(const Shape& shape, Random& random, double deviation = 1, Device device = {}) {
  return detail::random_tensor<T>(shape, random, device, [=](Random& r) { return deviation * r.truncated_normal(); });
}

}  // namespace M3I_ABI
}  // namespace m3i
