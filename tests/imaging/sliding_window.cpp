#include <numeric>
#include <set>

#include "catch.hpp"
#include "m3i/core/random.hpp"
#include "m3i/imaging/resample_grid.hpp"
#include "m3i/imaging/row_labels.hpp"
#include "m3i/imaging/sliding_window.hpp"

using namespace m3i;

namespace {

/// Scores of K classes that depend on the voxel and on its place in the window.
struct Predictor {
  Index classes = 3;
  mutable Index most = 0, calls = 0;  ///< windows at once; calls
  Index fails_above = 1000;

  Tensor<float> operator()(const Tensor<float>& w) const {
    const Shape& s = w.shape();
    most = std::max(most, s[0]);
    ++calls;
    if (s[0] > fails_above) fail<DeviceError>("memory: as if there were none");
    const Index channels = s[4], voxels = w.size() / channels;
    const Tensor<float> out({s[0], s[1], s[2], s[3], classes});
    for (Index v = 0; v < voxels; ++v)
      for (Index k = 0; k < classes; ++k)
        out.data()[v * classes + k] =
            w.data()[v * channels] * float(k + 1) + 0.1f * float(v % s[3]) - 0.05f * float(v / s[3] % s[2]);
    return out;
  }
};

Tensor<float> noise(const Shape& shape, std::uint64_t seed = 1) {
  Random random(seed);
  return uniform_tensor<float>(shape, random, -1, 1);
}

double largest_difference(const Tensor<float>& a, const Tensor<float>& b) {
  REQUIRE(a.shape() == b.shape());
  double most = 0;
  for (Index i = 0; i < a.size(); ++i) most = std::max(most, double(std::abs(a.data()[i] - b.data()[i])));
  return most;
}

/// The formula, with every sum in memory.
Tensor<float> stitched_whole(const Tensor<float>& x, const SlidingWindow& o, const Predictor& predictor) {
  const WindowPlan plan = plan_windows(size3(x.shape()), o);
  const Size3 &n = plan.size, &m = plan.window;
  const auto map = importance_map<double>(m, o.importance, o.sigma_scale);
  std::vector<double> sums(std::size_t(n[0] * n[1] * n[2] * predictor.classes)),
      weights(std::size_t(n[0] * n[1] * n[2]));
  const auto each = [&](const Size3& start, auto&& f) {
    for (Index v = 0; v < map.size(); ++v) {
      const Size3 w{v / (m[1] * m[2]), v / m[2] % m[1], v % m[2]};
      Index at = 0;
      bool inside = true;
      for (std::size_t a = 0; a < 3; ++a) {
        const Index i = start[a] - plan.before[a] + w[a];
        inside = inside && i >= 0 && i < n[a];
        at = at * n[a] + i;
      }
      if (inside) f(v, at);
    }
  };
  for (const Index a : plan.starts[0])
    for (const Index b : plan.starts[1])
      for (const Index c : plan.starts[2]) {
        const auto window = Tensor<float>::zeros({1, m[0], m[1], m[2], 1});
        each({a, b, c}, [&](Index v, Index at) { window.data()[v] = x.data()[at]; });
        const Tensor<float> scores = predictor(window);
        each({a, b, c}, [&](Index v, Index at) {
          weights[std::size_t(at)] += map.data()[v];
          for (Index k = 0; k < predictor.classes; ++k)
            sums[std::size_t(at * predictor.classes + k)] +=
                map.data()[v] * double(scores.data()[v * predictor.classes + k]);
        });
      }
  const Tensor<float> out({n[0], n[1], n[2], predictor.classes});
  for (Index i = 0; i < out.size(); ++i)
    out.data()[i] = float(sums[std::size_t(i)] / weights[std::size_t(i / predictor.classes)]);
  return out;
}

Tensor<float> flipped(const Tensor<float>& x, const std::array<bool, 3>& flip) {
  const Shape& s = x.shape();
  const Index rest = s.rank() == 4 ? s[3] : 1;
  const Tensor<float> out(s);
  for (Index v = 0; v < s[0] * s[1] * s[2]; ++v) {
    const Index i = v / (s[1] * s[2]), j = v / s[2] % s[1], k = v % s[2];
    const Index from =
        ((flip[0] ? s[0] - 1 - i : i) * s[1] + (flip[1] ? s[1] - 1 - j : j)) * s[2] + (flip[2] ? s[2] - 1 - k : k);
    std::copy_n(x.data() + from * rest, rest, out.data() + v * rest);
  }
  return out;
}

}  // namespace

