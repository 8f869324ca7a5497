// Time and peak memory of one step of a network on one volume, as one JSON line: forward, backward and Adam, or forward
// alone. bench/peers/networks.py does the same work in PyTorch, from the weights that --export writes.
//
//     network_step nnformer|unetr SIZE [--infer] [--checkpoint] [--embedding 96] [--steps 3]
//                  [--dtype f32|bf16|f16] [--device cpu] [--batch 1] [--graph] [--export FILE]
//
// --graph records forward and backward and replays them (m3i/core/cuda_graph.hpp).

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <sys/resource.h>

#include "networks.hpp"
#include "step.hpp"

#include "m3i/io/safetensors.hpp"
#include "m3i/testing.hpp"
#include "m3i/train/mixed_network.hpp"
#include "m3i/train/weights.hpp"

namespace {
using namespace m3i;

struct Request {
  std::string network, file, dtype = "f32", device = "cpu";
  Index size = 128, batch = 1, embedding = 96, steps = 3;
  bool infer = false, checkpoint = false, graph = false;
};

struct Result {
  bench::StepTimes times;
  double gflop;  ///< of the method: a gradient takes twice its forward pass
};

template <template <class> class Net, class Options>
Result measure(const Request& r, const Net<float>& net, const Options& options) {
  const Device device = Device::parse(r.device);
  to(net, device);
  const Var<float> x(testing::wave<float>({r.batch, r.size, r.size, r.size, 1}).to(device));
  if (!r.file.empty()) {
    auto arrays = state_arrays<float>(net);
    arrays.emplace_back("bench.input", x.value());
    write_safetensors(r.file, arrays, {{"format", "pt"}});
  }
  const MixedNetwork<Net> mixed(parse_dtype(r.dtype), net, options);
  const auto loss = [&] { return mse_loss(mixed(x), x); };
  const auto times = bench::measure_step(device, loss, parameters<float>(net), mixed.precision(),
                                         {.infer = r.infer, .record = r.graph, .steps = r.steps});
  return {times, bench::forward_flop(loss) * (r.infer ? 1 : 3) * 1e-9};
}
}  // namespace

int main(int argc, char** argv) try {
  Request r;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&] { return i + 1 < argc ? argv[++i] : "0"; };
    if (word == "--infer") r.infer = true;
    else if (word == "--checkpoint") r.checkpoint = true;
    else if (word == "--embedding") r.embedding = std::atol(value());
    else if (word == "--steps") r.steps = std::atol(value());
    else if (word == "--dtype") r.dtype = value();
    else if (word == "--device") r.device = value();
    else if (word == "--batch") r.batch = std::atol(value());
    else if (word == "--graph") r.graph = true;
    else if (word == "--export") r.file = value();
    else if (r.network.empty()) r.network = word;
    else r.size = std::atol(word.c_str());
  }
  if ((r.network != "nnformer" && r.network != "unetr") || r.size < 16 || r.steps < 1 || r.batch < 1) {
    std::fputs(
        "network_step nnformer|unetr SIZE [--infer] [--checkpoint] [--embedding 96] [--steps 3] [--dtype f32|bf16|f16] "
        "[--device cpu] [--batch 1] [--graph] [--export FILE]\n",
        stderr);
    return 2;
  }
  Index count = 0;
  Result result{};
  seed_initializer(1);
  bench::with_options(r.network, r.size, r.embedding, r.checkpoint, [&](auto kind, const auto& options) {
    const typename decltype(kind)::template type<float> net(options);
    count = count_parameters(net);
    result = measure(r, net, options);
  });
  const bench::StepTimes& t = result.times;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf(
      "{\"work\": \"%s %ld^3 %s%s%s%s%s\", \"device\": \"%s\", \"parameters\": %ld, \"forward_s\": %.4f, "
      "\"backward_s\": %.4f, \"adam_s\": "
      "%.4f, "
      "\"step_s\": %.6f, \"gflop\": %.1f, \"loss\": %.9g, \"peak_tensors_mib\": %ld, \"peak_process_mib\": %ld, "
      "\"new_blocks_in_last_step\": %ld, \"threads\": %d}\n",
      r.network == "unetr" ? "unetr-768" : text("nnformer-", r.embedding).c_str(), long(r.size),
      r.infer ? "inference" : "training step", r.checkpoint ? ", checkpointed" : "",
      r.batch == 1 ? "" : text(", batch ", r.batch).c_str(), r.dtype == "f32" ? "" : text(", ", r.dtype).c_str(),
      r.graph ? ", recorded" : "", r.device.c_str(), long(count), t.forward, t.back, t.update, t.step(), result.gflop,
      t.loss, long(memory_stats(Device::parse(r.device)).peak >> 20), usage.ru_maxrss >> 10, long(t.new_blocks),
      thread_count());
} catch (const m3i::Error& error) {
  std::fprintf(stderr, "network_step: %s\n", error.what());
  return 1;
}
