// What a device does a second in the kernels that networks wait for, as JSON lines: a copy, pointwise and row
// operations against it, matrix products of nnFormer at 128^3 and a large one, window attention of its first two
// stages.
//
//     device_rates [--device cpu|cuda] [--dtype f32|bf16|f16|f64]
//
// `fraction` is of the copy's bandwidth for what waits for memory, of the large product's rate ("peak") for attention.
// On a GPU a product is set against the fastest of the algorithms that cuBLASLt proposes for it, each timed. In f64
// there is the large product alone. bench/peers/kernels.py times the rest in PyTorch.

#include <algorithm>
#include <cstdio>
#include <string>

#include "timing.hpp"

#include "m3i/autodiff/backward.hpp"
#include "m3i/kernels/gemm.hpp"
#include "m3i/ops/linear.hpp"
#include "m3i/ops/norm.hpp"
#include "m3i/ops/pointwise.hpp"
#include "m3i/ops/window.hpp"

namespace {
using namespace m3i;

using bench::fastest, bench::noise;

template <class T>
struct Copy {
  const T* from;
  T* to;
  M3I_HD void operator()(Index i) const { to[i] = from[i]; }
};

template <class T>
struct Rates {
  Device device;
  std::string dtype;
  double copy = 0, peak = 0;  ///< bytes/s, read and written, and FLOP/s of the large product

  void print(const std::string& work, double seconds, double rate, const char* unit, double against) const {
    std::printf("{\"work\": \"%s\", \"device\": \"%s\", \"dtype\": \"%s\", \"seconds\": %.3g, \"rate\": %.4g, ",
                work.c_str(), device.text().c_str(), dtype.c_str(), seconds, rate);
    std::printf("\"unit\": \"%s\", \"fraction\": %.3g, \"threads\": %d}\n", unit, rate / against, thread_count());
    std::fflush(stdout);
  }

  void memory() {
    const Index rows = device.on_host() ? 1 << 16 : 1 << 19, cols = 192, n = rows * cols;
    const Tensor<T> x = noise<T>({rows, cols}, device), y(x.shape(), device);
    const double bytes = 2 * double(x.bytes());
    double s = fastest(device, [&] { for_each(device, n, Copy<T>{x.data(), y.data()}); });
    if (!device.on_host()) s = std::min(s, fastest(device, [&] { y.copy_from(x); }));  // CUDA's own
    copy = bytes / s;
    print("copy", s, copy * 1e-9, "GB/s", copy * 1e-9);
    const NoGrad guard;
    const Var<T> v(x), gain(noise<T>({cols}, device)), bias(noise<T>({cols}, device, 1));
    s = fastest(device, [&] { gelu(v); });
    print("gelu", s, bytes / s * 1e-9, "GB/s", copy * 1e-9);
    s = fastest(device, [&] { layer_norm(v, gain, bias); });
    print("layer norm of 192", s, bytes / s * 1e-9, "GB/s", copy * 1e-9);
  }

  /// y = x w^T + b; returns FLOP/s.
  double product(Index m, Index n, Index k) const {
    const Tensor<T> x = noise<T>({m, k}, device), w = noise<T>({n, k}, device), bias = noise<T>({n}, device);
    const Tensor<T> y({m, n}, device);
    const double s = fastest(device, [&] {
      gemm<T>(device, false, true, m, n, k, 1, x.data(), k, w.data(), k, 0, y.data(), n, bias.data());
    });
    double best = s;
#if M3I_CUDA
    if (!device.on_host()) {
      const DeviceGuard guard(device);
      const detail::GemmProblem<T> p{false, true, m, n, k, 1, x.data(), k, w.data(), k, 0, y.data(), n, bias.data()};
      detail::CublasLtCase<T> product(1, p, 0, 0, 0);
      for (const auto& algorithm : product.choose(detail::cublas_handle(device), p, 16)) {
        try {
          best = std::min(best, fastest(device, [&] { product.run(device, algorithm, p); }));
        } catch (const DeviceError& error) {  // a proposal that does not run costs no other row
          std::fprintf(stderr, "device_rates: %s\n", error.what());
        }
      }
    }
#endif
    const double flop = 2 * double(m * n * k);
    print(text("linear ", m, " x ", n, " x ", k, " with bias"), s, flop / s * 1e-9, "GFLOP/s", flop / best * 1e-9);
    return flop / s;
  }

  void attention(Index batch, Index grid, Index channels, Index heads, Index window, Index shift) const {
    const Var<T> qkv(noise<T>({batch, grid, grid, grid, 3 * channels}, device), true);
    const Index offsets = 2 * window - 1;
    const Var<T> table(noise<T>({offsets * offsets * offsets, heads}, device), true);
    WindowSpec spec;
    spec.heads = heads;
    spec.window = {window, window, window};
    spec.shift = {shift, shift, shift};
    const Tensor<T> dy = noise<T>({batch, grid, grid, grid, channels}, device);
    const double s = fastest(device, [&] {
      qkv.clear_grad();
      table.clear_grad();
      backward(window_attention(qkv, table, spec), dy);
    });
    // Two products forward and, with what is computed again, five backward.
    const double tokens = double(batch * grid * grid * grid), reach = double(window * window * window);
    const double flop = 7 * 2 * tokens * reach * double(channels);
    print(text("window attention and gradients, ", batch, " of ", grid, "^3 x ", channels, ", windows ", window, "^3",
               shift ? " shifted" : ""),
          s, flop / s * 1e-9, "GFLOP/s", peak * 1e-9);
  }

  void large_product() {
    const Index n = device.on_host() ? 1024 : 8192;
    peak = product(n, n, n);
  }

  void all() {
    const Index batch = device.on_host() ? 1 : 4;
    memory();
    product(batch * 32768, 384, 96);
    product(batch * 32768, 96, 384);
    product(batch * 4096, 768, 192);
    large_product();
    attention(batch, 32, 96, 3, 4, 0);
    attention(batch, 32, 96, 3, 4, 2);
    attention(batch, 16, 192, 6, 4, 2);
  }
};
}  // namespace

int main(int argc, char** argv) {
  std::string device = "cpu", dtype = "f32";
  for (int i = 1; i + 1 < argc; i += 2) (std::string(argv[i]) == "--device" ? device : dtype) = argv[i + 1];
  try {
    const Device d = Device::parse(device);
    if (dtype == "f32") Rates<float>{d, dtype}.all();
    else if (dtype == "bf16") Rates<bf16>{d, dtype}.all();
    else if (dtype == "f16") Rates<m3i::half>{d, dtype}.all();
    else if (dtype == "f64") Rates<double>{d, dtype}.large_product();
    else fail<ConfigError>("--dtype: ", dtype, " is not f32, bf16, f16 or f64");
  } catch (const Error& error) {
    std::fprintf(stderr, "device_rates: %s\n", error.what());
    return 1;
  }
}
