// The smallest useful program: trains a linear layer. Its compile time is part of the benchmark.
#include <cstdio>

#include "m3i/m3i.hpp"

int main() {
  using namespace m3i;
  const Linear<float> layer(3, 1);
  Sgd<float> sgd(parameters<float>(layer), {.lr = 0.1});
  Random random(1);
  const Var<float> x(normal_tensor<float>({32, 3}, random));
  for (int step = 0; step < 100; ++step) {
    clear_gradients(parameters<float>(layer));
    const auto loss = mse_loss(layer(x), sum(x, 1, true));
    backward(loss);
    sgd.step();
    if (step % 20 == 0) std::printf("step %d loss %.5f\n", step, double(loss.value().item()));
  }
}
