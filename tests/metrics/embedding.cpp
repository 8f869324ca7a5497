#include "m3i/metrics/embedding.hpp"

#include "catch.hpp"
#include "m3i/core/random.hpp"

using namespace m3i;

TEST_CASE("modality gap: closed forms, scale invariance and range", "[fast]") {
  const auto a = Tensor<float>::from({1, 0, 1, 0}, {2, 2}), b = Tensor<float>::from({0, 5, 0, 9, 0, 1}, {3, 2});
  CHECK(modality_gap(a, b) == Approx(std::sqrt(2.0)));
  CHECK(modality_gap(a, a) == 0);
  CHECK(modality_gap(a, Tensor<float>::from({-2, 0}, {1, 2})) == Approx(2));
  Random random(1);
  const auto x = normal_tensor<double>({20, 8}, random), y = normal_tensor<double>({30, 8}, random);
  auto scaled = x.clone();
  for (double& v : scaled.span()) v *= 42;
  CHECK(modality_gap(scaled, y) == Approx(modality_gap(x, y)));
  CHECK(modality_gap(y, x) == Approx(modality_gap(x, y)));
}

TEST_CASE("recall@k: perfect, chance for a collapsed embedding, and monotone in k", "[fast]") {
  Random random(2);
  const auto x = normal_tensor<float>({16, 32}, random), y = normal_tensor<float>({16, 32}, random);
  CHECK(recall_at_k(x, x, 1) == 1);
  const auto collapsed = Tensor<float>::full({16, 4}, 0.37f);
  CHECK(recall_at_k(collapsed, collapsed, 1) == Approx(1.0 / 16));
  CHECK(recall_at_k(collapsed, collapsed, 4) == Approx(4.0 / 16));
  double before = 0;
  for (Index k = 1; k <= 16; ++k) {
    CHECK(recall_at_k(x, y, k) >= before);
    before = recall_at_k(x, y, k);
  }
  CHECK(before == 1);
}

TEST_CASE("mean pairwise cosine: equals the sum over pairs; 1 when collapsed", "[fast]") {
  Random random(3);
  const auto x = normal_tensor<double>({9, 5}, random);
  const auto rows = x.span();
  double sum = 0;
  for (std::size_t i = 0; i < 9; ++i)
    for (std::size_t j = 0; j < 9; ++j) {
      if (i == j) continue;
      double dot = 0, ii = 0, jj = 0;
      for (std::size_t k = 0; k < 5; ++k) {
        dot += rows[i * 5 + k] * rows[j * 5 + k];
        ii += rows[i * 5 + k] * rows[i * 5 + k];
        jj += rows[j * 5 + k] * rows[j * 5 + k];
      }
      sum += dot / std::sqrt(ii * jj);
    }
  CHECK(mean_pairwise_cosine(x) == Approx(sum / 72));
  CHECK(mean_pairwise_cosine(Tensor<float>::full({5, 3}, -2)) == Approx(1));
}

TEST_CASE("embedding metrics: bad input is refused", "[fast]") {
  const auto x = Tensor<float>::full({2, 3}, 1);
  CHECK_THROWS_WITH(modality_gap(x, Tensor<float>::full({2, 4}, 1)), Catch::Contains("[2, 4]"));
  CHECK_THROWS_WITH(modality_gap(Tensor<float>::zeros({2, 3}), x), Catch::Contains("embedding 0 is zero"));
  CHECK_THROWS_AS(modality_gap(Tensor<float>::full({2, 3}, INFINITY), x), NumericError);
  CHECK_THROWS_AS(modality_gap(Tensor<float>::zeros({0, 3}), x), ShapeError);
  CHECK_THROWS_AS(recall_at_k(x, x, 3), ShapeError);
  CHECK_THROWS_AS(recall_at_k(x, Tensor<float>::full({3, 3}, 1), 1), ShapeError);
  CHECK_THROWS_AS(mean_pairwise_cosine(Tensor<float>::full({1, 3}, 1)), ShapeError);
}
