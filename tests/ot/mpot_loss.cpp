/// The mPOT loss on the tape: gradients by differences, its properties, training with it, and what it refuses.

#include "../catch.hpp"

#include "m3i/autodiff/gradcheck.hpp"
#include "m3i/core/random.hpp"
#include "m3i/optim/adam.hpp"
#include "m3i/ot/mpot_loss.hpp"
#include "m3i/ot/psd.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {

Tensor<double> embeddings(Index b, Index d, std::uint64_t seed) {
  Random random(seed);
  return normal_tensor<double>({b, d}, random);
}
/// A positive definite matrix.
Tensor<double> random_metric(Index d, std::uint64_t seed) {
  const Tensor<double> a = embeddings(d, d, seed);
  Tensor<double> m = identity_metric<double>(d);
  detail::product(true, false, 1 / double(d), a, a, 0.2, m);
  return m;
}
Tensor<double> metric_for(Metric kind, Index d) {
  if (kind == Metric::full) return random_metric(d, 3);
  if (kind == Metric::factor) return embeddings(3, d, 3);
  Random random(3);
  return uniform_tensor<double>({d}, random, 0.5, 2);
}

/// Worst relative error of the gradients through x, two targets and the metric.
GradReport check(const MpotOptions& options, Index b = 5, Index d = 7) {
  std::vector<Tensor<double>> inputs{embeddings(b, d, 1), embeddings(b, d, 2), embeddings(b, d, 4)};
  if (options.cost.metric != Metric::euclidean) inputs.push_back(metric_for(options.cost.metric, d));
  return gradcheck(
      [&](const std::vector<Var<double>>& v) {
        return mpot_loss(v[0], v[1], v[2], v.size() > 3 ? v[3] : Var<double>(), options).loss;
      },
      inputs);
}

}  // namespace

TEST_CASE("mpot_loss: gradients through embeddings and metric agree with differences", "[ot]") {
  for (const Metric metric : {Metric::full, Metric::factor, Metric::diagonal, Metric::euclidean})
    for (const CostScale scale : {CostScale::max, CostScale::none})
      for (const bool normalize : {true, false})
        for (const double mass : {0.7, 0.95, 1.0}) {
          MpotOptions options{.mass = mass, .epsilon = 0.2};
          options.cost = {.metric = metric, .scale = scale, .l2_normalize = normalize};
          const GradReport report = check(options);
          INFO("metric " << int(metric) << " scale " << int(scale) << " normalize " << normalize << " mass " << mass);
          INFO(report.text());
          CHECK(report.worst < 1e-6);
        }
}

TEST_CASE("mpot_loss: the other losses and the unrolled gradient agree with differences", "[ot]") {
  for (const OtLoss loss : {OtLoss::generalised, OtLoss::cross_entropy}) {
    MpotOptions options{.mass = 0.8, .epsilon = 0.2, .loss = loss};
    CHECK(check(options).worst < 1e-6);
  }
  MpotOptions truncated{.mass = 0.8, .epsilon = 0.2, .gradient = OtGradient::unrolled};
  truncated.solver = {.solver = OtSolver::dykstra, .tolerance = -1, .max_sweeps = 7};
  const GradReport report = check(truncated);
  INFO(report.text());
  CHECK(report.worst < 1e-6);
}

TEST_CASE("mpot_loss: float follows double, and the loss scales its gradient", "[ot]") {
  const Index b = 6, d = 10;
  const Tensor<double> inputs[] = {embeddings(b, d, 1), embeddings(b, d, 2), embeddings(b, d, 4), random_metric(d, 3)};
  std::vector<Var<double>> wide;
  std::vector<Var<float>> narrow;
  for (const auto& t : inputs) {
    narrow.emplace_back(cast<float>(t), true);
    wide.emplace_back(cast<double>(narrow.back().value()), true);
  }
  const auto a = mpot_loss(wide[0], wide[1], wide[2], wide[3]);
  const auto f = mpot_loss(narrow[0], narrow[1], narrow[2], narrow[3]);
  CHECK(double(f.loss.value().item()) == Approx(a.loss.value().item()).epsilon(1e-6));
  backward(a.loss, Tensor<double>::scalar(-2.5));
  backward(f.loss, Tensor<float>::scalar(-2.5f));
  for (std::size_t k = 0; k < 4; ++k) {
    double worst = 0, size = 0;
    for (Index i = 0; i < inputs[k].size(); ++i) {
      worst = std::max(worst, std::abs(wide[k].grad().data()[i] - double(narrow[k].grad().data()[i])));
      size = std::max(size, std::abs(wide[k].grad().data()[i]));
    }
    CHECK(worst <= 1e-6 * size);
  }
}

