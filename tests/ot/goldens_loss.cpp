/// Embeddings and metric to loss and gradients, and the projection, against reference values.

#include <set>

#include "../catch.hpp"

#include "golden_files.hpp"
#include "m3i/autodiff/backward.hpp"
#include "m3i/ot/mpot_loss.hpp"
#include "m3i/ot/psd.hpp"

using namespace m3i;
using golden::distance, golden::json, golden::largest;

namespace {

double relative(const Tensor<double>& a, const Tensor<double>& b) { return distance(a, b) / largest(b); }
double relative(double a, double b) { return std::abs(a - b) / std::abs(b); }

MpotOptions options_of(const json& c, Metric metric) {
  MpotOptions o{.mass = c.at("s"), .epsilon = c.at("eps")};
  o.cost.metric = metric;
  o.cost.l2_normalize = c.at("l2");
  o.cost.scale = c.at("norm") == "max" ? CostScale::max : CostScale::none;
  return o;
}

template <class T>
Var<T> leaf(const Tensor<double>& x) {
  return Var<T>(cast<T>(x).clone(), true);
}

template <class T>
void check_gradient(const char* name, const Var<T>& x, const Tensor<double>& expected, double tolerance) {
  INFO(name);
  CHECK(relative(cast<double>(x.grad()), expected) <= tolerance);
}

template <class T>
void check_loss(const SafeTensors& file, const json& c, double loss_tolerance, double gradient_tolerance) {
  const auto get = [&](const char* name) { return golden::tensor(file, c, name); };
  const Var<T> x = leaf<T>(get("X")), s = leaf<T>(get("S")), t = leaf<T>(get("T")), m = leaf<T>(get("M"));
  const MpotOptions options = options_of(c, Metric::full);
  const auto result = mpot_loss(x, s, t, m, options);
  CHECK(relative(double(result.loss.value().item()), c.at("loss_kl")) <= loss_tolerance);
  const auto pairs = result.pairs();
  CHECK(pairs.size() == 2);
  for (const MpotPair& pair : pairs) CHECK(pair.converged);
  CHECK(relative(pairs[0].loss, c.at("loss_XS")) <= loss_tolerance);
  CHECK(relative(pairs[1].loss, c.at("loss_XT")) <= loss_tolerance);
  backward(result.loss);
  check_gradient("X", x, get("dL_dX"), gradient_tolerance);
  check_gradient("S", s, get("dL_dS"), gradient_tolerance);
  check_gradient("T", t, get("dL_dT"), gradient_tolerance);
  check_gradient("M", m, get("dL_dM"), gradient_tolerance);

  const Var<T> factor = leaf<T>(get("L_factor"));
  const auto again =
      mpot_loss(leaf<T>(get("X")), leaf<T>(get("S")), leaf<T>(get("T")), factor, options_of(c, Metric::factor));
  CHECK(relative(double(again.loss.value().item()), c.at("loss_kl")) <= loss_tolerance);
  backward(again.loss);
  check_gradient("L", factor, get("dL_dLfactor"), gradient_tolerance);
}

/// Calls check(file, case) for every case of the manifests whose first case has `field`.
template <class Check>
void for_each_case(const char* field, const Check& check) {
  Index cases = 0;
  for (const auto& manifest : golden::manifests()) {
    if (!golden::has_cases_with(manifest, field) || manifest.tensors_path.empty()) continue;
    const SafeTensors file(manifest.tensors_path);
    for (const json& c : manifest.content.at("cases")) {
      INFO(manifest.name << " " << c.at("key"));
      check(file, c);
      ++cases;
    }
  }
  if (cases == 0)
    WARN("no golden cases with \"" << field << "\" under \"" << golden::folder() << "\"; set M3I_GOLDENS. Skipped.");
}

}  // namespace

TEST_CASE("goldens: loss and gradients from embeddings and metric", "[ot][golden]") {
  for_each_case("noise", [](const SafeTensors& file, const json& c) {
    check_loss<double>(file, c, 1e-9, 1e-7);
    check_loss<float>(file, c, 5e-6, 1e-3);
  });
}

TEST_CASE("goldens: costs, plans and cost gradients of each pair", "[ot][golden]") {
  for_each_case("noise", [](const SafeTensors& file, const json& c) {
    const auto get = [&](const std::string& name) { return golden::tensor(file, c, name); };
    const MpotOptions options = options_of(c, Metric::full);
    for (const std::string pair : {"XS", "XT"}) {
      INFO(pair);
      const PairwiseCost cost = pairwise_cost(get("X"), get(pair.substr(1)), get("M"), options.cost);
      CHECK(distance(cost.cost, get("C_" + pair)) <= 1e-13 * largest(cost.cost));
      const OtResult result = solve_partial_ot({.cost = cost.cost, .mass = options.mass, .epsilon = options.epsilon});
      CHECK(distance(result.plan(), get("plan_" + pair)) <= 1e-10);
      const Index b = c.at("b");
      CHECK(relative(ot_implicit_gradient(result, ot_identity_target(b, b)), get("dL_dC_" + pair)) <= 1e-7);
    }
  });
}

TEST_CASE("goldens: a step on the metric, projected", "[ot][golden]") {
  for_each_case("eig_min_before_projection", [](const SafeTensors& file, const json& c) {
    const Tensor<double> m = golden::tensor(file, c, "M").clone(), gradient = golden::tensor(file, c, "dL_dM");
    for (Index k = 0; k < m.size(); ++k) m.data()[k] -= double(c.at("step")) * gradient.data()[k];
    const PsdProjection done = project_psd(m);
    CHECK(done.inside == (double(c.at("eig_min_before_projection")) > 0));
    CHECK(relative(m, golden::tensor(file, c, "M_after_step")) <= 1e-12);
  });
}

TEST_CASE("goldens: the projection onto the positive semidefinite matrices", "[ot][golden]") {
  for_each_case("eig_min", [](const SafeTensors& file, const json& c) {
    const Tensor<double> a = golden::tensor(file, c, "A"), expected = golden::tensor(file, c, "projected");
    const double norm = std::max(largest(a), 1e-300);
    const Tensor<double> m = a.clone();
    project_psd(m);
    CHECK(distance(m, expected) <= 1e-12 * norm);
    const Index d = m.shape()[0];
    std::vector<double> values(static_cast<std::size_t>(d)), vectors(static_cast<std::size_t>(d * d));
    REQUIRE(symmetric_eigen(d, m.data(), values.data(), vectors.data()));
    CHECK(values.front() > -1e-13 * norm);
    for (Index i = 0; i < d; ++i)
      for (Index j = 0; j < i; ++j) REQUIRE(m.data()[i * d + j] == m.data()[j * d + i]);
    const Tensor<double> again = m.clone();
    project_psd(again);
    CHECK(distance(again, m) <= 1e-12 * norm);
  });
}

TEST_CASE("goldens: every manifest is of a kind that is tested", "[ot][golden]") {
  for (const auto& manifest : golden::manifests()) {
    bool known = false;
    for (const char* field : {"mass", "noise", "eig_min", "expect"}) known |= golden::has_cases_with(manifest, field);
    if (!known) WARN("skipped: " << manifest.name << " (no cases of a known kind)");
  }
}
