#pragma once
/// UMAP with exact neighbours. McInnes, Healy and Melville 2018, arXiv:1802.03426.

#include <map>

#include "m3i/metrics/projection.hpp"

namespace m3i {
inline namespace M3I_ABI {

struct UmapOptions {
  Index neighbours = 15;              ///< the point itself counts, as in the authors' program
  double min_dist = 0.1, spread = 1;  ///< how close points may lie in the map, and the size of a cluster
  Index epochs = 0;                   ///< 0: 500 up to 10000 points, 200 above
  Index negatives = 5;                ///< points to be pushed away, for each one pulled
  double learning_rate = 1;
  std::uint64_t seed = 0;
};

namespace detail {

/// a, b of 1 / (1 + a x^(2 b)), the curve nearest to the wished one: 1 up to min_dist, then exp(-(x - min_dist) /
/// spread). Least squares on 300 points of [0, 3 spread] by Levenberg and Marquardt.
inline std::pair<double, double> umap_curve(double min_dist, double spread) {
  double a = 1, b = 1, damping = 1e-3;
  const auto residuals = [&](double a_, double b_, double(*normal)[5]) {
    double squares = 0;
    if (normal) std::fill_n(*normal, 5, 0.0);
    for (int i = 1; i < 300; ++i) {  // x = 0 is met by every curve
      const double x = 3 * spread * i / 299, power = std::pow(x, 2 * b_), value = 1 / (1 + a_ * power);
      const double wanted = x < min_dist ? 1 : std::exp(-(x - min_dist) / spread), r = value - wanted;
      squares += r * r;
      if (!normal) continue;
      const double da = -power * value * value, db = -2 * a_ * power * std::log(x) * value * value;
      const double terms[5] = {da * da, da * db, db * db, da * r, db * r};
      for (int k = 0; k < 5; ++k) (*normal)[k] += terms[k];
    }
    return squares;
  };
  for (int step = 0; step < 200; ++step) {
    double m[5];
    const double before = residuals(a, b, &m);
    const double p = m[0] * (1 + damping), q = m[2] * (1 + damping), det = p * q - m[1] * m[1];
    const double next_a = a - (q * m[3] - m[1] * m[4]) / det, next_b = b - (p * m[4] - m[1] * m[3]) / det;
    const bool better = next_a > 0 && next_b > 0 && residuals(next_a, next_b, nullptr) < before;
    if (better && std::abs(next_a - a) + std::abs(next_b - b) < 1e-12) break;
    if (better) a = next_a, b = next_b;
    damping = better ? damping / 3 : damping * 4;
    if (damping > 1e12) break;
  }
  return {a, b};
}

/// Memberships of one point's neighbours: exp(-(d - rho) / sigma), rho the distance to the nearest that is not the same
/// point, sigma such that they add up to log2(neighbours).
inline void umap_memberships(const float* distance, Index k, float* weight) {
  double rho = 0, mean = 0;
  for (Index m = k; m-- > 0;) {
    mean += double(distance[m]) / double(k);
    if (distance[m] > 0) rho = double(distance[m]);
  }
  const double wanted = std::log2(double(k + 1));
  double low = 0, high = HUGE_VAL, sigma = 1;
  for (int step = 0; step < 64; ++step) {
    double total = 0;
    for (Index m = 0; m < k; ++m) total += std::exp(-std::max(0.0, double(distance[m]) - rho) / sigma);
    if (std::abs(total - wanted) < 1e-5) break;
    if (total > wanted) high = sigma;
    else low = sigma;
    sigma = high == HUGE_VAL ? 2 * sigma : (low + high) / 2;
  }
  sigma = std::max(sigma, 1e-3 * mean);
  for (Index m = 0; m < k; ++m)
    weight[m] = sigma > 0 ? float(std::exp(-std::max(0.0, double(distance[m]) - rho) / sigma)) : 1.0f;
}

struct UmapEdge {
  Index from, to;
  double weight;
};

/// The fuzzy union of all neighbourhoods, both directions of each pair, in a fixed order.
inline std::vector<UmapEdge> umap_graph(const NearestNeighbours& near, Index n) {
  std::vector<float> weight(near.distance.size());
  parallel_chunks(n, 64, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i)
      umap_memberships(near.distance.data() + i * near.k, near.k, weight.data() + i * near.k);
  });
  std::map<std::pair<Index, Index>, std::pair<double, double>> pairs;  // (smaller, larger) -> the two directions
  for (Index i = 0; i < n; ++i)
    for (Index m = 0; m < near.k; ++m) {
      const Index j = near.index[std::size_t(i * near.k + m)];
      auto& both = pairs[{std::min(i, j), std::max(i, j)}];
      (i < j ? both.first : both.second) = double(weight[std::size_t(i * near.k + m)]);
    }
  std::vector<UmapEdge> edges;
  for (const auto& [ends, w] : pairs) {
    const double joined = w.first + w.second - w.first * w.second;
    edges.push_back({ends.first, ends.second, joined});
    edges.push_back({ends.second, ends.first, joined});
  }
  return edges;
}

inline double clipped(double v) { return std::clamp(v, -4.0, 4.0); }

}  // namespace detail

