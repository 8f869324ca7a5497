// Tensors: dense, row-major, shared. What is a view, what is a copy, what an error says.

#include <cstdio>

#include "m3i/core.hpp"
#include "m3i/kernels/gather.hpp"

using namespace m3i;

static void show(const char* what, const Tensor<float>& t) {
  std::printf("%-22s %-9s", what, t.shape().text().c_str());
  for (const float v : t.to_vector()) std::printf(" %g", double(v));
  std::printf("\n");
}

int main() {
  // [make]
  const auto x = Tensor<float>::from({1, 2, 3, 4, 5, 6}, {2, 3});  // row-major: the last axis is contiguous
  const auto zeros = Tensor<float>::zeros({2, 2});
  Random random(1);  // a seed; the same numbers for any number of threads
  const auto noise = normal_tensor<float>({3}, random);
  // [make]
  show("x", x);
  show("zeros", zeros);
  show("noise", noise);

  // [views]
  const auto row = x[1];             // the leading axis is dropped: a view
  const auto flat = x.reshape({6});  // another shape for the same memory: a view
  const auto copy = x.clone();       // new memory
  row.data()[0] = 40;                // seen through x and flat, not through copy
  // [views]
  show("x[1]", row);
  show("x as [6]", flat);
  show("the copy", copy);
  std::printf("flat shares memory with x: %s, copy: %s\n", flat.shares_memory_with(x) ? "yes" : "no",
              copy.shares_memory_with(x) ? "yes" : "no");

  // [types]
  const auto third = Tensor<float>::from({1.0f / 3}, {1});
  const auto as_half = cast<float>(cast<half>(third)), as_bf16 = cast<float>(cast<bf16>(third));
  // [types]
  std::printf("1/3 as float %.7f, half %.7f, bf16 %.7f\n", double(third.item()), double(as_half.item()),
              double(as_bf16.item()));

  // [memory]
  memory_reset_peak();
  { const Tensor<float> volume({1, 128, 128, 128, 1}); }  // 8 MiB, returned to the pool at the brace
  const MemoryStats stats = memory_stats();
  // [memory]
  std::printf("largest so far %.1f MiB, now %.1f MiB\n", double(stats.peak) / 0x1p20, double(stats.live) / 0x1p20);

  try {
    x.reshape({4, 2});
  } catch (const ShapeError& e) {
    std::printf("ShapeError: %s\n", e.what());
  }
}