TEST_CASE("sliding_window: walking by slabs gives what all sums in memory give", "[imaging]") {
  const Predictor predictor;
  std::set<int> axes;
  for (const Shape& shape : {Shape{23, 12, 9}, Shape{9, 25, 12}, Shape{10, 9, 21}, Shape{5, 17, 4}, Shape{8, 8, 8}})
    for (const double overlap : {0.0, 0.3, 0.75})
      for (const Importance importance : {Importance::constant, Importance::gaussian}) {
        SlidingWindow o{
            .window = {8, 7, 6}, .overlap = {overlap, overlap, overlap}, .importance = importance, .batch = 4};
        INFO(shape.text() << ", overlap " << overlap);
        const Tensor<float> x = noise(shape);
        const Tensor<float> scores = sliding_window(x, o, predictor);
        CHECK(largest_difference(scores, stitched_whole(x, o, predictor)) < 1e-4);
        const auto labels = sliding_window_labels(x, o, predictor);
        Index wrong = 0;
        for (Index v = 0; v < labels.size(); ++v)
          wrong += labels.data()[v] != largest_class(scores.data() + v * predictor.classes, predictor.classes);
        CHECK(wrong == 0);
        axes.insert(plan_windows(size3(shape), o).axis);
      }
  CHECK(axes.size() == 3);  // every axis was walked
}

TEST_CASE("sliding_window: mirroring is the mean over the mirror images of the volume", "[imaging]") {
  const Predictor predictor;
  SlidingWindow o{.window = {6, 6, 6}, .overlap = {0.5, 0.5, 0.5}, .batch = 2};
  const Tensor<float> x = noise({12, 9, 15});  // starts that are symmetric: (size - window) is a multiple of the step
  const auto plain = Tensor<float>::zeros({12, 9, 15, 3});
  for (const bool i : {false, true})
    for (const bool k : {false, true}) {
      const std::array<bool, 3> flip{i, false, k};
      const Tensor<float> seen = flipped(sliding_window(flipped(x, flip), o, predictor), flip);
      for (Index v = 0; v < seen.size(); ++v) plain.data()[v] += seen.data()[v] / 4;
    }
  o.mirror = {true, false, true};
  CHECK(o.views() == 4);
  CHECK(largest_difference(sliding_window(x, o, predictor), plain) < 1e-4);
}

TEST_CASE("sliding_window: the batch, and halving it when memory runs out, change nothing", "[imaging]") {
  const Tensor<float> x = noise({14, 20, 11});
  SlidingWindow o{.window = {6, 6, 6}, .mirror = {false, true, false}};
  const Predictor one;
  const Tensor<float> want = sliding_window(x, o, one);
  CHECK(one.most == 1);
  o.batch = 8;
  Predictor scarce;
  scarce.fails_above = 3;
  std::vector<Index> halved;
  o.on_halved = [&](Index batch, const std::string& why) {
    halved.push_back(batch);
    CHECK_FALSE(why.empty());
  };
  CHECK(largest_difference(sliding_window(x, o, scarce), want) == 0);
  CHECK(halved == std::vector<Index>{4, 2});
  CHECK(scarce.most == 8);
  scarce.fails_above = 0;
  CHECK_THROWS_AS(sliding_window(x, o, scarce), DeviceError);
  const auto no_memory = [](const Tensor<float>&) -> Tensor<float> { throw std::bad_alloc(); };
  CHECK_THROWS_AS(sliding_window(x, o, no_memory), std::bad_alloc);
}