/// A map of points in the plane that keeps neighbourhoods, and more of the distances between clusters than t-SNE.
///
///   x    [n, d]; neighbours are found exactly, O(n^2 d)
///   ->   [n, 2]
///
/// The layout is optimised by one thread in a fixed order: the same seed gives the same bits. Throws ConfigError for
/// options out of range or too few points, NumericError for values that are not finite.
inline Tensor<float> umap(const Tensor<float>& x, const UmapOptions& o = {}) {
  require<ConfigError>(o.neighbours >= 3, "UMAP: neighbours ", o.neighbours, ", expected 3 or more");
  require<ConfigError>(o.spread > 0 && o.min_dist >= 0 && o.min_dist < 3 * o.spread, "UMAP: min_dist ", o.min_dist,
                       " and spread ", o.spread, "; expected 0 <= min_dist < 3 spread");
  require<ConfigError>(o.epochs >= 0 && o.negatives >= 0 && o.learning_rate > 0, "UMAP: epochs ", o.epochs,
                       ", negatives ", o.negatives, ", learning rate ", o.learning_rate,
                       "; expected at least 0, 0 and more than 0");
  detail::require_points("UMAP", x, o.neighbours + 1);
  const Index n = x.shape()[0], epochs = o.epochs > 0 ? o.epochs : n <= 10000 ? 500 : 200;
  auto edges = detail::umap_graph(nearest_neighbours(detail::centred_points(x), o.neighbours - 1), n);
  double strongest = 0;
  for (const auto& e : edges) strongest = std::max(strongest, e.weight);
  // An edge is drawn in weight / strongest of the epochs; what would not be drawn once is left out.
  std::erase_if(edges, [&](const detail::UmapEdge& e) { return e.weight * double(epochs) < strongest; });

  const auto [a, b] = detail::umap_curve(o.min_dist, o.spread);
  const Tensor<float> start = principal_components(x, 2);
  double largest = 0;
  for (const float v : start.span()) largest = std::max(largest, std::abs(double(v)));
  Random random(o.seed, 0x756d6170);
  std::vector<double> y(std::size_t(2 * n));
  for (std::size_t k = 0; k < y.size(); ++k)
    y[k] = (largest > 0 ? 10 * double(start.data()[k]) / largest : 0) + 1e-4 * random.normal();

  std::vector<double> due(edges.size()), negatives_due(edges.size());  // the epoch of the next draw
  for (std::size_t e = 0; e < edges.size(); ++e) {
    due[e] = strongest / edges[e].weight;
    negatives_due[e] = due[e] / double(std::max<Index>(1, o.negatives));
  }
  for (Index epoch = 0; epoch < epochs; ++epoch) {
    const double rate = o.learning_rate * (1 - double(epoch) / double(epochs));
    for (std::size_t e = 0; e < edges.size(); ++e) {
      if (due[e] > double(epoch)) continue;
      const double every = strongest / edges[e].weight;
      double* from = y.data() + 2 * edges[e].from;
      double* to = y.data() + 2 * edges[e].to;
      const double d0 = from[0] - to[0], d1 = from[1] - to[1], squared = d0 * d0 + d1 * d1;
      if (squared > 0) {
        const double power = std::pow(squared, b), pull = -2 * a * b * power / squared / (1 + a * power);
        const double step[2] = {rate * detail::clipped(pull * d0), rate * detail::clipped(pull * d1)};
        for (int k = 0; k < 2; ++k) from[k] += step[k], to[k] -= step[k];
      }
      due[e] += every;
      if (o.negatives == 0) continue;
      const double negative_every = every / double(o.negatives);
      const Index draws = std::max<Index>(0, Index((double(epoch) - negatives_due[e]) / negative_every) + 1);
      for (Index m = 0; m < draws; ++m) {
        const Index other = random.below(n);
        if (other == edges[e].from) continue;
        const double e0 = from[0] - y[std::size_t(2 * other)], e1 = from[1] - y[std::size_t(2 * other + 1)];
        const double away = e0 * e0 + e1 * e1;
        if (away == 0) {  // the same place: any direction will do
          from[0] += rate * 4 * random.uniform(-1, 1), from[1] += rate * 4 * random.uniform(-1, 1);
          continue;
        }
        const double push = 2 * b / ((0.001 + away) * (1 + a * std::pow(away, b)));
        from[0] += rate * detail::clipped(push * e0), from[1] += rate * detail::clipped(push * e1);
      }
      negatives_due[e] += double(draws) * negative_every;
    }
  }
  const Tensor<float> out({n, 2});
  for (std::size_t k = 0; k < y.size(); ++k) out.data()[k] = float(y[k]);
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
