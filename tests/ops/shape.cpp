#include "m3i/ops/shape.hpp"
#include "../catch.hpp"
#include "m3i/ops/dropout.hpp"
#include "m3i/ops/embedding.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {
void good(const testing::OpReport& report) {
  INFO(report.text());
  CHECK(report.gradient < 1e-6);
  CHECK(report.single < 1e-6);
  CHECK(report.emulated < 1e-14);
  CHECK(report.cuda < 1e-13);
  CHECK(report.f16 < 3e-3);
  CHECK(report.bf16 < 2e-2);
}
const std::vector<Shape> volumes{{2, 3, 4}, {1, 3, 1}, {5, 3, 67}};
using Ids = Tensor<std::int64_t>;
}  // namespace

TEST_CASE("rearrangements: gradients and devices agree", "[ops]") {
  good(testing::check_op([](const auto& x) { return reshape(x, {x.size()}) * 2.0; }, volumes));
  good(testing::check_op([](const auto& x) { return permute(x, {2, 0, 1}); }, volumes));
  good(testing::check_op([](const auto& x) { return pad(x, {{{1, 2}, {0, -1}, {2, 0}}}); }, volumes));
  good(testing::check_op([](const auto& x) { return roll(x, {-7, 1}, {0, 2}); }, volumes));
  good(testing::check_op([](const auto& x) { return slice(x, 1, 1, 3); }, volumes));
  good(testing::check_op([](const auto& x) { return broadcast_to(x, {2, x.shape()[0], 3, x.shape()[2]}); }, volumes));
  good(testing::check_op([](const auto& x) { return index_select(x, 1, Ids::from({2, 0, 2, 1, 2}, {5})); }, volumes));
  good(testing::check_op(
      [](const auto& x) {
        auto parts = split(x, {1, 2}, 1);
        return concat(std::vector{parts[1], x, parts[0]}, 1);
      },
      volumes));
}

TEST_CASE("rearrangements: axes of extent 0 and inputs that need no gradient", "[ops]") {
  const Var<double> none(Tensor<double>({0, 3}), true), some(testing::wave<double>({2, 3}));
  const auto y = concat<double>({none, some, none}, 0);
  CHECK(y.value().to_vector() == some.value().to_vector());
  backward(y, y.value());
  CHECK_FALSE(some.has_grad());
  CHECK(index_select(some, 0, Ids({0})).shape() == Shape{0, 3});
  for (const auto& z :
       {slice(none, 1, 0, 2), roll(none, {1}, {0}), permute(none, {1, 0}), pad(none, {{{0, 0}, {1, 1}}})})
    CHECK(z.size() == 0);
  std::vector<std::array<Index, 2>> widths(2);  // a second nested list here keeps, with nvcc 13, ones for its zeros
  widths[0] = {1, 1};
  CHECK(pad(none, widths).value().to_vector() == std::vector<double>(6, 0.0));
}

TEST_CASE("index_select: many equal ids add up in their order", "[ops]") {
  std::vector<std::int64_t> ids(5000);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = std::int64_t(i * i % 7);
  const Var<float> table(testing::wave<float>({9, 3}), true);
  const auto dy = testing::wave<float>({5000, 3});
  backward(index_select(table, 0, Ids::from(ids, {5000})), dy);
  std::vector<float> expected(27);
  for (std::size_t i = 0; i < ids.size(); ++i)
    for (std::size_t c = 0; c < 3; ++c) expected[std::size_t(ids[i]) * 3 + c] += dy.data()[i * 3 + c];
  CHECK(table.grad().to_vector() == expected);
}

TEST_CASE("rearrangements: inverses give back the input", "[ops]") {
  const Var<double> x(testing::wave<double>({3, 4, 5}));
  const auto same = [&](const Var<double>& y) { return y.value().to_vector() == x.value().to_vector(); };
  CHECK(same(permute(permute(x, {2, 0, 1}), {1, 2, 0})));
  CHECK(same(roll(roll(x, {2, -9}, {0, 1}), {-2, 9}, {0, 1})));
  CHECK(same(pad(pad(x, {{{1, 2}, {3, 0}, {0, 4}}}), {{{-1, -2}, {-3, 0}, {0, -4}}})));
  CHECK(same(concat(split(x, {1, 0, 3}, 1), 1)));
}

TEST_CASE("embedding: repeated ids add their gradients", "[ops]") {
  const Ids ids = Ids::from({1, 0, 1, 4}, {2, 2});
  good(testing::check_op([&](const auto& table) { return embedding(table, ids); }, {{5, 3}, {7, 300}}));
  CHECK_THROWS_WITH(embedding(Var<float>(Tensor<float>::zeros({4, 2})), ids),
                    Catch::Contains("id 4") && Catch::Contains("[0, 4)"));
}

TEST_CASE("rearrangements: wrong arguments are named", "[ops][errors]") {
  const Var<float> x(Tensor<float>::zeros({2, 3}));
  CHECK_THROWS_WITH(permute(x, {0, 0}), Catch::Contains("twice"));
  CHECK_THROWS_WITH(slice(x, 1, 2, 5), Catch::Contains("slice") && Catch::Contains("[2, 3]"));
  CHECK_THROWS_WITH(concat<float>({x, Var<float>(Tensor<float>::zeros({3, 2}))}, 0), Catch::Contains("concat"));
  CHECK_THROWS_WITH(split(x, {1, 1}, 1), Catch::Contains("add up to 2"));
  CHECK_THROWS_WITH(reshape(x, {5}), Catch::Contains("reshape"));
  CHECK_THROWS_WITH(pad(x, {{{0, 1}}}), Catch::Contains("pad") && Catch::Contains("[2, 3]"));
  CHECK_THROWS_WITH(roll(x, {1}, {0, 1}), Catch::Contains("roll"));
  CHECK_THROWS_WITH(roll(x, {1}, {2}), Catch::Contains("axis 2"));
  CHECK_THROWS_WITH(broadcast_to(x, {2, 4}), Catch::Contains("broadcast_to"));
  CHECK_THROWS_WITH(broadcast_to(x, {3}), Catch::Contains("broadcast_to"));
  CHECK_THROWS_WITH(index_select(x, 0, Ids::from({-1}, {1})), Catch::Contains("id -1"));
}

TEST_CASE("dropout: rate, scale, replay and gradient", "[ops]") {
  good(testing::check_op(
      [](const auto& x) {
        Random random(3);
        return dropout(drop_path(x, 0.3, random), 0.5, random);
      },
      {{6, 3, 2}, {1, 1}, {40, 9}}));
  Random random(1);
  const auto y = dropout(Var<float>(Tensor<float>::full({100000}, 1.f)), 0.25, random).value().to_vector();
  double total = 0;
  int strange = 0;
  for (const float v : y) {
    strange += v != 0.f && std::abs(v - 4.f / 3) > 1e-6f;
    total += v;
  }
  CHECK(strange == 0);
  CHECK(total / 100000 == Approx(1).epsilon(0.02));
  CHECK_THROWS_AS(dropout(Var<float>(Tensor<float>::zeros({1})), 1.0, random), ConfigError);
  CHECK_THROWS_WITH(drop_path(Var<float>(Tensor<float>(Shape{})), 0.5, random), Catch::Contains("drop_path"));
}