TEST_CASE("mpot_loss: embeddings on any device give what they give on the host", "[ot]") {
  std::vector<Device> devices{Device::emulated()};
  if (cuda_device_count() > 0) devices.push_back(Device::cuda());
  const Tensor<float> inputs[] = {cast<float>(embeddings(6, 10, 1)), cast<float>(embeddings(6, 10, 2)),
                                  cast<float>(embeddings(6, 10, 4)), cast<float>(random_metric(10, 3))};
  const auto run = [&](Device device) {
    std::vector<Var<float>> v;
    for (const auto& t : inputs) v.emplace_back(t.clone().to(device), true);
    const auto result = mpot_loss(v[0], v[1], v[2], v[3]);
    CHECK(result.loss.device() == device);
    backward(result.loss);
    std::vector<Tensor<float>> values{result.loss.value()};
    for (const auto& x : v) values.push_back(x.grad());
    project_metric(v[3].value(), Metric::full);
    values.push_back(v[3].value());
    return values;
  };
  const auto expected = run(Device::cpu());
  for (const Device device : devices) {
    const auto found = run(device);
    for (std::size_t k = 0; k < found.size(); ++k)
      if (device.on_host()) CHECK(found[k].to_vector() == expected[k].to_vector());
      else CHECK(testing::relative_difference(found[k], expected[k]) < 1e-6);  // a rounding to float may fall elsewhere
  }
}

TEST_CASE("mpot_loss: with scale max the loss ignores the scale of the metric", "[ot]") {
  const Index b = 6, d = 8;
  const Var<double> x(embeddings(b, d, 1)), s(embeddings(b, d, 2)), t(embeddings(b, d, 4));
  const Var<double> m(random_metric(d, 3), true);
  const auto result = mpot_loss(x, s, t, m);
  backward(result.loss);
  double product = 0, size = 0;
  for (Index k = 0; k < m.size(); ++k) {
    product += m.data()[k] * m.grad().data()[k];
    size += std::abs(m.data()[k] * m.grad().data()[k]);
  }
  CHECK(std::abs(product) <= 1e-10 * size);
  CHECK_FALSE(x.has_grad());
  Tensor<double> larger = m.value().clone();
  for (double& v : larger.span()) v *= 9;
  CHECK(mpot_loss(x, s, t, Var<double>(larger)).loss.value().item() ==
        Approx(result.loss.value().item()).epsilon(1e-12));
}

TEST_CASE("mpot_loss: the report holds what the log shows", "[ot]") {
  const Index b = 8;
  const Var<double> x(embeddings(b, 16, 1));
  MpotOptions options{.mass = 0.9, .epsilon = 0.02};
  options.cost.metric = Metric::euclidean;
  const auto result = mpot_loss(x, x, Var<double>(embeddings(b, 16, 2)), {}, options);
  const auto pairs = result.pairs();
  const MpotPair &matched = pairs[0], &other = pairs[1];
  CHECK(matched.converged);
  CHECK(matched.diagonal_mass == Approx(0.9).epsilon(1e-6));
  CHECK(matched.floor == Approx(-std::log(0.9)));
  CHECK(std::abs(matched.excess) <= 1e-6);
  CHECK(other.diagonal_mass < 0.5);
  CHECK(other.excess > 0.1);
  CHECK(other.plan.shape() == Shape{b, b});
  CHECK(other.text().find("converged") != std::string::npos);
}

TEST_CASE("mpot_loss: coinciding embeddings have a loss and no gradient", "[ot]") {
  const Tensor<double> same = Tensor<double>::full({4, 3}, 0.5);
  const Var<double> x(same, true), m(identity_metric<double>(3), true);
  const auto result = mpot_loss(x, std::vector<Var<double>>{Var<double>(same)}, m);
  const MpotPair pair = result.pairs()[0];
  CHECK(pair.degenerate);
  CHECK(pair.converged);
  backward(result.loss);
  for (const double g : x.grad().span()) CHECK(g == 0);
  for (const double g : m.grad().span()) CHECK(g == 0);
}

TEST_CASE("mpot_loss: one sample has the loss -log s and no gradient", "[ot]") {
  const Var<double> x(embeddings(1, 3, 1), true);
  const auto result = mpot_loss(x, std::vector<Var<double>>{Var<double>(embeddings(1, 3, 2))},
                                Var<double>(identity_metric<double>(3)), {.mass = 0.8});
  CHECK(result.loss.value().item() == Approx(-std::log(0.8)));
  backward(result.loss);
  for (const double g : x.grad().span()) CHECK(std::abs(g) <= 1e-12);
}

