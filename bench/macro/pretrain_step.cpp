// The whole step of pretraining (algorithm 1 of the paper), as one JSON line: nnFormer's encoder, PSAT, the mPOT loss
// against features of slices and captions, the decoder and the restoration loss, Adam for all of it and the projection
// of the metric. The 2-D towers are frozen: their features are inputs, as in examples/pretrain.cpp.
// bench/peers/networks.py does the same work in PyTorch and POT, from the weights that --export writes.
//
//     pretrain_step SIZE [--embedding 96] [--steps 3] [--dtype f32|bf16|f16] [--device cpu] [--batch 4] [--graph]
//                   [--export FILE]
//
// --graph records forward and backward and replays them (m3i/core/cuda_graph.hpp).

#include <cstdio>
#include <cstdlib>
#include <string>

#include <sys/resource.h>

#include "networks.hpp"
#include "step.hpp"

#include "m3i/io/safetensors.hpp"
#include "m3i/models/psat.hpp"
#include "m3i/ot/mpot_loss.hpp"
#include "m3i/ot/psd.hpp"
#include "m3i/testing.hpp"
#include "m3i/train/mixed_network.hpp"
#include "m3i/train/weights.hpp"

namespace {
using namespace m3i;

struct Request {
  std::string file, dtype = "f32", device = "cpu";
  Index size = 0, batch = 4, embedding = 96, steps = 3;
  bool graph = false;
};

/// The encoder-decoder and the projection.
template <class T>
struct Tower {
  bench::Finest<T> network;
  Psat<T> psat;
  Tower(const NnFormerOptions& n, const PsatOptions& p) : network(n), psat(p) {}
  M3I_FIELDS(network, psat)
};

/// Rows of unit length, in the place of the frozen towers' features.
Tensor<float> features(const Shape& shape, int which, Device device) {
  return l2_normalize(Var<float>(testing::wave<float>(shape, which))).value().to(device);
}

void run(const Request& r) {
  const Device device = Device::parse(r.device);
  seed_initializer(1);
  const NnFormerOptions network = bench::nnformer_options(r.size, r.embedding);
  PsatOptions projection;
  projection.volume_channels = 8 * r.embedding;
  const Tower<float> weights(network, projection);
  to(weights, device);
  const Index width = projection.tower_width;
  const Var<float> metric(identity_metric<float>(width, device), true);

  const Var<float> x(testing::wave<float>({r.batch, r.size, r.size, r.size, 1}).to(device));
  const Var<float> slices(features({r.batch, width}, 1, device)), texts(features({r.batch, width}, 2, device));
  std::vector<Index> plane, slice;
  for (Index i = 0; i < r.batch; ++i)
    plane.push_back(i % projection.planes), slice.push_back(i * 37 % projection.slices);
  if (!r.file.empty()) {
    auto arrays = state_arrays<float>(weights);
    arrays.emplace_back("bench.input", x.value());
    arrays.emplace_back("bench.slices", slices.value());
    arrays.emplace_back("bench.texts", texts.value());
    write_safetensors(r.file, arrays, {{"format", "pt"}});
  }

  const MixedNetwork<Tower> tower(parse_dtype(r.dtype), weights, network, projection);
  const auto loss = [&] {
    const auto [h, restored] = tower.run([&](const auto& net, const auto& border) {
      const auto maps = net.network.net.encode(border.in(x));
      const auto embedding = border.out(net.psat(maps.back(), plane, slice));
      return std::pair(embedding, border.out(net.network.net.decode(maps, x.shape())[0]));
    });
    return mpot_loss(h, slices, texts, metric).loss + mse_loss(restored, x);
  };
  auto learned = parameters<float>(weights);
  const Index count = count_parameters(weights);
  learned.push_back(metric);
  const auto project = [&] { project_metric(metric.value(), Metric::full); };
  const auto t = bench::measure_step(device, loss, learned, tower.precision(),
                                     {.record = r.graph, .steps = r.steps, .after_update = project});
  const Index peak = memory_stats(device).peak;
  const double gflop = 3 * bench::forward_flop(loss) * 1e-9;  // a gradient takes twice its forward pass
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf(
      "{\"work\": \"pretraining step, nnformer-%ld %ld^3, PSAT and mPOT, batch %ld%s%s\", \"device\": \"%s\", "
      "\"parameters\": %ld, \"forward_s\": %.6f, \"backward_s\": %.6f, \"adam_s\": %.6f, \"step_s\": %.6f, "
      "\"gflop\": %.1f, \"loss\": %.9g, \"peak_tensors_mib\": %ld, \"peak_process_mib\": %ld, "
      "\"new_blocks_in_last_step\": %ld, \"threads\": %d}\n",
      long(r.embedding), long(r.size), long(r.batch), r.dtype == "f32" ? "" : text(", ", r.dtype).c_str(),
      r.graph ? ", recorded" : "", r.device.c_str(), long(count), t.forward, t.back, t.update, t.step(), gflop, t.loss,
      long(peak >> 20), usage.ru_maxrss >> 10, long(t.new_blocks), thread_count());
}
}  // namespace

int main(int argc, char** argv) {
  Request r;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&] { return i + 1 < argc ? argv[++i] : "0"; };
    if (word == "--embedding") r.embedding = std::atol(value());
    else if (word == "--steps") r.steps = std::atol(value());
    else if (word == "--dtype") r.dtype = value();
    else if (word == "--device") r.device = value();
    else if (word == "--batch") r.batch = std::atol(value());
    else if (word == "--graph") r.graph = true;
    else if (word == "--export") r.file = value();
    else r.size = std::atol(word.c_str());
  }
  if (r.size < 32 || r.steps < 1 || r.batch < 1 || r.embedding < 32) {
    std::fputs(
        "pretrain_step SIZE [--embedding 96] [--steps 3] [--dtype f32|bf16|f16] [--device cpu] [--batch 4] [--graph] "
        "[--export FILE]\n",
        stderr);
    return 2;
  }
  try {
    run(r);
  } catch (const Error& error) {
    std::fprintf(stderr, "pretrain_step: %s\n", error.what());
    return 1;
  }
}
