#pragma once
/// gradcheck(): gradients against central differences, in double.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "m3i/autodiff/backward.hpp"
#include "m3i/core/random.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// The worst disagreement found: which input and element, both values.
struct GradReport {
  double worst = 0;  ///< relative error
  int input = -1;
  Index element = -1;
  double analytic = 0, numeric = 0;
  std::string text() const {
    return m3i::text("relative error ", worst, " at input ", input, " element ", element, ": gradient ", analytic,
                     ", differences ", numeric);
  }
};

struct GradcheckOptions {
  double step = 1e-5;           ///< of the central difference, times max(1, |x|)
  Index elements = 64;          ///< checked in each input, drawn with a fixed seed
  std::vector<bool> skip = {};  ///< inputs that are not differentiated
};

/// The weight of output element i in the scalar that is differentiated: sin(i + 1), as the golden files use.
inline double probe_weight(Index i) { return std::sin(double(i + 1)); }

namespace detail {
template <class F>
double probe(const F& f, const std::vector<Var<double>>& inputs) {
  NoGrad guard;
  const std::vector<double> y = f(inputs).value().to_vector();
  double total = 0;
  for (std::size_t i = 0; i < y.size(); ++i) total += y[i] * probe_weight(Index(i));
  return total;
}
inline Tensor<double> probe_weights(const Shape& shape, Device device) {
  std::vector<double> w(static_cast<std::size_t>(shape.size()));
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = probe_weight(Index(i));
  return Tensor<double>::from(w, shape, device);
}
}  // namespace detail

/// Checks f: vector of Var<double> -> Var<double> at the given inputs, through the scalar sum_i sin(i + 1) f_i.
///
/// The error of an element is |analytic - numeric| relative to the larger of the two, to 1 % of the largest gradient of
/// that input, and to 1e-9: absolute smallness excuses rounding, it never certifies a pass for the whole input.
/// A correct operation stays below 1e-6. Choose inputs away from kinks.
template <class F>
GradReport gradcheck(const F& f, const std::vector<Tensor<double>>& inputs, const GradcheckOptions& options = {}) {
  const auto skipped = [&](std::size_t k) { return k < options.skip.size() && options.skip[k]; };
  std::vector<Var<double>> vars;
  for (std::size_t k = 0; k < inputs.size(); ++k) vars.emplace_back(inputs[k].clone(), !skipped(k));
  const Var<double> y = f(vars);
  backward(y, detail::probe_weights(y.shape(), y.device()));

  GradReport report;
  Random random(7);
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    if (skipped(k) || inputs[k].size() == 0) continue;
    const std::vector<double> analytic = vars[k].grad().to_vector();
    double largest = 0;
    for (const double g : analytic) largest = std::max(largest, std::abs(g));
    std::vector<double> x = inputs[k].to_vector();
    std::vector<Index> order = random.permutation(Index(x.size()));
    order.resize(std::size_t(std::min(options.elements, Index(x.size()))));
    for (const Index e : order) {
      const auto i = std::size_t(e);
      const double centre = x[i], h = options.step * std::max(1.0, std::abs(centre));
      const auto at = [&](double value) {
        x[i] = value;
        std::vector<Var<double>> moved = vars;
        moved[k] = Var<double>(Tensor<double>::from(x, inputs[k].shape(), inputs[k].device()));
        return detail::probe(f, moved);
      };
      const double above = at(centre + h), below = at(centre - h);
      x[i] = centre;
      const double numeric = (above - below) / ((centre + h) - (centre - h));
      const double scale = std::max({std::abs(analytic[i]), std::abs(numeric), 0.01 * largest, 1e-9});
      const double difference = std::abs(analytic[i] - numeric) / scale;
      // Infinite, not NaN: a comparison with NaN is false, and the next element would take its place.
      const double error = std::isnan(difference) ? std::numeric_limits<double>::infinity() : difference;
      if (error > report.worst) report = {error, int(k), e, analytic[i], numeric};
    }
  }
  return report;
}

}  // namespace M3I_ABI
}  // namespace m3i
