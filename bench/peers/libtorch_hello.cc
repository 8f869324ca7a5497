// bench/compile/hello.cpp in libtorch: the peer of its compile time.
#include <cstdio>

#include <torch/torch.h>

int main() {
  torch::nn::Linear layer(3, 1);
  torch::optim::SGD sgd(layer->parameters(), torch::optim::SGDOptions(0.1));
  const auto x = torch::randn({32, 3});
  for (int step = 0; step < 100; ++step) {
    sgd.zero_grad();
    const auto loss = torch::mse_loss(layer(x), x.sum(1, true));
    loss.backward();
    sgd.step();
    if (step % 20 == 0) std::printf("step %d loss %.5f\n", step, loss.item<double>());
  }
}
