// One 3 x 3 x 3 convolution at SIZE^3 with padding 1, forward and both gradients, as a JSON line.
// bench/peers/conv3d.py does the same in PyTorch, whose CPU convolutions are oneDNN's.
//
//     conv_step [SIZE = 64] [CHANNELS = 32] [OUT = CHANNELS] [STRIDE = 1] [--device cpu] [--dtype f32|bf16|f16]
//               [--batch 1] [--implicit]
//
// --implicit adds a line for a GPU's kernels for where cuDNN has none (kernels/conv3d_implicit.hpp).

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "timing.hpp"

#include "m3i/kernels/conv3d.hpp"

namespace {
using namespace m3i;

template <class T>
void measure(
    Index batch, Index n, Index c, Index out, Index stride, Device device, const std::string& dtype, bool implicit) {
  const Index m = (n - 1) / stride + 1;
  const auto x = bench::noise<T>({batch, n, n, n, c}, device), w = bench::noise<T>({out, 3, 3, 3, c}, device, 1),
             dy = bench::noise<T>({batch, m, m, m, out}, device, 2);
  Conv3dSpec spec;
  spec.padding = {1, 1, 1};
  spec.stride = {stride, stride, stride};
  const auto seconds = [device](const auto& work) { return bench::fastest(device, work); };
  const Tensor<T> dx = Tensor<T>::zeros(x.shape(), device), dw = Tensor<T>::zeros(w.shape(), device);
  const Conv3dGeometry g = conv3d_geometry("conv_step", x.shape(), w.shape(), spec);
  const Tensor<T> y(dy.shape(), device);
  const double forward = seconds([&] {
    if (implicit) detail::conv3d_implicit_forward<T>(device, g, x.data(), w.data(), nullptr, y.data());
    else conv3d_forward(x, w, Tensor<T>(), spec);
  });
  const double back_x = seconds([&] {
    if (implicit) detail::conv3d_implicit_input_grad(device, g, dy.data(), w.data(), dx.data());
    else conv3d_input_grad(dy, w, dx, spec);
  });
  const double back_w = seconds([&] {
    if (implicit) detail::conv3d_implicit_weight_grad(device, g, x.data(), dy.data(), dw.data());
    else conv3d_weight_grad(x, dy, dw, spec);
  });
  const double flop = 2.0 * 27 * double(c * out) * double(batch * m * m * m);
  std::printf(
      "{\"work\": \"conv3d 3x3x3 %ld to %ld channels, %ld^3%s%s%s%s\", \"device\": \"%s\", \"forward_s\": %.5g, "
      "\"input_gradient_s\": %.5g, \"weight_gradient_s\": %.5g, \"step_s\": %.5g, \"gflops\": %.1f, "
      "\"peak_tensors_mib\": %ld, \"threads\": %d}\n",
      long(c), long(out), long(n), stride == 1 ? "" : text(", stride ", stride).c_str(),
      batch == 1 ? "" : text(", batch ", batch).c_str(), dtype == "f32" ? "" : text(", ", dtype).c_str(),
      implicit ? ", implicit" : "", device.text().c_str(), forward, back_x, back_w, forward + back_x + back_w,
      3 * flop / (forward + back_x + back_w) * 1e-9, long(memory_stats(device).peak >> 20), thread_count());
  std::fflush(stdout);
}
}  // namespace

int main(int argc, char** argv) {
  std::string device = "cpu", dtype = "f32";
  Index batch = 1;
  bool implicit = false;
  std::vector<Index> sizes;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&] { return i + 1 < argc ? argv[++i] : "0"; };
    if (word == "--device") device = value();
    else if (word == "--dtype") dtype = value();
    else if (word == "--batch") batch = std::max(1L, std::atol(value()));
    else if (word == "--implicit") implicit = true;
    else sizes.push_back(std::max(1L, std::atol(word.c_str())));
  }
  const Index n = sizes.size() > 0 ? sizes[0] : 64, c = sizes.size() > 1 ? sizes[1] : 32;
  const Index out = sizes.size() > 2 ? sizes[2] : c, stride = sizes.size() > 3 ? sizes[3] : 1;
  try {
    const Device d = Device::parse(device);
    require(!implicit || d.kind != Device::Kind::cpu, "--implicit: the host has its own products; give a --device");
    for (const bool without_cudnn : implicit ? std::vector{false, true} : std::vector{false})
      if (dtype == "f32") measure<float>(batch, n, c, out, stride, d, dtype, without_cudnn);
      else if (dtype == "bf16") measure<bf16>(batch, n, c, out, stride, d, dtype, without_cudnn);
      else if (dtype == "f16") measure<m3i::half>(batch, n, c, out, stride, d, dtype, without_cudnn);
      else fail<ConfigError>("--dtype: ", dtype, " is not f32, bf16 or f16");
  } catch (const Error& error) {
    std::fprintf(stderr, "conv_step: %s\n", error.what());
    return 1;
  }
}
