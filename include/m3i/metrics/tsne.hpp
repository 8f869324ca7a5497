#pragma once
/// t-SNE, exact. van der Maaten and Hinton 2008, "Visualizing data using t-SNE", JMLR 9.

#include "m3i/metrics/projection.hpp"

namespace m3i {
inline namespace M3I_ABI {

struct TsneOptions {
  double perplexity = 30;  ///< how many neighbours a point has, so to say; at most (n - 1) / 3
  Index iterations = 1000;
  double exaggeration = 12;  ///< factor on the attraction in the first `exaggerated` iterations
  Index exaggerated = 250;
  double learning_rate = 0;  ///< 0: n / exaggeration / 4, at least 50 (Belkina et al. 2019)
  static constexpr Index most_points = 5000;
};

namespace detail {

/// Row i of the affinities p(j | i): the width of its Gaussian is found by bisection so that the entropy of the row is
/// log(perplexity). `distances` [n], squared; the result adds up to 1.
inline void tsne_row(const float* distances, Index i, Index n, double perplexity, float* p) {
  const double wanted = std::log(perplexity);
  double smallest = HUGE_VAL;
  for (Index j = 0; j < n; ++j)
    if (j != i) smallest = std::min(smallest, double(distances[j]));
  double beta = 1, low = 0, high = HUGE_VAL, mass = 0;
  for (int step = 0; step < 200; ++step) {
    double weighted = 0;
    mass = 0;
    for (Index j = 0; j < n; ++j) {
      const double away = double(distances[j]) - smallest, w = j == i ? 0 : std::exp(-beta * away);
      p[j] = float(w);
      mass += w;
      weighted += w * away;
    }
    const double entropy = std::log(mass) + beta * weighted / mass;
    if (std::abs(entropy - wanted) < 1e-6) break;
    if (entropy > wanted) low = beta;
    else high = beta;
    const double next = high == HUGE_VAL ? 2 * beta : (low + high) / 2;
    if (next == beta || next > 1e30) break;  // equal distances: every width gives the same row
    beta = next;
  }
  for (Index j = 0; j < n; ++j) p[j] = float(double(p[j]) / mass);
}

/// Symmetric affinities [n, n] of x, which add up to 1.
inline Tensor<float> tsne_affinities(const Tensor<float>& x, double perplexity) {
  const Index n = x.shape()[0], d = x.shape()[1];
  const Tensor<float> rows({n, n}), p({n, n});
  parallel_chunks(n, 8, [&](Index begin, Index end) {
    std::vector<float> distances(static_cast<std::size_t>(n));
    for (Index i = begin; i < end; ++i) {
      for (Index j = 0; j < n; ++j) distances[std::size_t(j)] = squared_distance(x.data() + i * d, x.data() + j * d, d);
      tsne_row(distances.data(), i, n, perplexity, rows.data() + i * n);
    }
  });
  const float scale = 1 / (2 * float(n));
  parallel_chunks(n, 8, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i)
      for (Index j = 0; j < n; ++j) p.data()[i * n + j] = (rows.data()[i * n + j] + rows.data()[j * n + i]) * scale;
  });
  return p;
}

/// What the points at y feel: for each the attraction sum_j p q (y_i - y_j), the repulsion sum_j q^2 (y_i - y_j) and
/// its share of Z = sum of q, q = 1 / (1 + |y_i - y_j|^2).
struct TsneForces {
  std::vector<double> attraction, repulsion, z;  ///< [n, 2], [n, 2], [n]

  explicit TsneForces(Index n) : attraction(std::size_t(2 * n)), repulsion(std::size_t(2 * n)), z(std::size_t(n)) {}

  /// u, v: the coordinates of the points.
  void compute(const Tensor<float>& p, const std::vector<float>& u, const std::vector<float>& v) {
    const Index n = p.shape()[0];
    parallel_chunks(n, 16, [&](Index begin, Index end) {
      const float *M3I_RESTRICT us = u.data(), *M3I_RESTRICT vs = v.data();
      for (Index i = begin; i < end; ++i) {
        const float* M3I_RESTRICT row = p.data() + i * n;
        const float ui = us[i], vi = vs[i];
        float total = 0, au = 0, av = 0, ru = 0, rv = 0;
        M3I_PRAGMA(omp simd reduction(+ : total, au, av, ru, rv))
        for (Index j = 0; j < n; ++j) {
          const float du = ui - us[j], dv = vi - vs[j], q = 1 / (1 + du * du + dv * dv);
          total += q;
          au += row[j] * q * du, av += row[j] * q * dv;
          ru += q * q * du, rv += q * q * dv;
        }
        const auto a = std::size_t(i);
        z[a] = double(total) - 1;  // without j = i
        attraction[2 * a] = double(au), attraction[2 * a + 1] = double(av);
        repulsion[2 * a] = double(ru), repulsion[2 * a + 1] = double(rv);
      }
    });
  }
  double partition() const { return std::accumulate(z.begin(), z.end(), 0.0); }
};

}  // namespace detail

