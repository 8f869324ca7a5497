// One 3 x 3 x 3 convolution, 32 to 32 channels at SIZE^3, forward and both gradients, as one JSON line.
// bench/peers/conv3d.py does the same in PyTorch, whose CPU convolutions are oneDNN's.
//
//     conv_step [SIZE = 64] [CHANNELS = 32]

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "m3i/kernels/conv3d.hpp"
#include "m3i/testing.hpp"

int main(int argc, char** argv) {
  using namespace m3i;
  const Index n = argc > 1 ? std::max(1L, std::atol(argv[1])) : 64,
              c = argc > 2 ? std::max(1L, std::atol(argv[2])) : 32;
  const auto x = testing::wave<float>({1, n, n, n, c}), w = testing::wave<float>({c, 3, 3, 3, c});
  const auto dy = testing::wave<float>({1, n, n, n, c});
  Conv3dSpec spec;
  spec.padding = {1, 1, 1};
  const auto seconds = [](const auto& work) {
    double best = std::numeric_limits<double>::infinity();
    for (int run = 0; run < 7; ++run) {
      const auto start = std::chrono::steady_clock::now();
      work();
      best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return best;
  };
  const Tensor<float> dx(x.shape()), dw(w.shape());
  const double forward = seconds([&] { conv3d_forward(x, w, Tensor<float>(), spec); });
  const double back_x = seconds([&] { conv3d_input_grad(dy, w, dx, spec); });
  const double back_w = seconds([&] { conv3d_weight_grad(x, dy, dw, spec); });
  const double flop = 2.0 * 27 * double(c * c) * double(n * n * n);
  std::printf(
      "{\"work\": \"conv3d 3x3x3 %ld to %ld channels, %ld^3\", \"forward_s\": %.5f, \"input_gradient_s\": %.5f, "
      "\"weight_gradient_s\": %.5f, \"step_s\": %.5f, \"gflops\": %.1f, \"threads\": %d}\n",
      long(c), long(c), long(n), forward, back_x, back_w, forward + back_x + back_w,
      3 * flop / (forward + back_x + back_w) * 1e-9, thread_count());
}
