#pragma once
/// A piece of work that is recorded once and replayed: the GPU then gets its hundreds of launches as one.

#include <functional>
#include <optional>
#include <utility>

#include "m3i/core/memory.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Runs `step` a few times to warm up, records it, and does the same again at every replay(). On the host, where a
/// launch costs nothing, replay() calls it, and there is nothing to warm up.
///
/// A recorded step does exactly what it did: the same shapes, the same addresses, the same numbers. So
///   - new input is copied into tensors that the step reads (Tensor::copy_from), results are tensors that it wrote;
///   - the step clears the gradients that it adds up, and nobody else does: their memory is the graph's;
///   - what changes from step to step stays outside: the optimiser's update, which is one launch in any case, with its
///     learning rate and step number; drop path and dropout draw new numbers from a ReplayedRandom;
///   - nothing inside waits for the device: no item(), no to_vector(), no transport problem of more than 128 pairs,
///     which the host solves. CUDA refuses these, and the constructor throws DeviceError;
///   - what operations copy from the host (index tables, constants; up to 16 MiB) is kept and copied at every replay.
/// Memory that is asked for in the step belongs to the graph until it ends, tensors that outlive the step included.
class CudaGraph {
 public:
  CudaGraph(Device device, std::function<void()> step, int warm_up = 3)
      : device_(device), step_(std::move(step)), memory_(device) {
    require<ConfigError>(warm_up >= 1, "CUDA graph: ", warm_up, " runs to warm up, expected 1 or more");
    if (device.on_host()) return;
#if M3I_CUDA
    record(warm_up);
#else
    fail<DeviceError>("CUDA graph: ", device, " needs a build with M3I_CUDA=ON");
#endif
  }
  ~CudaGraph() {
#if M3I_CUDA
    if (!graph_) return;
    int before = 0;
    cudaGetDevice(&before);
    cudaSetDevice(device_.number);
    cudaStreamSynchronize(current_stream());  // it may still be running
    cudaGraphExecDestroy(graph_);
    cudaSetDevice(before);
#endif
  }
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;

  /// The step once more, in the current stream.
  void replay() const {
#if M3I_CUDA
    if (graph_) {
      DeviceGuard guard(device_);
      check_cuda(cudaGraphLaunch(graph_, current_stream()), "CUDA graph");
      return;
    }
#endif
    step_();
  }

 private:
#if M3I_CUDA
  /// Makes a stream the current one for a scope.
  class StreamGuard {
   public:
    explicit StreamGuard(cudaStream_t stream) : before_(std::exchange(current_stream(), stream)) {}
    ~StreamGuard() { current_stream() = before_; }
    StreamGuard(const StreamGuard&) = delete;
    StreamGuard& operator=(const StreamGuard&) = delete;

   private:
    cudaStream_t before_;
  };

  void record(int warm_up) {
    DeviceGuard device_guard(device_);
    synchronize(device_);              // the step may read what the current stream is still writing
    const CudaStream stream(device_);  // the default stream cannot be recorded
    const StreamGuard stream_guard(stream);
    const MemorySet::Use use(memory_);
    host_.emplace(std::size_t(16) << 20);
    for (int i = 0; i < warm_up; ++i) step_();  // fills the set with blocks, makes handles and plans
    synchronize(device_);
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "CUDA graph");
    detail::recorded_host_memory() = {static_cast<std::byte*>(host_->data()), host_->bytes()};
    cudaGraph_t recorded = nullptr;
    try {
      step_();
    } catch (...) {
      detail::recorded_host_memory() = {};
      cudaStreamEndCapture(stream, &recorded);
      if (recorded) cudaGraphDestroy(recorded);
      cudaGetLastError();
      throw;
    }
    detail::recorded_host_memory() = {};
    check_cuda(cudaStreamEndCapture(stream, &recorded), "CUDA graph");
    const cudaError_t status = cudaGraphInstantiate(&graph_, recorded, 0);
    cudaGraphDestroy(recorded);
    check_cuda(status, "CUDA graph");
  }

  std::optional<PinnedMemory> host_;  ///< what the graph copies from
  cudaGraphExec_t graph_ = nullptr;
#endif
  Device device_;
  std::function<void()> step_;
  MemorySet memory_;  // destroyed first: by then the graph has ended
};

}  // namespace M3I_ABI
}  // namespace m3i
