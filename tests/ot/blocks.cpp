/// Problems that one block of threads solves: on the emulated device, and on a GPU where there is one, as on the host.

#include <array>
#include <cmath>

#include "catch.hpp"
#include "devices.hpp"
#include "m3i/ot/mpot_loss.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {

Tensor<double> embeddings(Index b, Index d, std::uint64_t seed) {
  Random random(seed);
  return normal_tensor<double>({b, d}, random);
}

/// Loss, report and gradients of one setting on a device.
struct Outcome {
  double loss = 0;
  std::vector<MpotPair> pairs;
  std::vector<Tensor<double>> gradients;
};
Outcome outcome(Device device, const std::vector<Tensor<double>>& values, const MpotOptions& options) {
  std::vector<Var<double>> v;
  for (const auto& value : values) v.emplace_back(value.clone().to(device), true);
  const auto result = mpot_loss(v[0], {v[1], v[2]}, v.size() > 3 ? v[3] : Var<double>(), options);
  backward(result.loss);
  Outcome out{result.loss.value().item(), result.pairs(), {}};
  for (const auto& x : v) out.gradients.push_back(x.grad().to(Device::cpu()));
  return out;
}

void compare(const std::vector<Tensor<double>>& values, const MpotOptions& options) {
  const Outcome host = outcome(Device::cpu(), values, options);
  for (const Device device : other_devices()) {
    const Outcome found = outcome(device, values, options);
    INFO(device.text() << ", b " << values[0].shape()[0] << ", mass " << options.mass << ", epsilon " << options.epsilon
                       << ": " << found.pairs[0].text() << "; host: " << host.pairs[0].text());
    CHECK(found.loss == Approx(host.loss).epsilon(1e-9));
    for (std::size_t k = 0; k < host.pairs.size(); ++k) {
      const MpotPair &a = found.pairs[k], &b = host.pairs[k];
      CHECK(a.converged == b.converged);
      CHECK(a.degenerate == b.degenerate);
      CHECK(a.active_rows == b.active_rows);
      CHECK(a.active_cols == b.active_cols);
      CHECK(a.diagonal_mass == Approx(b.diagonal_mass).epsilon(1e-9).margin(1e-12));
      CHECK(a.excess == Approx(b.excess).epsilon(1e-9).margin(1e-9));
      CHECK(testing::relative_difference(a.plan, b.plan) < 1e-9);
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
      double largest = 1e-5, worst = 0;  // coinciding rows leave nothing but rounding of a gradient
      for (Index k = 0; k < values[i].size(); ++k) {
        const double a = found.gradients[i].data()[k], b = host.gradients[i].data()[k];
        largest = std::max(largest, std::abs(b));
        worst = std::isnan(a) ? a : std::max(worst, std::abs(a - b));
      }
      CHECK(worst < 1e-7 * largest);
    }
  }
}

}  // namespace

TEST_CASE("mpot_loss in blocks: batches, masses and epsilons give the host's losses, plans and gradients", "[ot]") {
  for (const Index b : {1, 2, 4, 16, 37})
    for (const double mass : {0.3, 0.8, 0.95, 1.0})
      for (const double epsilon : {0.01, 0.05, 0.5})
        compare({embeddings(b, 6, 1), embeddings(b, 6, 2), embeddings(b, 6, 3), identity_metric<double>(6)},
                {.mass = mass, .epsilon = epsilon});
}

TEST_CASE("mpot_loss in blocks: a full block", "[ot]") {
  for (const Index b : {64, 128})
    for (const double mass : {0.8, 1.0})
      compare({embeddings(b, 16, 1), embeddings(b, 16, 2), embeddings(b, 16, 3), identity_metric<double>(16)},
              {.mass = mass, .epsilon = 0.05});
}

TEST_CASE("mpot_loss in blocks: metrics, scales, losses", "[ot]") {
  const Index b = 9, d = 5;
  const std::vector<Tensor<double>> rows{embeddings(b, d, 1), embeddings(b, d, 2), embeddings(b, d, 3)};
  const std::vector<std::pair<Metric, Tensor<double>>> metrics{
      {Metric::full, identity_metric<double>(d)},
      {Metric::factor, embeddings(3, d, 4)},
      {Metric::diagonal, Tensor<double>::from(std::vector<double>{1, 2, 3, 4, 5}, {d})},
      {Metric::euclidean, {}}};
  for (const auto& [metric, value] : metrics)
    for (const CostScale scale : {CostScale::max, CostScale::none})
      for (const bool normalize : {true, false})
        for (const OtLoss loss : {OtLoss::kl, OtLoss::generalised, OtLoss::cross_entropy}) {
          std::vector<Tensor<double>> values = rows;
          if (value.defined()) values.push_back(value);
          MpotOptions options{.mass = 0.9, .epsilon = 0.2};
          options.cost = {.metric = metric, .scale = scale, .l2_normalize = normalize};
          options.loss = loss;
          compare(values, options);
        }
}

TEST_CASE("mpot_loss in blocks: ties and coinciding rows", "[ot]") {
  const Tensor<double> same = Tensor<double>::full({4, 3}, 0.5);
  compare({same, same, embeddings(4, 3, 1), identity_metric<double>(3)}, {});
  const auto x = embeddings(6, 4, 1);
  for (Index k = 0; k < 4; ++k) x.data()[4 + k] = x.data()[k];  // two volumes with the same row
  compare({x, x, x, identity_metric<double>(4)}, {.mass = 0.7, .epsilon = 0.1});
}

TEST_CASE("mpot_loss in blocks: what is wrong with the values makes the loss NaN", "[ot]") {
  const auto good = embeddings(4, 3, 1);
  const auto infinite = good.clone(), zero = good.clone();
  infinite.data()[5] = std::numeric_limits<double>::infinity();
  for (Index k = 0; k < 3; ++k) zero.data()[k] = 0;
  const auto negative = identity_metric<double>(3);
  negative.data()[0] = -5;
  for (const Device device : other_devices())
    for (const auto& [x, metric] : std::vector<std::pair<Tensor<double>, Tensor<double>>>{
             {infinite, identity_metric<double>(3)}, {zero, identity_metric<double>(3)}, {good, negative}}) {
      const Var<double> v(x.clone().to(device), true), m(metric.clone().to(device), true);
      const auto result = mpot_loss(v, std::vector<Var<double>>{Var<double>(embeddings(4, 3, 2).to(device))}, m);
      CHECK(std::isnan(result.loss.value().item()));
      CHECK_FALSE(result.pairs()[0].converged);
    }
  const Var<double> v(good.to(Device::emulated())), y(embeddings(4, 3, 2).to(Device::emulated()));
  MpotOptions options;
  options.cost.metric = Metric::euclidean;
  const auto refused = [&](double mass, double epsilon) {
    options.mass = mass, options.epsilon = epsilon;
    try {
      mpot_loss(v, std::vector<Var<double>>{y}, {}, options);
    } catch (const OtError& error) {
      return error.category;
    }
    return std::string();
  };
  CHECK(refused(1.1, 0.1) == "infeasible_mass");
  CHECK(refused(0, 0.1) == "invalid_mass");
  CHECK(refused(0.5, -1) == "invalid_epsilon");
}