TEST_CASE("sliding_window: several channels reach the predictor", "[imaging]") {
  const Tensor<float> x = noise({7, 9, 8, 2});
  const auto sum = [](const Tensor<float>& w) {
    const Shape& s = w.shape();
    const Tensor<float> out({s[0], s[1], s[2], s[3], 1});
    for (Index v = 0; v < out.size(); ++v) out.data()[v] = w.data()[2 * v] + 10 * w.data()[2 * v + 1];
    return out;
  };
  const Tensor<float> y = sliding_window(x, {.window = {4, 5, 9}, .mirror = {true, true, true}}, sum);
  double worst = 0;
  for (Index v = 0; v < y.size(); ++v)
    worst = std::max(worst, double(std::abs(y.data()[v] - x.data()[2 * v] - 10 * x.data()[2 * v + 1])));
  CHECK(worst < 1e-4);
}

TEST_CASE("sliding_window: the memory that is announced is what the pool counts", "[imaging]") {
  const Predictor predictor{.classes = 5};
  struct Case {
    Shape shape;
    Size3 window;
    Index batch;
  };
  for (const Case& c : {Case{{40, 37, 90}, {16, 16, 16}, 1}, Case{{64, 20, 31}, {24, 24, 24}, 3},
                        Case{{20, 20, 20}, {32, 32, 32}, 2}}) {
    SlidingWindow o{.window = c.window, .batch = c.batch, .mirror = {true, false, false}};
    const Tensor<float> x = noise(c.shape);
    for (const Stitched kind : {Stitched::labels, Stitched::scores}) {
      memory_release_cached();
      memory_reset_peak();
      const Index before = memory_stats().live;
      if (kind == Stitched::labels) sliding_window_labels(x, o, predictor);
      else sliding_window(x, o, predictor);
      const auto measured = double(memory_stats().peak - before);
      const auto said = double(sliding_window_memory(size3(c.shape), 1, 5, o, kind).total());
      INFO(c.shape.text() << ": measured " << measured << ", said " << said);
      CHECK(measured <= said);
      if (c.shape[0] > c.window[0]) CHECK(measured >= 0.95 * said);  // else windows are gone when the result comes
    }
  }
}

TEST_CASE("sliding_window: a scan of 512 x 512 x 600 with 14 classes is announced at less than 4 GiB", "[imaging]") {
  const SlidingWindow o{.window = {128, 128, 128}, .batch = 2};
  const auto need = sliding_window_memory({512, 512, 600}, 1, 14, o);
  CHECK(plan_windows({512, 512, 600}, o).axis == 2);
  CHECK(need.total() + Index(4) * 512 * 512 * 600 < Index(4) << 30);  // with the volume itself
}

TEST_CASE("sliding_window: wrong arguments are refused with what was expected", "[imaging][errors]") {
  const Predictor predictor;
  const Tensor<float> x = noise({8, 8, 8});
  CHECK_THROWS_WITH(sliding_window(noise({8, 8}), {}, predictor), Catch::Contains("[8, 8]"));
  CHECK_THROWS_WITH(sliding_window(x, {.window = {4, 0, 4}}, predictor), Catch::Contains("window of 0"));
  CHECK_THROWS_WITH(sliding_window(x, {.window = {4, 4, 4}, .overlap = {0, 1, 0}}, predictor),
                    Catch::Contains("overlap 1"));
  CHECK_THROWS_WITH(sliding_window(x, {.window = {4, 4, 4}, .batch = 0}, predictor), Catch::Contains("batch of 0"));
  CHECK_THROWS_WITH(sliding_window(x, {.window = {4, 4, 4}}, [](const Tensor<float>& w) { return w[0]; }),
                    Catch::Contains("[1, 4, 4, 4, K]"));
  const auto diverged = [&](const Tensor<float>& w) {
    const Tensor<float> out = predictor(w);
    out.data()[5] = std::nanf("");
    return out;
  };
  CHECK_THROWS_AS(sliding_window(x, {.window = {4, 4, 4}}, diverged), NumericError);
}