struct TsneResult {
  Tensor<float> points;   ///< [n, 2]
  double divergence = 0;  ///< KL(P || Q), the loss
};

/// A map of points in the plane in which neighbours stay neighbours.
///
///   x    [n, d], n at most 5000: memory is 8 n^2 bytes (200 MB for 5000), each iteration takes O(n^2)
///   ->   points [n, 2], centred, and the loss
///
/// Starts from the principal components, so that no seed is needed; the same points give the same bits for any number
/// of threads. Throws ConfigError for options out of range or too few or many points, NumericError for values that are
/// not finite.
inline TsneResult tsne(const Tensor<float>& x, const TsneOptions& o = {}) {
  require<ConfigError>(o.perplexity >= 2 && std::isfinite(o.perplexity), "t-SNE: perplexity ", o.perplexity,
                       ", expected 2 or more");
  require<ConfigError>(o.iterations >= 1 && o.exaggerated >= 0 && o.exaggeration >= 1 && o.learning_rate >= 0,
                       "t-SNE: iterations ", o.iterations, ", exaggerated ", o.exaggerated, ", exaggeration ",
                       o.exaggeration, ", learning rate ", o.learning_rate, "; expected at least 1, 0, 1 and 0");
  detail::require_points("t-SNE", x, Index(std::ceil(3 * o.perplexity)) + 1);
  const Index n = x.shape()[0];
  require<ConfigError>(n <= TsneOptions::most_points, "t-SNE: ", n, " points; the exact method takes up to ",
                       TsneOptions::most_points, "; take a sample, or umap()");
  const Tensor<float> p = detail::tsne_affinities(detail::centred_points(x), o.perplexity);
  const Tensor<float> start = principal_components(x, 2);
  double spread = 0;
  for (Index i = 0; i < n; ++i) spread += double(start.data()[2 * i]) * double(start.data()[2 * i]) / double(n);
  spread = spread > 0 ? std::sqrt(spread) : 1;
  std::vector<float> y[2];
  for (auto& axis : y) axis.resize(std::size_t(n));
  Random tie(0x74736e65);  // equal points would move as one for ever
  for (Index i = 0; i < n; ++i)
    for (std::size_t a = 0; a < 2; ++a)
      y[a][std::size_t(i)] = float(1e-4 * (double(start.data()[2 * i + Index(a)]) / spread + 1e-3 * tie.normal()));

  const double rate = o.learning_rate > 0 ? o.learning_rate : std::max(50.0, double(n) / o.exaggeration / 4);
  std::vector<double> velocity(std::size_t(2 * n)), gain(std::size_t(2 * n), 1.0);
  detail::TsneForces forces(n);
  for (Index step = 0; step < o.iterations; ++step) {
    const bool early = step < o.exaggerated;
    const double pull = early ? o.exaggeration : 1, momentum = early ? 0.5 : 0.8;
    forces.compute(p, y[0], y[1]);
    const double z = forces.partition();
    double mean[2] = {0, 0};
    for (Index i = 0; i < n; ++i)
      for (std::size_t a = 0; a < 2; ++a) {
        const std::size_t k = 2 * std::size_t(i) + a;
        const double gradient = 4 * (pull * forces.attraction[k] - forces.repulsion[k] / z);
        gain[k] = std::max(0.01, gradient * velocity[k] > 0 ? gain[k] * 0.8 : gain[k] + 0.2);
        velocity[k] = momentum * velocity[k] - rate * gain[k] * gradient;
        y[a][std::size_t(i)] += float(velocity[k]);
        mean[a] += double(y[a][std::size_t(i)]) / double(n);
      }
    for (std::size_t a = 0; a < 2; ++a)
      for (float& v : y[a]) v = float(double(v) - mean[a]);
  }

  TsneResult out{Tensor<float>({n, 2}), 0};
  forces.compute(p, y[0], y[1]);
  const double z = forces.partition();
  for (Index i = 0; i < n; ++i) {
    const float ui = y[0][std::size_t(i)], vi = y[1][std::size_t(i)];
    out.points.data()[2 * i] = ui, out.points.data()[2 * i + 1] = vi;
    for (Index j = 0; j < n; ++j) {
      const double pij = double(p.data()[i * n + j]);
      const double du = double(ui - y[0][std::size_t(j)]), dv = double(vi - y[1][std::size_t(j)]);
      if (pij > 0 && j != i) out.divergence += pij * std::log(pij * z * (1 + du * du + dv * dv));
    }
  }
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
