#include "m3i/imaging/chain.hpp"

#include <cstring>

#include "catch.hpp"
#include "m3i/core/random.hpp"
#include "m3i/imaging/preprocess.hpp"

using namespace m3i;
using Catch::Contains;

namespace {

/// All 48 orders and directions of three axes.
std::vector<OrientationMap> all_orientations() {
  std::vector<OrientationMap> out;
  for (const std::array<int, 3>& axis : {std::array{0, 1, 2}, std::array{0, 2, 1}, std::array{1, 0, 2},
                                         std::array{1, 2, 0}, std::array{2, 0, 1}, std::array{2, 1, 0}})
    for (int flips = 0; flips < 8; ++flips)
      out.push_back({axis, {(flips & 1) != 0, (flips & 2) != 0, (flips & 4) != 0}});
  return out;
}

/// Oblique and sheared: neither rotation nor scaling alone.
Affine slanted() {
  Affine a;
  a.m = {0.9, 0.12, -0.2, -31, -0.1, 1.3, 0.25, 17, 0.15, -0.2, 2.1, 5, 0, 0, 0, 1};
  return a;
}

template <class T>
bool same_bits(const Tensor<T>& a, const Tensor<T>& b) {
  return a.shape() == b.shape() && std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

Volume<float> noise(const Shape& shape, std::uint64_t seed, const Affine& affine = Affine::scaling({1.5, 1, 2.25})) {
  Random random(seed);
  return {normal_tensor<float>(shape, random), affine, nullptr};
}

}  // namespace

TEST_CASE("orientation: all 48 orders come back to the bit and keep every voxel in its place", "[imaging]") {
  const Volume<float> v = noise({3, 4, 5}, 1, slanted());
  for (const OrientationMap& map : all_orientations()) {
    const Volume<float> moved = reorient(v, map);
    const Volume<float> back = reorient(moved, map.inverse());
    CHECK(same_bits(back.voxels, v.voxels));
    CHECK(same_grid(back, v, 1e-9).same);
    const Affine to_old = reorient_map(map, size3(v.shape()));
    Index wrong = 0;
    const Size3 n = size3(moved.shape());
    for (Index i = 0; i < n[0]; ++i)
      for (Index j = 0; j < n[1]; ++j)
        for (Index k = 0; k < n[2]; ++k) {
          const Point3 old = to_old({double(i), double(j), double(k)});
          const Point3 here = moved.affine({double(i), double(j), double(k)}), there = v.affine(old);
          for (std::size_t a = 0; a < 3; ++a) wrong += std::abs(here[a] - there[a]) > 1e-9;
          wrong += moved.voxels.data()[(i * n[1] + j) * n[2] + k] !=
                   v.voxels.data()[(Index(old[0]) * 4 + Index(old[1])) * 5 + Index(old[2])];
        }
    CHECK(wrong == 0);
  }
}

TEST_CASE("orientation: any code is reached from any order, and refused if it is none", "[imaging]") {
  const Volume<float> v = noise({3, 4, 5}, 2, slanted());
  Index reached = 0;
  for (const OrientationMap& start : all_orientations()) {
    const Volume<float> from = reorient(v, start);
    for (const char* codes : {"RAS", "LPS", "PIR", "SRA", "ILP", "ASL"})
      reached += orientation(orient(from, codes).affine) == codes;
  }
  CHECK(reached == 48 * 6);
  CHECK(same_bits(orient(v, "RAS").voxels, to_ras(v).voxels));
  for (const char* wrong : {"", "RA", "RAP", "RLS", "ras", "RASS", "XYZ"})
    CHECK_THROWS_AS(orientation_map(v.affine, wrong), ConfigError);
}

TEST_CASE("chain: reordering, padding and cropping come back to the bit", "[imaging]") {
  Random random(11);
  const TransformChain chains[] = {
      {{steps::Orient{"PIR"}, steps::PadToCube{-7}}},
      {{steps::PadToAtLeast{{2, 9, 8}, 3}, steps::Orient{"LPS"}, steps::PadToCube{}}},
      {{steps::Orient{"RAS"}, steps::PadToAtLeast{{16, 16, 16}}, steps::Orient{"SAR"}, steps::Spacing{{2, 2, 2}}}},
  };
  for (const OrientationMap& map : all_orientations()) {
    Volume<float> v = reorient(noise({5, 6, 7}, 3, Affine::scaling({2, 2, 2}, {-3.3, 8.1, 0.7})), map);
    v.voxels.data()[3] = -0.0f;
    for (const TransformChain& chain : chains) {
      const auto done = apply(chain, v);
      CHECK(done.record.exact);
      CHECK(done.record.output.size == size3(done.volume.shape()));
      CHECK(done.record.output.affine == done.volume.affine);
      const auto back = done.record.restore_image(done.volume.voxels);
      CHECK(same_bits(back.voxels, v.voxels));
      CHECK(back.affine == v.affine);
    }
  }
}

TEST_CASE("chain: a crop to the foreground takes image and labels along, and back", "[imaging]") {
  Volume<float> v = noise({12, 10, 9}, 5, reorient(Affine::scaling({1, 2, 1}), {{1, 2, 0}, {true, false, false}}, {}));
  Volume<std::int32_t> labels{Tensor<std::int32_t>::zeros({12, 10, 9}), v.affine, nullptr};
  for (Index i = 0; i < v.voxels.size(); ++i) {
    const Index x = i / 90, y = i / 9 % 10, z = i % 9;
    const bool inside = x >= 3 && x < 8 && y >= 4 && y < 9 && z >= 2 && z < 5;
    v.voxels.data()[i] = inside ? std::abs(v.voxels.data()[i]) + 1 : -1.f;
    labels.voxels.data()[i] = inside ? std::int32_t(1 + i % 3) : 0;
  }
  const CropBox box = foreground_box(v, 0);
  CHECK(box.begin == Size3{3, 4, 2});
  CHECK(box.size == Size3{5, 5, 3});
  const CropBox wide = foreground_box(v, 0, 2);  // 2 mm are one or two voxels, as far as the volume goes
  for (std::size_t a = 0; a < 3; ++a) CHECK(wide.begin[a] < box.begin[a]);
  CHECK(foreground_box(v, 1e9).size == Size3{12, 10, 9});

  const TransformChain chain{{steps::Orient{"RAS"}, steps::CropForeground{0, 0}, steps::PadToCube{}}};
  const auto done = apply(chain, v);
  const auto moved = apply_labels(done.record, labels);
  REQUIRE(moved.volume.shape() == done.volume.shape());
  for (Index i = 0; i < done.volume.voxels.size(); ++i)
    CHECK((done.volume.voxels.data()[i] > 0) == (moved.volume.voxels.data()[i] > 0));
  CHECK(same_bits(moved.record.restore_labels(moved.volume.voxels).voxels, labels.voxels));
  const auto back = done.record.restore_image(done.volume.voxels);
  for (Index i = 0; i < v.voxels.size(); ++i) CHECK(back.voxels.data()[i] == std::max(v.voxels.data()[i], 0.f));

  CHECK(needs_image(chain));
  CHECK_THROWS_WITH(apply_labels(chain, labels), Contains("crop_foreground"));
  CHECK_THROWS_AS(apply_labels(done.record, Volume<std::int32_t>{Tensor<std::int32_t>::zeros({3, 3, 3}), {}, nullptr}),
                  ShapeError);
}

TEST_CASE("chain: the paper's preprocessing is a chain, and its words say so", "[imaging]") {
  const TransformChain chain = preprocessing_chain(PreprocessOptions{.size = 64, .spacing_mm = 1.5});
  CHECK(chain.text() ==
        "RAS order, 1.5 mm isotropic, intensities from minimum to maximum to [0, 1], padded to a cube, scaled to 64^3");
  const Volume<float> v = noise({9, 12, 7}, 6);
  const auto done = apply(chain, v);
  CHECK(done.volume.shape() == Shape{64, 64, 64});
  CHECK_FALSE(done.record.exact);
  const Preprocessing ahead = plan(chain, v.grid());
  CHECK(ahead.output.size == done.record.output.size);
  CHECK(ahead.output.affine == done.record.output.affine);
  CHECK(ahead.to_input == done.record.to_input);
  CHECK(apply(TransformChain{}, v).volume.voxels.data() == v.voxels.data());
  CHECK(TransformChain{}.text() == "nothing");
}

TEST_CASE("chain: intensity steps do what their functions do", "[imaging]") {
  Volume<float> v = noise({6, 6, 6}, 7);
  for (Index i = 0; i < v.voxels.size(); ++i) v.voxels.data()[i] = i % 3 ? 100 * v.voxels.data()[i] : 0.f;
  const auto after = [&](const TransformStep& step) { return apply({{step}}, v).volume.voxels; };
  CHECK(same_bits(after(steps::Minmax{}), minmax(v.voxels)));
  CHECK(same_bits(after(steps::Percentile{5, 95}), percentile_clip(v.voxels, 5, 95)));
  CHECK(same_bits(after(steps::Window{10, 60}), window(v.voxels, 10, 60)));
  CHECK(same_bits(after(steps::Ct{"brain"}), window(v.voxels, 40, 80)));
  CHECK(same_bits(after(steps::Zscore{}), zscore(v.voxels)));
  const Tensor<float> z = after(steps::Zscore{true}), c = after(steps::Clip{-20, 30});
  double sum = 0, squares = 0;
  for (Index i = 0; i < v.voxels.size(); ++i) {
    CHECK(((v.voxels.data()[i] == 0) == (z.data()[i] == 0)));
    sum += double(z.data()[i]);
    squares += double(z.data()[i]) * double(z.data()[i]);
    CHECK(c.data()[i] == std::clamp(v.voxels.data()[i], -20.f, 30.f));
  }
  CHECK(sum / 144 == Approx(0).margin(1e-6));
  CHECK(squares / 144 == Approx(1));
  for (const CtWindow& w : ct_windows) CHECK(apply({{steps::Ct{w.name}}}, v).volume.voxels.size() == 216);
}

TEST_CASE("chain: a step out of its bounds is named with its field", "[imaging][errors]") {
  const Volume<float> v = noise({4, 4, 4}, 8);
  const auto refused = [&](const TransformStep& step, const char* words) {
    CHECK_THROWS_WITH(apply({{steps::Minmax{}, step}}, v), Contains("step 2") && Contains(words));
  };
  refused(steps::Spacing{{1, 0, 1}}, "(spacing): mm is 0, expected > 0");
  refused(steps::Spacing{{1, NAN, 1}}, "mm is nan");
  refused(steps::Resize{{4, 0, 4}}, "(resize): size is 0");
  refused(steps::FitCube{1 << 20}, "(fit_cube): size is 1048576");
  refused(steps::FitCube{8, Sampling::label_linear}, "sampling is label_linear");
  refused(steps::Window{0, -1}, "(window): width is -1");
  refused(steps::Ct{"soft tissue"}, "soft_tissue");
  refused(steps::Percentile{60, 40}, "(percentile): low is 60");
  refused(steps::Percentile{-1, 40}, "low is -1");
  refused(steps::CropForeground{0, -2}, "margin_mm is -2");
  refused(steps::Clip{1, 1}, "(clip): low is 1");
  refused(steps::Orient{"RAL"}, "(orient)");
}
