#pragma once
/// run.cuda_graph: forward and backward of a training step, recorded at the first step and replayed from then on.

#include <functional>
#include <optional>
#include <utility>

#include "m3i/core/cuda_graph.hpp"
#include "m3i/dist/communicator.hpp"
#include "m3i/train/method_config.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Throws ConfigError, before anything is computed, where steps cannot be recorded: what changes from one step to the
/// next must be the numbers in the step's input, and nothing else.
inline void require_recordable(const RunConfig& run, const Communicator& ranks) {
  if (!run.cuda_graph) return;
  require<ConfigError>(ranks.size() == 1, "run.cuda_graph: ", ranks.size(),
                       " ranks exchange their gradients through the host; turn it off, or use one process");
}

/// What a step computes, without its optimiser: it reads tensors that live as long as the step and are filled before
/// each call, clears the gradients, and leaves results in tensors. See CudaGraph for what it may not do.
class RecordedStep {
 public:
  RecordedStep(const RunConfig& run, std::function<void()> compute)
      : recorded_(run.cuda_graph), device_(Device::parse(run.device)), compute_(std::move(compute)) {}

  /// `setting` stands for whatever else the step depends on (what learns, the loss scale): another one records anew.
  void operator()(Index setting = 0) {
    if (!recorded_) return compute_();
    if (!graph_ || setting != setting_) {
      graph_.reset();  // before the next one asks for memory
      graph_.emplace(device_, compute_);
      setting_ = setting;
    }
    graph_->replay();
  }
  /// Puts a value where the step reads it: a recorded step reads the same memory each time.
  template <class X>
  void give(Tensor<X>& place, const Tensor<X>& value) const {
    if (!recorded_) {
      place = value;
    } else if (!place.defined()) {
      place = value.clone();
    } else {
      require(place.shape() == value.shape(), "run.cuda_graph: a recorded step takes ", place.shape(),
              " each time, got ", value.shape());
      place.copy_from(value);
    }
  }

 private:
  bool recorded_;
  Device device_;
  std::function<void()> compute_;
  std::optional<CudaGraph> graph_;
  Index setting_ = 0;
};

}  // namespace M3I_ABI
}  // namespace m3i
