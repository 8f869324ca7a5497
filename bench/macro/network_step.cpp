// Time and peak memory of one step of a network on one volume, as one JSON line: forward, backward and Adam, or forward
// alone. bench/peers/networks.py does the same work in PyTorch, from the weights that --export writes.
//
//     network_step nnformer|unetr SIZE [--infer] [--checkpoint] [--embedding 96] [--steps 3] [--export FILE]

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>
#include <string>

#include <sys/resource.h>

#include "networks.hpp"

#include "m3i/io/safetensors.hpp"
#include "m3i/ops/loss.hpp"
#include "m3i/optim/adam.hpp"
#include "m3i/testing.hpp"
#include "m3i/train/weights.hpp"

namespace {
using namespace m3i;

struct Request {
  std::string network, file;
  Index size = 128, embedding = 96, steps = 3;
  bool infer = false, checkpoint = false;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Of the fastest step: the first ones also fill the memory pool.
struct Times {
  double forward = 0, back = 0, update = 0, loss = 0;
  Index new_blocks = 0;  ///< allocations of the last step that the pool could not serve
  double step() const { return forward + back + update; }
};

template <class Network>
Times measure(const Request& r, const Network& net) {
  const auto learned = parameters<float>(net);
  const Var<float> x(testing::wave<float>({1, r.size, r.size, r.size, 1}));
  if (!r.file.empty()) {
    auto arrays = state_arrays<float>(net);
    arrays.emplace_back("bench.input", x.value());
    write_safetensors(r.file, arrays, {{"format", "pt"}});
  }
  std::optional<Adam<float>> adam;  // its moments take twice the memory of the parameters
  if (!r.infer) adam.emplace(learned, AdamOptions{.lr = 1e-4});
  Times best;
  best.forward = std::numeric_limits<double>::infinity();
  for (Index step = 0; step < r.steps; ++step) {
    const Index blocks = memory_stats().system_allocations;
    Times now;
    auto start = std::chrono::steady_clock::now();
    if (r.infer) {
      NoGrad guard;
      now.loss = double(mse_loss(net(x), x).value().item());
      now.forward = seconds_since(start);
    } else {
      clear_gradients(learned);
      const Var<float> loss = mse_loss(net(x), x);
      now.forward = seconds_since(start), start = std::chrono::steady_clock::now();
      backward(loss);
      now.back = seconds_since(start), start = std::chrono::steady_clock::now();
      adam->step();
      now.update = seconds_since(start);
      now.loss = double(loss.value().item());
    }
    now.new_blocks = memory_stats().system_allocations - blocks;
    const bool faster = now.step() < best.step();
    if (faster) best = now;
    best.loss = now.loss, best.new_blocks = now.new_blocks;
  }
  return best;
}
}  // namespace

int main(int argc, char** argv) {
  Request r;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&] { return i + 1 < argc ? argv[++i] : "0"; };
    if (word == "--infer") r.infer = true;
    else if (word == "--checkpoint") r.checkpoint = true;
    else if (word == "--embedding") r.embedding = std::atol(value());
    else if (word == "--steps") r.steps = std::atol(value());
    else if (word == "--export") r.file = value();
    else if (r.network.empty()) r.network = word;
    else r.size = std::atol(word.c_str());
  }
  if ((r.network != "nnformer" && r.network != "unetr") || r.size < 16 || r.steps < 1) {
    std::fputs(
        "network_step nnformer|unetr SIZE [--infer] [--checkpoint] [--embedding 96] [--steps 3] [--export FILE]\n",
        stderr);
    return 2;
  }
  Index count = 0;
  Times t;
  bench::with_network(r.network, r.size, r.embedding, r.checkpoint, [&](const auto& net) {
    count = count_parameters(net);
    t = measure(r, net);
  });
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf(
      "{\"work\": \"%s %ld^3 %s%s\", \"parameters\": %ld, \"forward_s\": %.4f, \"backward_s\": %.4f, \"adam_s\": %.4f, "
      "\"step_s\": %.4f, \"loss\": %.9g, \"peak_tensors_mib\": %ld, \"peak_process_mib\": %ld, "
      "\"new_blocks_in_last_step\": %ld, \"threads\": %d}\n",
      r.network == "unetr" ? "unetr-768" : text("nnformer-", r.embedding).c_str(), long(r.size),
      r.infer ? "inference" : "training step", r.checkpoint ? ", checkpointed" : "", long(count), t.forward, t.back,
      t.update, t.step(), t.loss, long(memory_stats().peak >> 20), usage.ru_maxrss >> 10, long(t.new_blocks),
      thread_count());
}
