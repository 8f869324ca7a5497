#include "m3i/data/transform.hpp"

#include <set>

#include "catch.hpp"
#include "m3i/data/loader.hpp"

using namespace m3i;
using Labels = Tensor<std::uint8_t>;

/// A smooth blob off the centre, and labels that follow it.
static Tensor<float> blob(const Shape& shape) {
  Tensor<float> t(shape);
  const Size3 n = size3(shape);
  for (Index i = 0; i < t.size(); ++i) {
    const double x = double(i / (n[1] * n[2])) / double(n[0]) - 0.4, y = double(i / n[2] % n[1]) / double(n[1]) - 0.5,
                 z = double(i % n[2]) / double(n[2]) - 0.55;
    t.data()[i] = float(std::exp(-20 * (x * x + 2 * y * y + 0.5 * z * z)));
  }
  return t;
}
static Labels labels_of(const Tensor<float>& image) {
  Labels t(image.shape());
  for (Index i = 0; i < t.size(); ++i)
    t.data()[i] = std::uint8_t(image.data()[i] > 0.5f ? 7 : image.data()[i] > 0.2f ? 3 : 0);
  return t;
}
static AugmentedSample run(const AugmentOptions& o, Index item = 0, const Shape& shape = {16, 16, 16}) {
  const auto image = blob(shape);
  return augment(image, labels_of(image), o, 0, item);
}

TEST_CASE("augment: every geometric effect at zero strength gives the bits back", "[fast]") {
  const auto image = blob({9, 16, 7});
  for (int effect = 0; effect < 5; ++effect) {
    AugmentOptions o = augment_none();
    if (effect == 0) o.rotate = {1, 0, 0};
    if (effect == 1) o.zoom = {1, 1, 1};
    if (effect == 2) o.shear = {1, 0, 0};
    if (effect == 3) o.translate = {1, 0, 0};
    if (effect == 4) o.elastic = {1, 0, 0};
    const auto out = augment(image, labels_of(image), o, 0, 0);
    CAPTURE(effect);
    CHECK(out.image.to_vector() == image.to_vector());
    CHECK(out.labels->to_vector() == labels_of(image).to_vector());
  }
}

TEST_CASE("augment: four quarter turns are none, and two are two flips", "[fast]") {
  const auto image = blob({6, 5, 6});
  const auto turned = [&](const Tensor<float>& in, int quarters) {
    detail::VoxelMap map;
    map.size = size3(in.shape());
    map.turn(0, 2, quarters, map.size);
    return detail::move_voxels(in, map);
  };
  const auto once = turned(image, 1);
  CHECK(once.to_vector() != image.to_vector());
  CHECK(turned(turned(turned(once, 1), 1), 1).to_vector() == image.to_vector());
  CHECK(turned(image, 4).to_vector() == image.to_vector());
  detail::VoxelMap flips;
  flips.size = size3(image.shape());
  flips.start = {5, 0, 5};
  flips.step = {-1, 1, -1};
  CHECK(turned(image, 2).to_vector() == detail::move_voxels(image, flips).to_vector());
}

TEST_CASE("augment: quarter turns, flips and crops only move voxels, the same ones of image and labels", "[fast]") {
  AugmentOptions o = augment_none();
  o.flip = {0.5, 0.5, 0.5};
  o.turn = 1;
  o.crop = {5, 6, 4};
  Tensor<float> image({8, 8, 8});
  Labels labels(image.shape());
  for (Index i = 0; i < 512; ++i) image.data()[i] = float(i), labels.data()[i] = std::uint8_t(i);
  std::set<std::vector<float>> seen;
  for (Index item = 0; item < 30; ++item) {
    const auto out = augment(image, labels, o, 0, item);
    CHECK(out.image.shape() == Shape{5, 6, 4});
    Index alike = 0;
    for (Index i = 0; i < 120; ++i) alike += std::uint8_t(Index(out.image.data()[i])) == out.labels->data()[i];
    CHECK(alike == 120);
    seen.insert(out.image.to_vector());
  }
  CHECK(seen.size() == 30);
  CHECK(augment(image, labels, o, 0, 0, Size3{3, 2, 4}).image.size() == 120);
  CHECK_THROWS_WITH(augment(image, labels, o, 0, 0, Size3{4, 2, 4}), Catch::Contains("does not lie in it"));
}

