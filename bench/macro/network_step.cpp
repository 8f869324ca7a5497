// Time and peak memory of one step of a network on one volume, as one JSON line: forward, backward and Adam, or forward
// alone. bench/peers/networks.py does the same work in PyTorch, from the weights that --export writes.
//
//     network_step nnformer|unetr SIZE [--infer] [--checkpoint] [--embedding 96] [--steps 3] [--export FILE]

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <sys/resource.h>

#include "networks.hpp"
#include "step.hpp"

#include "m3i/io/safetensors.hpp"
#include "m3i/testing.hpp"
#include "m3i/train/weights.hpp"

namespace {
using namespace m3i;

struct Request {
  std::string network, file;
  Index size = 128, embedding = 96, steps = 3;
  bool infer = false, checkpoint = false;
};

template <class Network>
bench::StepTimes measure(const Request& r, const Network& net) {
  const Var<float> x(testing::wave<float>({1, r.size, r.size, r.size, 1}));
  if (!r.file.empty()) {
    auto arrays = state_arrays<float>(net);
    arrays.emplace_back("bench.input", x.value());
    write_safetensors(r.file, arrays, {{"format", "pt"}});
  }
  return bench::measure_step(net, x, r.infer, r.steps);
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
  bench::StepTimes t;
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
