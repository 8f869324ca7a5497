/// Code of docs/4-nnformer.md.

#include "../catch.hpp"

#include "m3i/autodiff.hpp"
#include "m3i/models/heads.hpp"
#include "m3i/models/nnformer.hpp"
#include "m3i/models/psat.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

// [options]
/// A network for 32^3 volumes that trains in seconds.
static NnFormerOptions small_network() {
  return {.in_channels = 1,
          .out_channels = 3,
          .image = {32, 32, 32},
          .embedding = 16,
          .depths = {1, 1, 1, 1},
          .heads = {1, 2, 4, 8},
          .window = {4, 4, 2, 1},
          .drop_path = 0};
}
// [options]

TEST_CASE("docs: nnFormer from volume to maps to voxels", "[docs]") {
  // [shapes]
  const NnFormer<float> network(small_network());
  const Var<float> x(testing::wave<float>({1, 32, 32, 32, 1}));  // [N, D, H, W, C]
  const NoGrad guard;
  const std::vector<Var<float>> maps = network.encode(x);               // four resolutions, finest first
  const std::vector<Var<float>> out = network.decode(maps, x.shape());  // three, finest first
  // [shapes]
  CHECK(maps[0].shape() == Shape{1, 8, 8, 8, 16});
  CHECK(maps[1].shape() == Shape{1, 4, 4, 4, 32});
  CHECK(maps[2].shape() == Shape{1, 2, 2, 2, 64});
  CHECK(maps[3].shape() == Shape{1, 1, 1, 1, 128});
  CHECK(out[0].shape() == Shape{1, 32, 32, 32, 3});
  CHECK(out[1].shape() == Shape{1, 16, 16, 16, 3});
  CHECK(out[2].shape() == Shape{1, 8, 8, 8, 3});
}

TEST_CASE("docs: any input size comes back in its own size", "[docs]") {
  const NnFormer<float> network(small_network());
  const NoGrad guard;
  // [any_size]
  const Var<float> odd(testing::wave<float>({1, 30, 37, 33, 1}));
  const Var<float> labels = network(odd)[0];
  // [any_size]
  CHECK(labels.shape() == Shape{1, 30, 37, 33, 3});
}

TEST_CASE("docs: heads and PSAT on the deepest map", "[docs]") {
  const NnFormer<float> network(small_network());
  const Var<float> x(testing::wave<float>({2, 32, 32, 32, 1}));
  const NoGrad guard;
  // [heads]
  const std::vector<Var<float>> maps = network.encode(x);
  const ClassificationHead<float> head(maps.back().shape()[4], 2);  // 128 channels, 2 classes
  const Var<float> logits = head(maps.back());                      // [N, 2]

  const Psat<float> psat({.volume_channels = 128, .tower_width = 64, .width = 32, .queries = 8, .heads = 4});
  const Var<float> embedding = psat(maps.back(), {0, 2}, {64, 20});  // coronal bin 64, axial bin 20 -> [N, 64]
  // [heads]
  CHECK(logits.shape() == Shape{2, 2});
  CHECK(embedding.shape() == Shape{2, 64});
}
