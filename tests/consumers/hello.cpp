// The smallest program that needs headers, flags and libraries: threads, vector loops and tensors.
#include <m3i/core.hpp>

#include <cstdio>

int main() {
  m3i::Random random(7);
  const m3i::Tensor<float> x = m3i::uniform_tensor<float>({2, 3}, random);
  m3i::parallel_for(x.size(), [&](m3i::Index i) { x.data()[i] += 1; });
  for (const float v : x.span())
    if (!(v >= 1 && v < 2)) return 1;
  std::printf("m3i: a tensor of shape %s on %s\n", x.shape().text().c_str(), x.device().text().c_str());
}
