#include <cmath>
#include <cstdio>

#include "m3i/autodiff.hpp"
#include "m3i/nn.hpp"
#include "m3i/ops/loss.hpp"
#include "m3i/optim.hpp"
using namespace m3i;

int main() {  // learns which points of the plane lie inside the unit circle
  Random random(7);
  const auto points = normal_tensor<float>({512, 2}, random);
  std::vector<std::int64_t> inside;
  for (Index i = 0; i < 512; ++i) inside.push_back(std::hypot(points[i].data()[0], points[i].data()[1]) < 1);
  const auto labels = Tensor<std::int64_t>::from(inside, {512});

  const Mlp<float> network(2, 32, 2);  // 2 coordinates, 32 hidden units, 2 classes
  Adam<float> adam(parameters<float>(network), {.lr = 0.02});
  for (int step = 0; step <= 200; ++step) {
    const Var<float> loss = cross_entropy(network(Var<float>(points)), labels);
    if (step % 50 == 0) std::printf("step %3d  loss %.3f\n", step, double(loss.value().item()));
    clear_gradients(parameters<float>(network));
    backward(loss);
    adam.step();
  }
}
