#include "catch.hpp"

#include "m3i/core/random.hpp"
#include "m3i/kernels/solvers.hpp"

using namespace m3i;

namespace {

/// A symmetric matrix whose upper triangle is not a number: nothing may read it.
Tensor<double> lower_triangle(Index n, std::uint64_t seed) {
  Random random(seed);
  Tensor<double> a = normal_tensor<double>({n, n}, random);
  for (Index i = 0; i < n; ++i)
    for (Index j = i + 1; j < n; ++j) a.data()[i * n + j] = std::numeric_limits<double>::quiet_NaN();
  return a;
}
double at(const Tensor<double>& a, Index i, Index j) {
  return a.data()[std::max(i, j) * a.shape()[0] + std::min(i, j)];
}

/// Largest |A v_k - value_k v_k| and |v_k . v_l - (k == l)|.
std::array<double, 2> errors(const Tensor<double>& a, const Tensor<double>& values, const Tensor<double>& vectors) {
  const Index n = a.shape()[0];
  std::array<double, 2> worst{};
  for (Index k = 0; k < n; ++k) {
    const double* v = vectors.data() + k * n;
    for (Index i = 0; i < n; ++i) {
      double product = 0, overlap = 0;
      for (Index j = 0; j < n; ++j) {
        product += at(a, i, j) * v[j];
        overlap += vectors.data()[i * n + j] * v[j];
      }
      worst[0] = std::max(worst[0], std::abs(product - values.data()[k] * v[i]));
      worst[1] = std::max(worst[1], std::abs(overlap - (i == k ? 1 : 0)));
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("symmetric_eigen: A v = value v with orthonormal v, values ascending", "[kernels]") {
  for (const Index n : {1, 2, 3, 5, 17, 64, 100}) {
    const Tensor<double> a = lower_triangle(n, std::uint64_t(n)), values({n}), vectors({n, n});
    REQUIRE(symmetric_eigen(n, a.data(), values.data(), vectors.data()));
    const auto [residual, overlap] = errors(a, values, vectors);
    CHECK(residual < 1e-13 * double(n));
    CHECK(overlap < 1e-13);
    CHECK(std::is_sorted(values.data(), values.data() + n));
  }
}

TEST_CASE("symmetric_eigen: known values, equal values, zero and huge matrices", "[kernels]") {
  // The second difference of n points: 2 - 2 cos(k pi / (n + 1)), k = 1..n.
  const Index n = 30;
  const double scale = GENERATE(1.0, 1e-200, 1e200);
  Tensor<double> a = Tensor<double>::zeros({n, n});
  for (Index i = 0; i < n; ++i) a.data()[i * (n + 1)] = 2 * scale;
  for (Index i = 1; i < n; ++i) a.data()[i * n + i - 1] = -scale;
  const Tensor<double> values({n}), vectors({n, n});
  REQUIRE(symmetric_eigen(n, a.data(), values.data(), vectors.data()));
  for (Index k = 0; k < n; ++k)
    CHECK(values.data()[k] / scale == Approx(2 - 2 * std::cos(double(k + 1) * std::acos(-1.0) / double(n + 1))));

  Tensor<double> same = Tensor<double>::zeros({4, 4});
  for (const double value : {0.0, 3.0}) {
    for (Index i = 0; i < 4; ++i) same.data()[i * 5] = value;
    const Tensor<double> v({4}), q({4, 4});
    REQUIRE(symmetric_eigen(Index(4), same.data(), v.data(), q.data()));
    CHECK(v.data()[0] == value);
    CHECK(v.data()[3] == value);
    CHECK(errors(same, v, q)[1] == 0);
  }
}

TEST_CASE("symmetric_eigen: a value that is not finite is found out", "[kernels][errors]") {
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    const Tensor<double> a = lower_triangle(6, 1), values({6}), vectors({6, 6});
    a.data()[3 * 6 + 1] = bad;
    CHECK_FALSE(symmetric_eigen(Index(6), a.data(), values.data(), vectors.data()));
  }
}

TEST_CASE("cholesky: L L^T is the matrix, and an indefinite one is found out", "[kernels]") {
  for (const Index n : {1, 2, 7, 65}) {
    Random random(3);
    const Tensor<double> x = normal_tensor<double>({n, n}, random), l({n, n});
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < n; ++j) {
        double sum = i == j ? 0.1 : 0;
        for (Index k = 0; k < n; ++k) sum += x.data()[i * n + k] * x.data()[j * n + k];
        l.data()[i * n + j] = j > i ? std::numeric_limits<double>::quiet_NaN() : sum;
      }
    const Tensor<double> a = l.clone();
    REQUIRE(cholesky(n, l.data()));
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j <= i; ++j) {
        double sum = 0;
        for (Index k = 0; k <= j; ++k) sum += l.data()[i * n + k] * l.data()[j * n + k];
        CHECK(sum == Approx(a.data()[i * n + j]).margin(1e-12 * double(n)));
      }
    a.data()[n * n - 1] = -1e-3;
    CHECK_FALSE(cholesky(n, a.data()));
  }
}
