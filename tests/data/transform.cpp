#include "m3i/data/transform.hpp"

#include "catch.hpp"

using namespace m3i;
using Labels = Tensor<std::uint8_t>;

static Tensor<float> ramp(const Shape& shape) {
  Tensor<float> t(shape);
  float v = 0;
  for (auto& x : t.span()) x = v++;
  return t;
}
static Labels codes(const Shape& shape) {
  Labels t(shape);
  Index v = 0;
  for (auto& x : t.span()) x = std::uint8_t(v++);
  return t;
}
static AugmentOptions still() {
  AugmentOptions o;
  o.flip = {0, 0, 0};
  o.scale = o.shift = o.noise = 0;
  return o;
}

TEST_CASE("augment: with everything off the sample is copied", "[fast]") {
  const auto x = ramp({3, 4, 5});
  const auto out = augment(x, codes({3, 4, 5}), still(), 0, 0);
  CHECK(out.image.to_vector() == x.to_vector());
  CHECK(out.labels->to_vector() == codes({3, 4, 5}).to_vector());
  CHECK_FALSE(out.image.shares_memory_with(x));
  CHECK_FALSE(augment(x, {}, still(), 0, 0).labels.has_value());
}

TEST_CASE("augment: labels move with the image", "[fast]") {
  AugmentOptions o = still();
  o.flip = {0.5, 0.5, 0.5};
  o.crop = {3, 0, 4};
  bool moved = false;
  for (Index item = 0; item < 40; ++item) {
    const auto out = augment(ramp({5, 6, 7}), codes({5, 6, 7}), o, 1, item);
    REQUIRE(out.image.shape() == Shape{3, 6, 4});
    for (Index i = 0; i < out.image.size(); ++i) CHECK(Index(out.image.data()[i]) == Index(out.labels->data()[i]));
    moved = moved || out.image.data()[0] != 0;
  }
  CHECK(moved);
}

TEST_CASE("augment: a certain flip reverses the axis", "[fast]") {
  AugmentOptions o = still();
  o.flip = {0, 0, 1};
  CHECK(augment(Tensor<float>::from({1, 2, 3}, {1, 1, 3}), {}, o, 0, 0).image.to_vector() ==
        std::vector<float>{3, 2, 1});
}

TEST_CASE("augment: a function of seed, epoch and item, for any number of threads", "[fast]") {
  const auto x = ramp({20, 30, 40});
  const AugmentOptions o;
  const auto a = augment(x, {}, o, 3, 4).image.to_vector();
  CHECK(a == augment(x, {}, o, 3, 4).image.to_vector());
  CHECK(a != augment(x, {}, o, 3, 5).image.to_vector());
  CHECK(a != augment(x, {}, o, 4, 4).image.to_vector());
  AugmentOptions other;
  other.seed = 1;
  CHECK(a != augment(x, {}, other, 3, 4).image.to_vector());
  const int threads = thread_count();
  set_thread_count(1);
  CHECK(a == augment(x, {}, o, 3, 4).image.to_vector());
  set_thread_count(threads);
}

TEST_CASE("augment: noise has the deviation asked for, scale and shift stay in range", "[fast]") {
  AugmentOptions o = still();
  o.noise = 0.25;
  const auto noisy = augment(Tensor<float>::zeros({40, 40, 40}), {}, o, 0, 0).image;
  double mean = 0, squares = 0;
  for (const float v : noisy.span()) mean += double(v) / 64000, squares += double(v) * double(v) / 64000;
  CHECK(std::abs(mean) < 0.005);
  CHECK(std::sqrt(squares) == Approx(0.25).epsilon(0.02));
  o = still();
  o.scale = 0.2;
  o.shift = 0.1;
  for (Index item = 0; item < 50; ++item) {
    const auto out = augment(Tensor<float>::from({0, 1}, {1, 1, 2}), {}, o, 0, item).image.to_vector();
    CHECK(std::abs(out[0]) <= 0.1f);
    CHECK(std::abs(out[1] - out[0] - 1) <= 0.2001f);
  }
}

TEST_CASE("augment: bad input is refused", "[fast]") {
  const auto x = ramp({3, 4, 5});
  AugmentOptions o = still();
  o.crop = {4, 0, 0};
  CHECK_THROWS_WITH(augment(x, {}, o, 0, 0), Catch::Contains("crop of 4") && Catch::Contains("[3, 4, 5]"));
  o.crop = {-1, 0, 0};
  CHECK_THROWS_AS(augment(x, {}, o, 0, 0), ShapeError);
  CHECK_THROWS_WITH(augment(x, codes({3, 4, 6}), still(), 0, 0), Catch::Contains("[3, 4, 6]"));
  CHECK_THROWS_AS(augment(ramp({3, 4}), {}, still(), 0, 0), ShapeError);
  o = still();
  o.flip[1] = 1.5;
  CHECK_THROWS_AS(augment(x, {}, o, 0, 0), ConfigError);
  o = still();
  o.noise = std::nan("");
  CHECK_THROWS_AS(augment(x, {}, o, 0, 0), ConfigError);
  o = still();
  o.scale = -0.1;
  CHECK_THROWS_AS(augment(x, {}, o, 0, 0), ConfigError);
}
