/// Code of docs/1-tensors.md.

#include "../catch.hpp"

#include "m3i/autodiff/gradcheck.hpp"
#include "m3i/kernels/for_each.hpp"
#include "m3i/kernels/for_rows.hpp"
#include "m3i/kernels/math.hpp"
#include "m3i/kernels/reduce.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

// [functor]
/// y_i = x_i / (1 + |x_i|)
struct SoftsignEach {
  const float* x;
  float* y;
  M3I_HD void operator()(Index i) const { y[i] = x[i] / (1 + math::abs(x[i])); }
};

/// Divides each row of n numbers by its sum.
struct NormaliseRow {
  const float* x;
  float* y;
  Index n;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const float* in = x + row * n;
    float* out = y + row * n;
    const float total = team.sum(n, [=](Index i) { return in[i]; });  // a phase: ends in a barrier
    team.each(n, [=](Index i) { out[i] = in[i] / total; });           // a phase: touches element i only
  }
};
// [functor]

TEST_CASE("docs: functors run on every device", "[docs]") {
  const auto positive = [](Device device) { return Tensor<float>::from({1, 3, 2, 2, 5, 3}, {2, 3}, device); };
  // [skeletons]
  const Device device = Device::emulated();  // or Device::cpu(), Device::cuda()
  const Tensor<float> x = positive(device);
  const Tensor<float> y(x.shape(), device), shares(x.shape(), device);
  for_each(device, x.size(), SoftsignEach{x.data(), y.data()});
  for_rows(device, 2, NormaliseRow{x.data(), shares.data(), 3});
  // [skeletons]
  CHECK(y.data()[0] == Approx(0.5));
  CHECK(shares.data()[1] == Approx(0.5));
  CHECK(shares.data()[4] == Approx(0.5));
}

TEST_CASE("docs: tensors between devices and vectors", "[docs]") {
  // [devices]
  const auto host = Tensor<float>::from({1, 2, 3, 4}, {2, 2});
  const Tensor<float> there = host.to(Device::emulated());  // a copy, unless it is there already
  const std::vector<float> values = there.to_vector();      // always in host memory
  const float last = there[1][1].item();                    // one number
  // [devices]
  CHECK(values == std::vector<float>{1, 2, 3, 4});
  CHECK(last == 4);
  CHECK_FALSE(there.shares_memory_with(host));
}

TEST_CASE("docs: random numbers are a function of seed, stream and index", "[docs]") {
  // [random]
  Random random(42);
  const double first = random.uniform(), second = random.uniform();
  Random noise = random.split(1);  // a stream of its own: drawing from it changes nothing elsewhere
  const Tensor<float> field = normal_tensor<float>({2, 3}, noise);
  Random again(42, random.stream, 1);  // jump: value number 1 of the same stream
  // [random]
  CHECK(first != second);
  CHECK(again.uniform() == second);
  Random noise_again = Random(42).split(1);
  CHECK(normal_tensor<float>({2, 3}, noise_again).to_vector() == field.to_vector());
}
