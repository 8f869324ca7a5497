/// The mPOT loss and what keeps its metric positive, in every type on every device.

#include "../good.hpp"

#include "m3i/ot/mpot_loss.hpp"
#include "m3i/ot/psd.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {
/// Longer sums than those of a single operation.
void as_on_the_host(const testing::OpReport& report) { good(report, 1e-5, 1e-10, 1e-10); }
/// A symmetric matrix with eigenvalues of both signs, or with enough on its diagonal a positive one.
template <class T>
Tensor<T> metric(Index d, float diagonal, Device device) {
  std::vector<float> m = testing::wave<float>({d, d}).to_vector();
  for (Index i = 0; i < d; ++i)
    for (Index j = 0; j <= i; ++j) {
      const auto a = std::size_t(i * d + j), b = std::size_t(j * d + i);
      m[a] = m[b] = (m[a] + m[b]) / 2 + (i == j ? diagonal : 0);
    }
  return cast<T>(Tensor<float>::from(m, {d, d})).to(device);
}
}  // namespace

TEST_CASE("mpot_loss: gradient, precisions and devices agree", "[ot]") {
  const Index b = 5, d = 7;
  const std::vector<Tensor<float>> inputs{testing::wave<float>({b, d}), testing::wave<float>({b, d}, 1),
                                          testing::wave<float>({b, d}, 2), metric<float>(d, 6, Device::cpu())};
  for (const double mass : {0.7, 0.95})
    as_on_the_host(testing::check_inputs(
        [&](const auto& v) { return mpot_loss(v[0], v[1], v[2], v[3], {.mass = mass, .epsilon = 0.2}).loss; },
        {inputs}));
}

TEST_CASE("project_psd, project_metric, identity_metric: precisions and devices agree", "[ot]") {
  as_on_the_host(testing::check_devices("project_psd", [](auto type, Device device) {
    const auto m = metric<decltype(type)>(9, 0, device);
    project_psd(m, 0.1);
    return std::vector{m};
  }));
  as_on_the_host(testing::check_devices("project_metric", [](auto type, Device device) {
    const auto full = metric<decltype(type)>(9, 0, device);
    project_metric(full, Metric::full, {.unit_trace = true});
    const auto diagonal = cast<decltype(type)>(testing::wave<float>({9})).to(device);
    project_metric(diagonal, Metric::diagonal, {.floor = 0.1});
    return std::vector{full, diagonal};
  }));
  as_on_the_host(testing::check_devices("identity_metric", [](auto type, Device device) {
    return std::vector{identity_metric<decltype(type)>(3, device)};
  }));
}