TEST_CASE("augment: half turns about all three axes are none", "[fast]") {
  const auto image = blob({8, 8, 8});
  detail::GeometryPlan plan;
  plan.moved.size = {8, 8, 8};
  AugmentOptions o = augment_none();
  o.rotate = {1, 180, 180};
  detail::draw_interpolation(plan, o, Random(0));
  const auto out = detail::warp_image(image, plan, 0);
  double worst = 0;
  for (Index i = 0; i < 512; ++i) worst = std::max(worst, std::abs(double(out.data()[i]) - double(image.data()[i])));
  CHECK(worst < 1e-6);
}

TEST_CASE("augment: interpolated labels stay a subset and follow the image", "[fast]") {
  for (int effect = 0; effect < 6; ++effect) {
    AugmentOptions o = augment_none();
    if (effect == 0 || effect == 5) o.rotate = {1, -30, 30};
    if (effect == 1 || effect == 5) o.zoom = {1, 0.7, 1.4};
    if (effect == 2 || effect == 5) o.shear = {1, -0.2, 0.2};
    if (effect == 3 || effect == 5) o.translate = {1, -0.1, 0.1};
    if (effect == 4 || effect == 5) o.elastic = {1, 1, 2}, o.elastic_spacing = 6;
    for (Index item = 0; item < 4; ++item) {
      const auto out = run(o, item);
      CAPTURE(effect, item);
      CHECK(out.image.to_vector() != blob({16, 16, 16}).to_vector());
      const Labels drawn = labels_of(out.image);
      Index agree = 0;
      std::set<int> values;
      for (Index i = 0; i < drawn.size(); ++i) {
        values.insert(out.labels->data()[i]);
        agree += out.labels->data()[i] == drawn.data()[i];
      }
      CHECK(values == std::set<int>{0, 3, 7});
      CHECK(agree > 3800);  // of 4096: only voxels at the edges of labels differ
      const IntensityStats range = intensity_stats(out.image);
      CHECK((range.min >= 0 && range.max <= 1));
    }
  }
}

TEST_CASE("augment: a crop is moved about its own middle, and sees what is around it", "[fast]") {
  AugmentOptions o = augment_none();
  o.crop = {5, 5, 5};
  o.zoom = {1, 0.5, 0.5};
  const auto image = blob({16, 16, 16});
  const auto out = augment(image, labels_of(image), o, 0, 0, Size3{4, 6, 5}).image;
  const auto at = [&](Index i, Index j, Index k) { return image.data()[(i * 16 + j) * 16 + k]; };
  CHECK(out.data()[62] == at(6, 8, 7));
  CHECK(out.data()[0] == at(2, 4, 3));
  CHECK(out.data()[124] == at(10, 12, 11));
}

TEST_CASE("augment: reading only the box that is needed changes nothing", "[fast]") {
  AugmentOptions o = augment_none();
  o.crop = {6, 5, 7};
  o.flip = {0.5, 0.5, 0.5}, o.turn = 0.5;
  o.rotate = {0.5, -30, 30}, o.zoom = {0.5, 0.7, 1.4}, o.translate = {0.3, -0.2, 0.2}, o.elastic = {0.5, 0, 3};
  const auto image = blob({20, 20, 20});
  for (Index item = 0; item < 20; ++item) {
    const auto out = augment(image, labels_of(image), o, 0, item).image;
    const Size3 begin{7, 8, 6};
    const auto crop = augment(image, labels_of(image), o, 0, item, begin);
    CHECK(crop.image.shape() == out.shape());
    // The same voxels somewhere else in a larger volume, so that another box is read.
    Tensor<float> larger = Tensor<float>::full({30, 30, 30}, 0);
    for (Index i = 0; i < 20; ++i)
      for (Index j = 0; j < 20; ++j)
        for (Index k = 0; k < 20; ++k)
          larger.data()[((i + 5) * 30 + j + 5) * 30 + k + 5] = image.data()[(i * 20 + j) * 20 + k];
    AugmentOptions straight = o;
    straight.turn = 0;
    const auto a = augment(image, {}, straight, 0, item, begin).image;
    const auto b = augment(larger, {}, straight, 0, item, Size3{12, 13, 11}).image;
    double worst = 0;
    for (Index v = 0; v < a.size(); ++v) worst = std::max(worst, std::abs(double(a.data()[v]) - double(b.data()[v])));
    CHECK(worst < 1e-6);
  }
}

TEST_CASE("augment: zoom enlarges and translation moves", "[fast]") {
  const auto volume = [](const AugmentedSample& s) {
    return std::count(s.labels->span().begin(), s.labels->span().end(), std::uint8_t(7));
  };
  AugmentOptions o = augment_none();
  const auto before = double(volume(run(o)));
  o.zoom = {1, 1.3, 1.3};
  CHECK(double(volume(run(o))) == Approx(before * 1.3 * 1.3 * 1.3).epsilon(0.2));
  o = augment_none();
  o.translate = {1, 0.25, 0.25};
  const auto moved = run(o).image;
  const auto image = blob({16, 16, 16});
  CHECK(moved.data()[(4 * 16 + 4) * 16 + 4] == image.data()[(8 * 16 + 8) * 16 + 8]);
  CHECK(moved.data()[4095] < 0.01f);
}

