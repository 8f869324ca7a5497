// The mPOT loss of one pair and its gradients, as one JSON line; bench/peers/mpot.py does the same with POT and
// autograd.
//
//     mpot_step [b = 256] [d = 512] [--device cpu]

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>

#include "m3i/autodiff/backward.hpp"
#include "m3i/ot/mpot_loss.hpp"

namespace {
using namespace m3i;

Tensor<double> wave(Index b, Index d, double phase) {
  const Tensor<double> x({b, d});
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = std::sin(0.7 * double(i) * 1.618 + phase);
  return x;
}
}  // namespace

int main(int argc, char** argv) try {
  const bool elsewhere = argc >= 3 && std::string(argv[argc - 2]) == "--device";
  const Device device = elsewhere ? Device::parse(argv[argc - 1]) : Device::cpu();
  if (elsewhere) argc -= 2;
  const Index b = argc > 1 ? std::max(2L, std::atol(argv[1])) : 256,
              d = argc > 2 ? std::max(1L, std::atol(argv[2])) : 512;
  const Tensor<double> x_host = wave(b, d, 0.1);
  const Var<double> x(x_host.to(device), true), metric(identity_metric<double>(d).to(device), true);
  const Tensor<double> y = wave(b, d, 2.3);
  for (Index i = 0; i < y.size(); ++i) y.data()[i] = x_host.data()[i] + 0.8 * y.data()[i];
  const std::vector<Var<double>> targets{Var<double>(y.to(device))};
  double best = std::numeric_limits<double>::infinity(), loss = 0;
  Index iterations = 0;
  for (int run = 0; run < 5; ++run) {
    x.clear_grad();
    metric.clear_grad();
    synchronize(device);
    const auto start = std::chrono::steady_clock::now();
    const auto result = mpot_loss(x, targets, metric, {.mass = 0.95, .epsilon = 0.05});
    backward(result.loss);
    synchronize(device);
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    loss = result.loss.value().item();
    iterations = result.pairs()[0].iterations;
  }
  std::printf(
      "{\"work\": \"mPOT loss and gradients, b = %ld, d = %ld\", \"device\": \"%s\", \"step_s\": %.5f, \"loss\": %.9g, "
      "\"iterations\": %ld, \"threads\": %d}\n",
      long(b), long(d), device.text().c_str(), best, loss, long(iterations), thread_count());
} catch (const m3i::Error& error) {
  std::fprintf(stderr, "mpot_step: %s\n", error.what());
  return 1;
}