TEST_CASE("mpot_loss: training on it pairs 16 random embeddings with their own slices and texts", "[ot]") {
  const Index b = 16, d = 32;
  const Var<float> x(cast<float>(embeddings(b, d, 1)), true), metric(identity_metric<float>(d), true);
  const Tensor<float> slices = cast<float>(embeddings(b, d, 2)), texts = cast<float>(embeddings(b, d, 4));
  const MpotOptions options;
  Adam<float> embedding_steps({x}, {.lr = 0.03}), metric_steps({metric}, {.lr = 1e-3});
  std::vector<MpotPair> pairs;
  Index projections = 0;
  for (int step = 0; step < 300; ++step) {
    x.clear_grad();
    metric.clear_grad();
    const auto result = mpot_loss(x, slices, texts, metric, options);
    pairs = result.pairs();
    for (const MpotPair& pair : pairs) REQUIRE(pair.converged);
    backward(result.loss);
    embedding_steps.step();
    metric_steps.step();
    projections += !project_metric(metric.value(), Metric::full).inside;
  }
  INFO(pairs[0].text() << "; " << pairs[1].text() << "; projections " << projections);
  CHECK(pairs[0].diagonal_mass > 0.95 * options.mass);
  CHECK(pairs[1].diagonal_mass > 0.95 * options.mass);
}

TEST_CASE("mpot_loss: what it refuses", "[ot][errors]") {
  const auto category = [](const Tensor<double>& x, const Tensor<double>& y, const Tensor<double>& m,
                           const MpotOptions& options = {}) -> std::string {
    try {
      mpot_loss(Var<double>(x), std::vector<Var<double>>{Var<double>(y)}, Var<double>(m), options);
    } catch (const OtError& e) {
      return e.category;
    }
    return "ok";
  };
  const Tensor<double> x = embeddings(4, 3, 1), y = embeddings(4, 3, 2), eye = identity_metric<double>(3);
  CHECK(category(x, y, eye) == "ok");
  CHECK(category(x, embeddings(5, 3, 2), eye) == "not_square");
  CHECK(category(x, embeddings(4, 2, 2), eye) == "invalid_shape");
  CHECK(category(x, y, identity_metric<double>(2)) == "invalid_shape");
  CHECK(category(x, y, eye, {.mass = 1.2}) == "infeasible_mass");
  CHECK(category(x, y, eye, {.epsilon = -1}) == "invalid_epsilon");
  for (int which = 0; which < 3; ++which) {
    Tensor<double> t[] = {x.clone(), y.clone(), eye.clone()};
    t[which].data()[4] = std::numeric_limits<double>::infinity();
    CHECK(category(t[0], t[1], t[2]) == "non_finite_input");
  }
  Tensor<double> indefinite = eye.clone();
  indefinite.data()[0] = -5;
  CHECK(category(x, y, indefinite) == "not_positive_semidefinite");
  Tensor<double> zero_row = x.clone();
  for (Index k = 0; k < 3; ++k) zero_row.data()[3 + k] = 0;
  CHECK(category(zero_row, y, eye) == "zero_row");
  MpotOptions raw;
  raw.cost.l2_normalize = false;
  CHECK(category(zero_row, y, eye, raw) == "ok");
  CHECK_THROWS_AS(mpot_loss(Var<double>(x), y, y, Var<double>(eye), {.gradient = OtGradient::unrolled}), ConfigError);
}

TEST_CASE("project_metric: factors stay, diagonals are clamped, traces are set", "[ot]") {
  const Tensor<double> factor = embeddings(2, 3, 1), before = factor.clone();
  CHECK(project_metric(factor, Metric::factor).inside);
  for (Index k = 0; k < factor.size(); ++k) CHECK(factor.data()[k] == before.data()[k]);
  const Tensor<float> diagonal = Tensor<float>::from({1.f, -2.f, 3.f}, {3});
  CHECK(project_metric(diagonal, Metric::diagonal).clamped == 1);
  CHECK(diagonal.data()[1] == 0.f);
  project_metric(diagonal, Metric::diagonal, {.unit_trace = true});
  CHECK(diagonal.data()[0] + diagonal.data()[2] == Approx(3));
  const Tensor<double> full = random_metric(4, 2);
  CHECK(project_metric(full, Metric::full, {.unit_trace = true}).inside);
  CHECK(full.data()[0] + full.data()[5] + full.data()[10] + full.data()[15] == Approx(4));
  const Tensor<double> floored = embeddings(5, 5, 7);
  project_psd(floored, 0.25);
  std::vector<double> values(5), vectors(25);
  REQUIRE(symmetric_eigen(5, floored.data(), values.data(), vectors.data()));
  CHECK(values.front() >= 0.25 - 1e-12);
  Tensor<double> bad = random_metric(3, 1);
  bad.data()[2] = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(project_psd(bad), NumericError);
  CHECK_THROWS_AS(project_psd(embeddings(2, 3, 1)), ShapeError);
}