TEST_CASE("row_labels: rows one by one give what labels_on_grid gives from all scores", "[imaging]") {
  Random random(7);
  for (int trial = 0; trial < 24; ++trial) {
    const Size3 n{1 + random.below(9), 1 + random.below(9), 1 + random.below(9)};
    const Size3 m{1 + random.below(12), 1 + random.below(12), 1 + random.below(12)};
    const Tensor<double> scores = uniform_tensor<double>({n[0], n[1], n[2], 4}, random);
    Grid source{n, Affine::scaling({1, 1, 1}, {0, 0, 0})}, target{m, source.affine};
    if (trial % 3 > 0)  // turned and scaled about the middle; of every third trial only moved by halves
      for (int r = 0; r < 3; ++r)
        for (int c = 0; c < 3; ++c) target.affine(r, c) = random.uniform(-0.5, 0.5) + (r == (c + trial) % 3 ? 0.8 : 0);
    for (int r = 0; r < 3; ++r) {
      double middle = double(n[std::size_t(r)] - 1) / 2;
      for (int c = 0; c < 3; ++c) middle -= target.affine(r, c) * double(m[std::size_t(c)] - 1) / 2;
      target.affine(r, 3) = trial % 3 > 0 ? middle : double(random.below(5)) / 2 - 1;
    }
    const Tensor<std::int32_t> want = labels_on_grid(scores, source.affine, target);
    for (int axis = 0; axis < 3; ++axis) {
      RowLabels<double> rows(n, axis, inverse(source.affine) * target.affine, m);
      const std::size_t p = axis == 0 ? 1 : 0, q = axis == 2 ? 1 : 2;
      for (Index r = 0; r < n[std::size_t(axis)]; ++r) {
        const Tensor<double> row({n[p], n[q], 4});
        for (Index v = 0; v < n[p] * n[q]; ++v) {
          Size3 at;
          at[std::size_t(axis)] = r, at[p] = v / n[q], at[q] = v % n[q];
          std::copy_n(scores.data() + ((at[0] * n[1] + at[1]) * n[2] + at[2]) * 4, 4, row.data() + v * 4);
        }
        rows.add(r, row);
      }
      Index wrong = 0;
      for (Index v = 0; v < want.size(); ++v) wrong += std::int32_t(rows.labels().data()[v]) != want.data()[v];
      INFO("trial " << trial << ", axis " << axis << ", " << source.text() << " -> " << target.text());
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("row_labels: rows out of order and unfinished volumes are refused", "[imaging][errors]") {
  RowLabels<float> rows({3, 2, 2}, 0, Affine{}, {3, 2, 2});
  CHECK_THROWS_WITH(rows.add(1, noise({2, 2, 2})), Catch::Contains("expected row 0"));
  CHECK_THROWS_WITH(rows.add(0, noise({3, 2, 2})), Catch::Contains("[3, 2, 2]"));
  rows.add(0, noise({2, 2, 2}));
  CHECK_THROWS_WITH(rows.labels(), Catch::Contains("1 of 3 rows"));
}

TEST_CASE("sliding_window: 512 x 512 x 600 with 14 classes stays below 4 GiB", "[.][slow][imaging]") {
  const Index classes = 14;
  const auto predictor = [&](const Tensor<float>& w) {
    const Shape& s = w.shape();
    const Tensor<float> out({s[0], s[1], s[2], s[3], classes});
    parallel_chunks(w.size(), 4096, [&](Index begin, Index end) {
      for (Index v = begin; v < end; ++v)
        for (Index k = 0; k < classes; ++k) out.data()[v * classes + k] = k == Index(w.data()[v]) ? 1.0f : 0.0f;
    });
    return out;
  };
  const Tensor<float> x({512, 512, 600});
  for (Index v = 0; v < x.size(); ++v) x.data()[v] = float(v / 1000 % classes);
  const SlidingWindow o{.window = {128, 128, 128}};
  memory_release_cached();
  memory_reset_peak();
  const Index before = memory_stats().live;
  const auto labels = sliding_window_labels(x, o, predictor);
  const Index peak = memory_stats().peak;
  const Index said = sliding_window_memory({512, 512, 600}, 1, classes, o).total();
  WARN("peak " << (peak >> 20) << " MiB with the volume, " << ((peak - before) >> 20) << " MiB without; said "
               << (said >> 20) << " MiB");
  CHECK(peak < Index(4) << 30);
  CHECK(double(peak - before) <= 1.02 * double(said));
  Index wrong = 0;
  for (Index v = 0; v < x.size(); ++v) wrong += float(labels.data()[v]) != x.data()[v];
  CHECK(wrong == 0);
}
