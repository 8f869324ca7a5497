#include "m3i/core/random.hpp"

#include <algorithm>
#include <set>

#include "catch.hpp"

using namespace m3i;

namespace {
bool is(const Philox4& r, std::uint32_t x, std::uint32_t y, std::uint32_t z, std::uint32_t w) {
  return r.x == x && r.y == y && r.z == z && r.w == w;
}
}  // namespace

TEST_CASE("philox gives the known answers of its authors", "[core]") {
  // Random123, kat_vectors, philox4x32 with 10 rounds. Counter: index (low, high), stream (low, high); key: seed.
  CHECK(is(philox(0, 0, 0), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  const std::uint64_t ones = ~std::uint64_t(0);
  CHECK(is(philox(ones, ones, ones), 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  CHECK(is(philox(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88), 0xd16cfe09, 0x94fdcceb, 0x5001e420,
           0x24126ea1));
}

TEST_CASE("random: number i of a stream depends on the seed, the stream and i only", "[core]") {
  Random a(5, 2);
  std::vector<double> values;
  for (int i = 0; i < 10; ++i) values.push_back(a.uniform());
  CHECK(Random(5, 2, 7).uniform() == values[7]);
  CHECK(Random(6, 2, 7).uniform() != values[7]);
  CHECK(Random(5, 3, 7).uniform() != values[7]);
  Random copy = a;
  CHECK(copy.normal() == a.normal());
}

TEST_CASE("random: streams split by label do not meet and do not depend on what was drawn", "[core]") {
  Random parent(1);
  const Random before = parent.split(4);
  for (int i = 0; i < 100; ++i) parent.uniform();
  CHECK(parent.split(4).seed == before.seed);
  std::set<double> seen;
  for (std::uint64_t label = 0; label < 1000; ++label) seen.insert(parent.split(label).uniform());
  for (std::uint64_t label = 0; label < 100; ++label) seen.insert(parent.split(0).split(label).uniform());
  CHECK(seen.size() == 1100);
}

TEST_CASE("random: moments and bounds of the distributions", "[core]") {
  Random random(11);
  const int n = 100000;
  double mean = 0, square = 0, cube = 0, uniform_mean = 0, uniform_square = 0, widest = 0;
  for (int i = 0; i < n; ++i) {
    const double u = random.uniform(), x = random.normal();
    CHECK_FALSE((u < 0 || u >= 1));
    uniform_mean += u / n, uniform_square += u * u / n;
    mean += x / n, square += x * x / n, cube += x * x * x / n;
    widest = std::max(widest, std::abs(random.truncated_normal()));
  }
  CHECK(uniform_mean == Approx(0.5).margin(0.005));  // five standard errors of the mean
  CHECK(uniform_square == Approx(1.0 / 3).margin(0.005));
  CHECK(mean == Approx(0).margin(0.016));
  CHECK(square == Approx(1).margin(0.023));
  CHECK(cube == Approx(0).margin(0.06));
  CHECK(widest <= 2);
  CHECK(widest > 1.99);
  CHECK(random.uniform(3, 5) >= 3);
}

TEST_CASE("random: integers fill their range evenly, an empty range is refused", "[core]") {
  Random random(3);
  std::vector<int> counts(7);
  for (int i = 0; i < 7000; ++i) ++counts.at(std::size_t(random.below(7)));
  CHECK(*std::min_element(counts.begin(), counts.end()) > 850);
  CHECK(*std::max_element(counts.begin(), counts.end()) < 1150);
  CHECK(random.below(1) == 0);
  CHECK_THROWS_WITH(random.below(0), Catch::Contains("below(0)"));
}

TEST_CASE("random: a permutation holds each number once and moves most of them", "[core]") {
  std::vector<Index> order = Random(9).permutation(1000);
  CHECK(order == Random(9).permutation(1000));
  CHECK(order != Random(10).permutation(1000));
  int fixed = 0;
  for (Index i = 0; i < 1000; ++i) fixed += order[std::size_t(i)] == i;
  CHECK(fixed < 10);
  std::sort(order.begin(), order.end());
  for (Index i = 0; i < 1000; ++i) REQUIRE(order[std::size_t(i)] == i);
  CHECK(Random(9).permutation(0).empty());
  CHECK(Random(9).permutation(1) == std::vector<Index>{0});
  CHECK_THROWS_WITH(Random(9).permutation(-1), Catch::Contains("permutation of -1"));
  CHECK_THROWS_WITH(Random(9).truncated_normal(0), Catch::Contains("truncated_normal"));
}

TEST_CASE("random: tensors follow the same numbers", "[core]") {
  Random a(2), b(2);
  const Tensor<double> x = normal_tensor<double>({3, 4}, a, 0.5);
  for (const double v : x.span()) CHECK(v == 0.5 * b.normal());
  const Tensor<float> y = truncated_normal_tensor<float>({1000}, a, 0.02);
  for (const float v : y.span()) CHECK_FALSE(std::abs(v) > 0.0401f);
  const Tensor<float> z = uniform_tensor<float>({1000}, a, -1, 1);
  CHECK(*std::min_element(z.span().begin(), z.span().end()) < -0.9f);
}