TEST_CASE("augment: intensity effects do what they say and leave labels alone", "[fast]") {
  const auto image = blob({16, 16, 16});
  const IntensityStats before = intensity_stats(image);
  const auto stats = [&](auto&& set) {
    AugmentOptions o = augment_none();
    set(o);
    const auto out = run(o);
    CHECK(out.labels->to_vector() == labels_of(image).to_vector());
    CHECK(out.image.to_vector() != image.to_vector());
    return intensity_stats(out.image);
  };
  const auto noisy = stats([](auto& o) { o.noise_variance = {1, 0.5, 0.5}; });
  CHECK(noisy.deviation == Approx(before.deviation * std::sqrt(1.5)).epsilon(0.05));
  const auto blurred = stats([](auto& o) { o.blur = {1, 2, 2}; });
  CHECK(blurred.mean == Approx(before.mean).epsilon(0.1));
  CHECK(blurred.max < before.max);
  CHECK(stats([](auto& o) { o.brightness = {1, 0.5, 0.5}; }).mean == Approx(before.mean / 2));
  const auto contrast = stats([](auto& o) { o.contrast = {1, 1.25, 1.25}; });
  CHECK((contrast.min == before.min && contrast.max == before.max && contrast.deviation > before.deviation));
  CHECK(stats([](auto& o) { o.low_resolution = {1, 0.5, 0.5}; }).mean == Approx(before.mean).epsilon(0.1));
  for (const bool inverted : {false, true}) {
    const auto gamma = stats([&](auto& o) { (inverted ? o.gamma_inverted : o.gamma) = {1, 1.4, 1.4}; });
    CHECK(gamma.mean == Approx(before.mean).epsilon(1e-4));
    CHECK(gamma.deviation == Approx(before.deviation).epsilon(1e-4));
  }
  const auto bias = stats([](auto& o) { o.bias = {1, 0.3, 0.3}; });
  CHECK(bias.min == Approx(before.min).margin(1e-6));
}

TEST_CASE("augment: the presets run, and one loader thread gives the same stream as two and eight", "[fast]") {
  CHECK(run(augment_none()).image.to_vector() == blob({16, 16, 16}).to_vector());
  AugmentOptions all = augment_nnunet();
  all.seed = 5;
  all.turn = 0.5;
  all.shear = {0.5, -0.1, 0.1};
  all.elastic = {0.5, 0, 2};
  all.bias = {0.5, 0, 0.3};
  all.noise = 0.01;
  const auto image = blob({14, 14, 12});
  const auto labels = labels_of(image);
  std::vector<float> expected;
  for (const int threads : {0, 1, 2, 8}) {
    Loader<AugmentedSample> loader(5,
                                   [&](const LoaderPlace& p) { return augment(image, labels, all, p.epoch, p.item); },
                                   {.threads = threads, .ahead = 6, .seed = 1});
    std::vector<float> stream;
    for (int i = 0; i < 12; ++i) {
      const auto sample = loader.next().value;
      for (const float v : sample.image.span()) stream.push_back(v);
      for (const std::uint8_t v : sample.labels->span()) stream.push_back(float(v));
    }
    if (expected.empty()) expected = stream;
    CAPTURE(threads);
    CHECK(stream == expected);
  }
}

TEST_CASE("augment: effects out of range are refused by name", "[fast]") {
  const auto refuses = [](auto&& set, const std::string& name) {
    AugmentOptions o = augment_none();
    set(o);
    CHECK_THROWS_WITH(run(o), Catch::Contains("augment: " + name));
    CHECK_THROWS_AS(run(o), ConfigError);
  };
  refuses([](auto& o) { o.rotate = {1.5, 0, 1}; }, "rotate probability");
  refuses([](auto& o) { o.zoom = {1, 0, 1}; }, "zoom from 0 to 1");
  refuses([](auto& o) { o.gamma = {1, 2, 1}; }, "gamma from 2 to 1");
  refuses([](auto& o) { o.blur = {1, 0, std::nan("")}; }, "blur");
  refuses([](auto& o) { o.elastic = {1, 0, 9}; }, "elastic from 0 to 9");
  refuses([](auto& o) { o.elastic_spacing = 0; }, "elastic_spacing");
  refuses([](auto& o) { o.turn = -1; }, "turn");
}
