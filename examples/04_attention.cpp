// Attention: a soft look-up, causal order, windows of a volume, and memory that does not grow with the square.

#include <cmath>
#include <cstdio>

#include "m3i/ops.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

static void show(const char* what, const Tensor<float>& t) {
  std::printf("%-28s", what);
  for (const float v : t.to_vector()) std::printf(" %6.3f", double(v));
  std::printf("\n");
}

int main() {
  // [lookup]
  // Four keys, orthogonal; the value of key i is 10 i. The query is 8 times key 2.
  const Var<float> keys(Tensor<float>::from({1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}, {1, 4, 4}));
  const Var<float> values(Tensor<float>::from({0, 10, 20, 30}, {1, 4, 1}));
  const Var<float> query(Tensor<float>::from({0, 0, 8, 0}, {1, 1, 4}));
  const Var<float> found = attention(query, keys, values);                            // scale 1/sqrt(4): a soft choice
  const Var<float> sharp = attention(query, keys, values, {.heads = 1, .scale = 4});  // nearly a hard one
  // [lookup]
  show("soft look-up of key 2", found.value());
  show("with a larger scale", sharp.value());

  // [causal]
  // Equal scores: each query averages what it may see. Causal order: query i sees keys 0 .. i.
  const Var<float> same(Tensor<float>::zeros({1, 4, 4}));
  const Var<float> all = attention(same, same, values);
  const Var<float> past = attention(same, same, values, {.heads = 1, .causal = true});
  // [causal]
  show("averages over all", all.value());
  show("averages over the past", past.value());

  // [memory]
  const Index length = 2048, heads = 4;
  const Var<float> x(testing::wave<float>({1, length, 64}), true);
  memory_reset_peak();
  const double before = double(memory_stats().live);
  backward(mean(attention(x, x, x, {.heads = heads})));
  const double used = double(memory_stats().peak) - before, scores = double(heads * length * length) * sizeof(float);
  // [memory]
  std::printf(
      "%d tokens, %d heads: the scores alone are %.0f MiB; the tensors of forward and backward took less than %.0f "
      "MiB\n",
      int(length), int(heads), scores / 0x1p20, std::ceil(used / 0x1p20));

  // [window]
  // A 6 x 6 x 6 volume of 8 channels in windows of 3: 8 windows of 27 voxels each, attended to separately.
  const Var<float> qkv(testing::wave<float>({1, 6, 6, 6, 3 * 8}));
  const WindowSpec spec{.heads = 2, .window = {3, 3, 3}, .shift = {1, 1, 1}};
  const Var<float> attended = window_attention(qkv, Var<float>(), spec);
  // [window]
  std::printf("windows of a volume: %s -> %s\n", qkv.shape().text().c_str(), attended.shape().text().c_str());
}
