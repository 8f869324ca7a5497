#include "m3i/ops/linear.hpp"
#include "../good.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

TEST_CASE("matmul: every transpose and broadcast gives right values and gradients", "[ops]") {
  using Lead = std::pair<std::vector<Index>, std::vector<Index>>;
  const std::vector<Lead> leads{
      {{}, {}},         {{3}, {}},     {{}, {3}},     {{3}, {3}},       {{2, 3}, {2, 3}},      {{1}, {3}},
      {{2, 1}, {1, 3}}, {{2, 3}, {3}}, {{3}, {2, 3}}, {{2, 3}, {1, 1}}, {{4, 1, 2}, {1, 3, 2}}};
  for (const int flags : {0, 1, 2, 3}) {
    const bool trans_a = flags & 1, trans_b = flags & 2;
    std::vector<std::vector<Shape>> cases;
    for (const auto& [lead_a, lead_b] : leads)
      for (const auto& [m, n, k] : {std::array<Index, 3>{1, 1, 1}, {2, 3, 4}, {5, 1, 2}}) {
        Shape a(lead_a.begin(), lead_a.end()), b(lead_b.begin(), lead_b.end());
        for (const Index e : {trans_a ? k : m, trans_a ? m : k}) a.push_back(e);
        for (const Index e : {trans_b ? n : k, trans_b ? k : n}) b.push_back(e);
        cases.push_back({a, b});
      }
    CAPTURE(trans_a, trans_b);
    good(testing::check_shapes([=](const auto& v) { return matmul(v[0], v[1], trans_a, trans_b); }, cases));
  }
}

TEST_CASE("matmul: values and shapes follow NumPy", "[ops]") {
  const Var<double> a(Tensor<double>::from({1, 2, 3, 4}, {2, 2})), b(Tensor<double>::from({1, 10, 100, 1000}, {2, 2}));
  CHECK(matmul(a, b).value().to_vector() == std::vector<double>{201, 2010, 403, 4030});
  CHECK(matmul(a, b, true, true).value().to_vector() == std::vector<double>{31, 3100, 42, 4200});
  const Var<float> p(testing::wave<float>({4, 1, 2, 3})), q(testing::wave<float>({5, 3, 7}));
  CHECK(matmul(p, q).shape() == Shape{4, 5, 2, 7});
}

TEST_CASE("matmul: an empty batch and an empty sum", "[ops]") {
  const Var<double> a(Tensor<double>({0, 2, 3}), true), b(testing::wave<double>({3, 4}), true);
  CHECK(matmul(a, b).shape() == Shape{0, 2, 4});
  const Var<double> c(Tensor<double>({2, 0})), d(Tensor<double>({0, 4}));
  CHECK(matmul(c, d).value().to_vector() == std::vector<double>(8, 0.0));
}

TEST_CASE("matmul: sizes that do not fit are refused with both shapes", "[ops][errors]") {
  const Var<float> a(Tensor<float>({2, 3})), b(Tensor<float>({2, 3})), v(Tensor<float>({3}));
  CHECK_THROWS_WITH(matmul(a, b), Catch::Contains("matmul") && Catch::Contains("3 and 2"));
  CHECK_THROWS_WITH(matmul(a, v), Catch::Contains("[3]"));
  const Var<float> c(Tensor<float>({4, 2, 3})), d(Tensor<float>({5, 3, 2}));
  CHECK_THROWS_WITH(matmul(c, d), Catch::Contains("[4]") && Catch::Contains("[5]"));
}

TEST_CASE("linear: gradient, precisions and devices agree", "[ops]") {
  const std::vector<std::vector<Shape>> cases{{{1}, {1, 1}, {1}},
                                              {{5}, {3, 5}, {3}},
                                              {{2, 3, 7}, {4, 7}, {4}},
                                              {{1100, 3}, {5, 3}, {5}},  // a weight gradient in parts
                                              {{0, 3}, {5, 3}, {5}}};
  good(testing::check_shapes([](const auto& v) { return linear(v[0], v[1], v[2]); }, cases));
  good(testing::check_shapes([](const auto& v) { return linear(v[0], v[1]); }, {{{2, 3, 7}, {4, 7}}}));
}

TEST_CASE("linear: half and bf16 keep their own precision", "[ops]") {
  const auto difference = [](auto small) {
    using T = decltype(small);
    const auto value = [](const Shape& s, int which) { return cast<T>(testing::wave<float>(s, which)); };
    const Var<T> x(value({6, 9}, 0)), w(value({4, 9}, 1)), b(value({4}, 2));
    const Var<float> fx(cast<float>(x.value())), fw(cast<float>(w.value())), fb(cast<float>(b.value()));
    return testing::relative_difference(linear(x, w, b).value(), linear(fx, fw, fb).value());
  };
  CHECK(difference(m3i::half()) < 1e-3);
  CHECK(difference(bf16()) < 8e-3);
}

TEST_CASE("linear: only the gradients that are needed", "[ops]") {
  const Var<double> x(testing::wave<double>({3, 2})), w(testing::wave<double>({4, 2}), true),
      b(testing::wave<double>({4}));
  const auto y = linear(x, w, b);
  backward(y, Tensor<double>::full(y.shape(), 1.0));
  CHECK(w.has_grad());
  CHECK_FALSE(x.has_grad());
  CHECK_FALSE(b.has_grad());
}

TEST_CASE("linear: a wrong channel count is refused with both shapes", "[ops][errors]") {
  const Var<float> x(Tensor<float>({2, 64, 48})), w(Tensor<float>({96, 32})), b(Tensor<float>({95}));
  CHECK_THROWS_WITH(linear(x, w),
                    Catch::Equals("linear: input [2, 64, 48] has 48 channels, weight [96, 32] expects 32; "
                                  "reshape the input or rebuild the layer"));
  CHECK_THROWS_WITH(linear(Var<float>(Tensor<float>({2, 32})), w, b), Catch::Contains("[95]"));
  CHECK_THROWS_AS(linear(Var<float>(Tensor<float>(Shape{})), w), ShapeError);
}
