// Time and peak memory of one training step (forward, backward, Adam) of nnFormer on one volume, as one JSON line.
//
//     training_step [image size = 128] [embedding = 96] [steps = 3] [checkpoint = 0]

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include <sys/resource.h>

#include "m3i/models/nnformer.hpp"
#include "m3i/ops/loss.hpp"
#include "m3i/optim/adam.hpp"
#include "m3i/testing.hpp"

namespace {
using namespace m3i;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}
}  // namespace

int main(int argc, char** argv) {
  const auto argument = [&](int i, long otherwise) { return argc > i ? std::atol(argv[i]) : otherwise; };
  const Index size = argument(1, 128), embedding = argument(2, 96), steps = argument(3, 3);
  NnFormerOptions options;
  options.image = {size, size, size};
  options.embedding = embedding;
  options.heads = {embedding / 32, embedding / 16, embedding / 8, embedding / 4};
  options.deep_supervision = false;
  options.checkpoint = argument(4, 0) != 0;
  seed_initializer(1);
  const NnFormer<float> net(options);
  const auto learned = parameters<float>(net);
  Adam<float> adam(learned, {.lr = 1e-4});
  Random random(1);
  const Var<float> x(testing::wave<float>({1, size, size, size, 1}));

  double forward = 0, back = 0, update = 0;  // of the last step: the first one also fills the memory pool
  Index allocations = 0;
  for (Index step = 0; step < steps; ++step) {
    allocations = memory_stats().system_allocations;
    clear_gradients(learned);
    auto start = std::chrono::steady_clock::now();
    const Var<float> loss = mse_loss(net(x, {true, &random})[0], x);
    forward = seconds_since(start);
    start = std::chrono::steady_clock::now();
    backward(loss);
    back = seconds_since(start);
    start = std::chrono::steady_clock::now();
    adam.step();
    update = seconds_since(start);
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf(
      "{\"work\": \"nnformer-%ld %ld^3 training step%s\", \"parameters\": %ld, \"forward_s\": %.3f, \"backward_s\": "
      "%.3f, "
      "\"adam_s\": %.3f, \"step_s\": %.3f, \"peak_tensors_mib\": %ld, \"peak_process_mib\": %ld, "
      "\"new_blocks_in_last_step\": %ld, "
      "\"threads\": %d}\n",
      long(embedding), long(size), options.checkpoint ? ", checkpointed" : "", long(count_parameters(net)), forward,
      back, update, forward + back + update, long(memory_stats().peak >> 20), usage.ru_maxrss >> 10,
      long(memory_stats().system_allocations - allocations), thread_count());
}
