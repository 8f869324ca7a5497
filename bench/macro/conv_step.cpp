// One 3 x 3 x 3 convolution, 32 to 32 channels at SIZE^3, forward and both gradients, as one JSON line.
// bench/peers/conv3d.py does the same in PyTorch, whose CPU convolutions are oneDNN's.
//
//     conv_step [SIZE = 64] [CHANNELS = 32] [--device cpu] [--dtype f32|bf16|f16] [--batch 1]

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "timing.hpp"

#include "m3i/kernels/conv3d.hpp"
#include "m3i/testing.hpp"

namespace {
using namespace m3i;

template <class T>
void measure(Index batch, Index n, Index c, Device device, const std::string& dtype) {
  const auto wave = [&](const Shape& shape) { return cast<T>(testing::wave<float>(shape)).to(device); };
  const Tensor<T> x = wave({batch, n, n, n, c}), w = wave({c, 3, 3, 3, c}), dy = wave({batch, n, n, n, c});
  Conv3dSpec spec;
  spec.padding = {1, 1, 1};
  const auto seconds = [device](const auto& work) { return bench::fastest(device, work); };
  const Tensor<T> dx = Tensor<T>::zeros(x.shape(), device), dw = Tensor<T>::zeros(w.shape(), device);
  const double forward = seconds([&] { conv3d_forward(x, w, Tensor<T>(), spec); });
  const double back_x = seconds([&] { conv3d_input_grad(dy, w, dx, spec); });
  const double back_w = seconds([&] { conv3d_weight_grad(x, dy, dw, spec); });
  const double flop = 2.0 * 27 * double(c * c) * double(batch * n * n * n);
  std::printf(
      "{\"work\": \"conv3d 3x3x3 %ld to %ld channels, %ld^3%s%s\", \"device\": \"%s\", \"forward_s\": %.5g, "
      "\"input_gradient_s\": %.5g, \"weight_gradient_s\": %.5g, \"step_s\": %.5g, \"gflops\": %.1f, "
      "\"threads\": %d}\n",
      long(c), long(c), long(n), batch == 1 ? "" : text(", batch ", batch).c_str(),
      dtype == "f32" ? "" : text(", ", dtype).c_str(), device.text().c_str(), forward, back_x, back_w,
      forward + back_x + back_w, 3 * flop / (forward + back_x + back_w) * 1e-9, thread_count());
}
}  // namespace

int main(int argc, char** argv) {
  std::string device = "cpu", dtype = "f32";
  Index batch = 1;
  std::vector<Index> sizes;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&] { return i + 1 < argc ? argv[++i] : "0"; };
    if (word == "--device") device = value();
    else if (word == "--dtype") dtype = value();
    else if (word == "--batch") batch = std::max(1L, std::atol(value()));
    else sizes.push_back(std::max(1L, std::atol(word.c_str())));
  }
  const Index n = sizes.size() > 0 ? sizes[0] : 64, c = sizes.size() > 1 ? sizes[1] : 32;
  try {
    const Device d = Device::parse(device);
    if (dtype == "f32") measure<float>(batch, n, c, d, dtype);
    else if (dtype == "bf16") measure<bf16>(batch, n, c, d, dtype);
    else if (dtype == "f16") measure<m3i::half>(batch, n, c, d, dtype);
    else fail<ConfigError>("--dtype: ", dtype, " is not f32, bf16 or f16");
  } catch (const Error& error) {
    std::fprintf(stderr, "conv_step: %s\n", error.what());
    return 1;
  }
}
