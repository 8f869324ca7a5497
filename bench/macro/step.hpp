#pragma once
// One training step, or inference alone, of a network: what network_step and scaling time.

#include <limits>
#include <optional>
#include <utility>

#include "timing.hpp"

#include "m3i/autodiff/backward.hpp"
#include "m3i/core/cuda_graph.hpp"
#include "m3i/nn/fields.hpp"
#include "m3i/ops/loss.hpp"
#include "m3i/optim/adam.hpp"
#include "m3i/optim/mixed.hpp"

namespace m3i::bench {

/// Of the fastest step: the first ones also fill the memory pool.
struct StepTimes {
  double forward = 0, back = 0, update = 0, loss = 0;
  Index new_blocks = 0;  ///< allocations of the last step that the pool could not serve
  double step() const { return forward + back + update; }
};

/// Forward, backward and Adam against the input itself, or forward alone. `net` may compute in copies of `learned`.
/// With `record` forward and backward are recorded once and replayed; their time is then in `forward`.
template <class Network>
StepTimes measure_step(const Network& net,
                       const std::vector<Var<float>>& learned,
                       const MixedPrecision& mixed,
                       const Var<float>& x,
                       bool infer,
                       Index steps,
                       bool record = false) {
  const Device device = x.device();
  std::optional<Adam<float>> adam;  // its moments take twice the memory of the parameters
  if (!infer) adam.emplace(learned, AdamOptions{.lr = 1e-4});
  StepTimes best;
  best.forward = std::numeric_limits<double>::infinity();
  const auto elapsed = [device](auto& start) {
    synchronize(device);
    return seconds_since(std::exchange(start, std::chrono::steady_clock::now()));
  };
  Var<float> recorded_loss;
  std::optional<CudaGraph> graph;
  if (record)
    graph.emplace(device, [&] {
      clear_gradients(learned);
      recorded_loss = mse_loss(net(x), x);
      backward(recorded_loss);
      mixed.collect();
    });
  for (Index step = 0; step < steps; ++step) {
    const Index blocks = memory_stats(device).system_allocations;
    StepTimes now;
    auto start = std::chrono::steady_clock::now();
    if (infer) {
      NoGrad guard;
      now.loss = double(mse_loss(net(x), x).value().item());
      now.forward = elapsed(start);
    } else {
      Var<float> loss;
      if (graph) {
        graph->replay();
        now.forward = elapsed(start);
        loss = recorded_loss;
      } else {
        clear_gradients(learned);
        loss = mse_loss(net(x), x);
        now.forward = elapsed(start);
        backward(loss);
        mixed.collect();
        now.back = elapsed(start);
      }
      adam->step();
      mixed.refresh();
      now.update = elapsed(start);
      now.loss = double(loss.value().item());
    }
    now.new_blocks = memory_stats(device).system_allocations - blocks;
    const bool faster = now.step() < best.step();
    if (faster) best = now;
    best.loss = now.loss, best.new_blocks = now.new_blocks;
  }
  return best;
}
template <class Network>
StepTimes measure_step(const Network& net, const Var<float>& x, bool infer, Index steps) {
  return measure_step(net, parameters<float>(net), MixedPrecision(), x, infer, steps);
}

}  // namespace m3i::bench
