#include <deque>
#include <set>

#include "catch.hpp"
#include "m3i/core/random.hpp"
#include "m3i/imaging/components.hpp"

using namespace m3i;

namespace {

/// Components by flooding from one voxel after the other.
LabelledComponents flooded(const Tensor<std::uint8_t>& labels, int neighbours) {
  const Size3 n = size3(labels.shape());
  LabelledComponents out{Tensor<std::int32_t>::zeros(labels.shape()), {}};
  for (Index start = 0; start < labels.size(); ++start) {
    if (labels.data()[start] == 0 || out.ids.data()[start] != 0) continue;
    out.voxels.push_back(0);
    std::deque<Index> queue{start};
    out.ids.data()[start] = std::int32_t(out.voxels.size());
    while (!queue.empty()) {
      const Index at = queue.front();
      queue.pop_front();
      ++out.voxels.back();
      const Size3 x{at / (n[1] * n[2]), at / n[2] % n[1], at % n[2]};
      for (int step = 0; step < 27; ++step) {
        const Size3 d{step / 9 - 1, step / 3 % 3 - 1, step % 3 - 1};
        const Index moves = std::abs(d[0]) + std::abs(d[1]) + std::abs(d[2]);
        if (moves == 0 || moves > (neighbours == 6 ? 1 : neighbours == 18 ? 2 : 3)) continue;
        const Size3 y{x[0] + d[0], x[1] + d[1], x[2] + d[2]};
        if (y[0] < 0 || y[1] < 0 || y[2] < 0 || y[0] >= n[0] || y[1] >= n[1] || y[2] >= n[2]) continue;
        const Index to = (y[0] * n[1] + y[1]) * n[2] + y[2];
        if (labels.data()[to] != labels.data()[start] || out.ids.data()[to] != 0) continue;
        out.ids.data()[to] = out.ids.data()[start];
        queue.push_back(to);
      }
    }
  }
  return out;
}

Tensor<std::uint8_t> random_labels(const Size3& n, Index classes, double empty, Random& random) {
  const Tensor<std::uint8_t> out(shape_of(n));
  for (Index v = 0; v < out.size(); ++v)
    out.data()[v] = random.uniform() < empty ? std::uint8_t(0) : std::uint8_t(1 + random.below(classes));
  return out;
}

}  // namespace

TEST_CASE("components: the same as flooding, for each kind of neighbours", "[imaging]") {
  Random random(3);
  for (int trial = 0; trial < 60; ++trial) {
    const Size3 n{1 + random.below(7), 1 + random.below(7), 1 + random.below(12)};
    const auto labels = random_labels(n, 1 + trial % 3, random.uniform(0, 0.9), random);
    for (const int count : {6, 18, 26}) {
      const auto got = connected_components(labels, parse_neighbours(count)), want = flooded(labels, count);
      INFO("trial " << trial << ", " << count << " neighbours, " << labels.shape().text());
      CHECK(got.voxels == want.voxels);
      CHECK(got.ids.to_vector() == want.ids.to_vector());
    }
  }
}

TEST_CASE("components: the largest of each label is kept, and a second time changes nothing", "[imaging]") {
  Random random(4);
  for (int trial = 0; trial < 20; ++trial) {
    const auto labels = random_labels({6, 7, 9}, 3, 0.6, random);
    const auto before = labels.clone();
    const Index removed = keep_largest_component(labels, Neighbours::faces);
    Index changed = 0;
    std::set<int> seen;
    for (Index v = 0; v < labels.size(); ++v) {
      if (labels.data()[v] != before.data()[v]) {
        CHECK(labels.data()[v] == 0);
        ++changed;
      }
      if (labels.data()[v]) seen.insert(labels.data()[v]);
    }
    CHECK(changed == removed);
    const auto left = connected_components(labels, Neighbours::faces);
    CHECK(left.voxels.size() == seen.size());
    const auto all = connected_components(before, Neighbours::faces);
    for (const int label : seen) {
      Index most = 0, kept = 0;
      for (Index v = 0; v < labels.size(); ++v)
        if (before.data()[v] == label) most = std::max(most, all.voxels[std::size_t(all.ids.data()[v] - 1)]);
      for (Index v = 0; v < labels.size(); ++v) kept += labels.data()[v] == label;
      CHECK(kept == most);
    }
    CHECK(keep_largest_component(labels, Neighbours::faces) == 0);
  }
}

TEST_CASE("components: an empty volume has none, a full one has one", "[imaging]") {
  const auto empty = Tensor<std::uint8_t>::zeros({3, 4, 5});
  CHECK(connected_components(empty).voxels.empty());
  CHECK(keep_largest_component(empty) == 0);
  CHECK(connected_components(Tensor<std::int32_t>::full({3, 4, 5}, 70000)).voxels == std::vector<Index>{60});
  CHECK_THROWS_WITH(parse_neighbours(8), Catch::Contains("8") && Catch::Contains("26"));
  CHECK_THROWS_WITH(connected_components(Tensor<std::uint8_t>(Shape{4, 4})), Catch::Contains("[4, 4]"));
}
