#pragma once
// One training step, or inference alone: what network_step, pretrain_step and scaling time, and its arithmetic.

#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "timing.hpp"

#include "m3i/autodiff/backward.hpp"
#include "m3i/autodiff/observer.hpp"
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

struct StepOptions {
  bool infer = false;   ///< forward alone
  bool record = false;  ///< record forward and backward once and replay them; their time is then in `forward`
  Index steps = 3;
  std::function<void()> after_update = [] {};  ///< belongs to the update
};

/// loss(), backward and Adam on what is learned; the network that loss() runs may compute in copies of it.
template <class Loss>
StepTimes measure_step(Device device,
                       const Loss& loss,
                       const std::vector<Var<float>>& learned,
                       const MixedPrecision& mixed,
                       const StepOptions& options) {
  std::optional<Adam<float>> adam;  // its moments take twice the memory of the parameters
  if (!options.infer) adam.emplace(learned, AdamOptions{.lr = 1e-4});
  StepTimes best;
  best.forward = std::numeric_limits<double>::infinity();
  const auto elapsed = [device](auto& start) {
    synchronize(device);
    return seconds_since(std::exchange(start, std::chrono::steady_clock::now()));
  };
  Var<float> value;
  std::optional<CudaGraph> graph;
  if (options.record)
    graph.emplace(device, [&] {
      clear_gradients(learned);
      value = loss();
      backward(value);
      mixed.collect();
    });
  for (Index step = 0; step < options.steps; ++step) {
    const Index blocks = memory_stats(device).system_allocations;
    StepTimes now;
    auto start = std::chrono::steady_clock::now();
    if (options.infer) {
      NoGrad guard;
      now.loss = double(loss().value().item());
      now.forward = elapsed(start);
    } else {
      if (graph) {
        graph->replay();
        now.forward = elapsed(start);
      } else {
        clear_gradients(learned);
        value = loss();
        now.forward = elapsed(start);
        backward(value);
        mixed.collect();
        now.back = elapsed(start);
      }
      adam->step();
      mixed.refresh();
      options.after_update();
      now.update = elapsed(start);
      now.loss = double(value.value().item());
      if (!graph) value = Var<float>();
    }
    now.new_blocks = memory_stats(device).system_allocations - blocks;
    const bool faster = now.step() < best.step();
    if (faster) best = now;
    best.loss = now.loss, best.new_blocks = now.new_blocks;
  }
  return best;
}
/// Of a network in float that restores its input.
template <class Network>
StepTimes measure_step(const Network& net, const Var<float>& x, bool infer, Index steps) {
  return measure_step(x.device(), [&] { return mse_loss(net(x), x); }, parameters<float>(net), MixedPrecision(),
                      {.infer = infer, .steps = steps});
}

/// Multiplications and additions of an operation's forward pass, where they are many; 0 for what only moves memory.
inline double flop_of(const std::string& name, const std::vector<Shape>& in, const Shape& out) {
  const auto size = [](const Shape& s) { return double(s.size()); };
  if (name == "linear") return 2 * size(out) * double(in[1][1]);
  if (name == "matmul") return 2 * size(out) * double(in[0][-1]);
  if (name == "conv3d") return 2 * size(out) * size(in[1]) / double(in[1][0]);
  if (name == "conv_transpose3d") return 2 * size(in[0]) * size(in[1]) / double(in[1][0]);
  if (name == "attention") return 4 * size(out) * double(in[1][1]);
  if (name == "window_attention") {  // the last input is the bias table, [(2 window - 1)^3, heads]
    const double window = (std::cbrt(double(in.back()[0])) + 1) / 2;
    return 4 * size(out) * window * window * window;
  }
  return 0;
}

/// The arithmetic of one call of loss(), forward.
template <class Loss>
double forward_flop(const Loss& loss) {
  struct Count : TapeObserver {
    double flop = 0;
    void forward(const char* name, const std::vector<Shape>& in, const Shape& out, const void*) override {
      flop += flop_of(name, in, out);
    }
    void before_backward(const void*) override {}
    void after_backward(const void*) override {}
  } count;
  const NoGrad guard;
  const WatchTape watch(count);
  loss();
  return count.flop;
}

}  // namespace m3i::bench
