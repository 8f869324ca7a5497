// A few training steps by m3i::compiled; prints the instruction set that the loader chose, and the loss.
#include <m3i/kernels/instruction_set.hpp>
#include <m3i/m3i.hpp>

#include <cstdio>

int main() {
  using namespace m3i;
  seed_initializer(1);
  Random random(2);
  const Conv3d<float> conv(1, 24, {3, 3, 3}, {1, 1, 1}, {1, 1, 1});
  const Mlp<float> mlp(24, 96);
  auto all = parameters<float>(conv);
  for (const auto& p : parameters<float>(mlp)) all.push_back(p);
  Adam<float> adam(all, {});
  const Var<float> x(normal_tensor<float>({2, 8, 8, 8, 1}, random));
  double loss = 0;
  for (int step = 0; step < 3; ++step) {
    clear_gradients(all);
    // One pool for the program and the library: what the library allocates is counted here.
    const auto before = memory_stats().live;
    const Var<float> y = conv(x);
    if (memory_stats().live < before + y.size() * Index(sizeof(float))) return 1;
    const Var<float> l = mean(square(mlp(y) - x));
    backward(l);
    adam.step();
    loss = double(l.value().item());
  }
  try {
    conv3d(x, conv.weight, Var<float>(), {.groups = 5});
    return 2;
  } catch (const ShapeError&) {  // thrown in the library, caught here
  }
  std::printf("%s %.9g\n", instruction_set(), loss);
}
