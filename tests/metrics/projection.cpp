#include "catch.hpp"

#include "m3i/metrics/tsne.hpp"
#include "m3i/metrics/umap.hpp"

using namespace m3i;

namespace {

/// `clusters` groups of `each` points in d dimensions, `apart` deviations from each other.
Tensor<float> clusters(Index groups, Index each, Index d, double apart) {
  Random random(3);
  const Tensor<float> x({groups * each, d});
  std::vector<double> centre(static_cast<std::size_t>(groups * d));
  for (double& v : centre) v = apart * random.normal();
  for (Index i = 0; i < groups * each; ++i)
    for (Index k = 0; k < d; ++k) x.data()[i * d + k] = float(centre[std::size_t(i / each * d + k)] + random.normal());
  return x;
}

/// Share of the 5 nearest neighbours in the map that are of the point's own group.
double purity(const Tensor<float>& map, Index each) {
  const auto near = nearest_neighbours(map, 5);
  double same = 0;
  for (std::size_t m = 0; m < near.index.size(); ++m) same += near.index[m] / each == Index(m) / 5 / each;
  return same / double(near.index.size());
}

template <class F>
void check_same_for_threads(const F& f) {
  const int before = thread_count();
  set_thread_count(1);
  const auto one = f().to_vector();
  set_thread_count(2);
  const auto two = f().to_vector();
  set_thread_count(before);
  CHECK(one == two);
}

}  // namespace

TEST_CASE("principal components: a line in space is found, with its scale", "[metrics]") {
  const Tensor<float> x({5, 3});
  for (Index i = 0; i < 5; ++i)
    for (Index k = 0; k < 3; ++k) x.data()[i * 3 + k] = float(double(i - 2) * (k == 0 ? 2 : k == 1 ? -1 : 2) + 7);
  const auto y = principal_components(x, 2);
  for (Index i = 0; i < 5; ++i) {
    CHECK(std::abs(y.data()[2 * i]) == Approx(std::abs(double(i - 2)) / 2).margin(1e-6));  // over the largest distance
    CHECK(y.data()[2 * i + 1] == Approx(0).margin(1e-6));
  }
  CHECK(y.data()[0] * y.data()[8] < 0);
}

TEST_CASE("t-SNE: affinities have the wished perplexity and add up to 1", "[metrics]") {
  const auto x = clusters(2, 40, 5, 2);
  std::vector<float> distances(80), row(80);
  for (Index i : {0, 17, 79}) {
    for (Index j = 0; j < 80; ++j)
      distances[std::size_t(j)] = detail::squared_distance(x.data() + i * 5, x.data() + j * 5, 5);
    detail::tsne_row(distances.data(), i, 80, 12, row.data());
    double entropy = 0;
    for (const float p : row)
      if (p > 0) entropy -= double(p) * std::log(double(p));
    CHECK(std::exp(entropy) == Approx(12).epsilon(1e-4));
    CHECK(row[std::size_t(i)] == 0);
  }
  const auto p = detail::tsne_affinities(x, 12);
  double sum = 0;
  for (const float v : p.span()) sum += double(v);
  CHECK(sum == Approx(1).epsilon(1e-5));
  CHECK(p.data()[3 * 80 + 50] == p.data()[50 * 80 + 3]);
}

TEST_CASE("t-SNE: the forces are the gradient of the divergence", "[metrics]") {
  const Index n = 12;
  const auto x = clusters(2, 6, 3, 1);
  const auto p = detail::tsne_affinities(x, 3);
  Random random(5);
  std::vector<float> u(n), v(n);
  for (auto* axis : {&u, &v})
    for (float& c : *axis) c = float(random.normal());
  const auto divergence = [&](const std::vector<double>& a, const std::vector<double>& b) {
    double z = 0, loss = 0;
    const auto q = [&](std::size_t i, std::size_t j) {
      return 1 / (1 + (a[i] - a[j]) * (a[i] - a[j]) + (b[i] - b[j]) * (b[i] - b[j]));
    };
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j) z += i == j ? 0 : q(i, j);
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j)
        if (const double pij = double(p.data()[i * n + j]); i != j && pij > 0)
          loss += pij * std::log(pij * z / q(i, j));
    return loss;
  };
  detail::TsneForces forces(n);
  forces.compute(p, u, v);
  const double z = forces.partition();
  const std::vector<double> a(u.begin(), u.end()), b(v.begin(), v.end());
  for (const std::size_t i : {std::size_t(0), std::size_t(7)}) {
    auto up = a, down = a;
    up[i] += 1e-4, down[i] -= 1e-4;
    const double slope = (divergence(up, b) - divergence(down, b)) / 2e-4;
    CHECK(4 * (forces.attraction[2 * i] - forces.repulsion[2 * i] / z) == Approx(slope).epsilon(1e-3));
  }
}

TEST_CASE("t-SNE and UMAP: clusters stay together, whatever the number of threads", "[metrics]") {
  const auto x = clusters(4, 30, 10, 4);
  const auto map = tsne(x, {.perplexity = 10, .iterations = 400, .exaggerated = 100});
  CHECK(purity(map.points, 30) > 0.97);
  CHECK(map.divergence > 0);
  CHECK(map.divergence < 1);
  check_same_for_threads([&] { return tsne(x, {.perplexity = 10, .iterations = 40}).points; });

  const UmapOptions few{.neighbours = 10, .epochs = 100};
  CHECK(purity(umap(x, few), 30) > 0.97);
  check_same_for_threads([&] { return umap(x, few); });
  CHECK(umap(x, few).to_vector() != umap(x, {.neighbours = 10, .epochs = 100, .seed = 1}).to_vector());
}

TEST_CASE("UMAP: the curve of the published defaults, memberships that add up", "[metrics]") {
  const auto [a, b] = detail::umap_curve(0.1, 1);
  CHECK(a == Approx(1.577).epsilon(1e-3));
  CHECK(b == Approx(0.8951).epsilon(1e-3));
  const float distance[] = {1, 1.5f, 2, 4};
  float weight[4];
  detail::umap_memberships(distance, 4, weight);
  CHECK(weight[0] == 1);
  CHECK(weight[0] + weight[1] + weight[2] + weight[3] == Approx(std::log2(5.0)).epsilon(1e-4));
}

TEST_CASE("t-SNE and UMAP: equal points work, bad input is named", "[metrics]") {
  const auto same = Tensor<float>::full({20, 3}, 2.0f);
  for (const auto& map :
       {tsne(same, {.perplexity = 3, .iterations = 50}).points, umap(same, {.neighbours = 5, .epochs = 20})})
    for (const float v : map.span()) CHECK(std::isfinite(v));

  auto x = clusters(1, 20, 3, 1);
  CHECK_THROWS_WITH(tsne(x), Catch::Contains("t-SNE: 20 points are too few") && Catch::Contains("91"));
  CHECK_THROWS_WITH(tsne(x, {.perplexity = 1}), Catch::Contains("perplexity 1"));
  CHECK_THROWS_WITH(tsne(Tensor<float>::zeros({5001, 1})), Catch::Contains("up to 5000"));
  CHECK_THROWS_WITH(umap(x, {.neighbours = 20}), Catch::Contains("UMAP: 20 points are too few"));
  CHECK_THROWS_WITH(umap(x, {.min_dist = 4}), Catch::Contains("min_dist 4"));
  CHECK_THROWS_WITH(umap(Tensor<float>::zeros({4})), Catch::Contains("needs points [n, d]"));
  x.data()[7] = NAN;
  CHECK_THROWS_WITH(tsne(x, {.perplexity = 3}), Catch::Contains("value 1 of point 2"));
}
