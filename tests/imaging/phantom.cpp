#include "m3i/imaging/phantom.hpp"

#include <chrono>

#include "catch.hpp"

using namespace m3i;

static PhantomOptions options(BodyPart body, Modality modality = Modality::ct) {
  PhantomOptions o;
  o.body = body;
  o.modality = modality;
  return o;
}
static std::vector<Index> counts(const PhantomSubject& p) {
  std::vector<Index> n(p.structures.size());
  for (const auto l : p.labels.voxels.span()) ++n.at(l);
  return n;
}
static bool same(const PhantomSubject& a, const PhantomSubject& b) {
  return a.image.voxels.to_vector() == b.image.voxels.to_vector() &&
         a.labels.voxels.to_vector() == b.labels.voxels.to_vector() && a.image.affine == b.image.affine;
}

TEST_CASE("phantom: every body part has at least six structures, each present in every subject", "[fast]") {
  for (const auto body : {BodyPart::head, BodyPart::chest, BodyPart::abdomen})
    for (const auto modality : {Modality::ct, Modality::mr_t1, Modality::mr_t2})
      for (Index subject = 0; subject < 6; ++subject) {
        auto o = options(body, modality);
        o.disease = true;
        const auto p = make_phantom(11, subject, o);
        CAPTURE(p.id);
        REQUIRE(p.structures.size() >= 7);
        const auto n = counts(p);
        for (std::size_t l = 1; l < n.size(); ++l) {
          CAPTURE(p.structures[l]);
          CHECK(n[l] >= 4);
        }
        CHECK(p.image.affine == p.labels.affine);
        CHECK(orientation(p.image.affine) == "RAS");
        for (const float v : p.image.voxels.span()) {
          if (!(std::isfinite(v) && v >= (modality == Modality::ct ? -1024.0f : 0.0f))) FAIL("intensity " << v);
        }
      }
}

TEST_CASE("phantom: a pure function of seed, subject and options, for any number of threads", "[fast]") {
  const auto o = options(BodyPart::abdomen, Modality::mr_t2);
  const auto p = make_phantom(5, 3, o);
  CHECK(same(p, make_phantom(5, 3, o)));
  CHECK_FALSE(same(p, make_phantom(5, 4, o)));
  CHECK_FALSE(same(p, make_phantom(6, 3, o)));
  const int threads = thread_count();
  set_thread_count(1);
  CHECK(same(p, make_phantom(5, 3, o)));
  set_thread_count(threads);
}

TEST_CASE("phantom: noise and modality leave the anatomy alone", "[fast]") {
  auto o = options(BodyPart::chest);
  const auto ct = make_phantom(5, 0, o);
  o.noise = 0;
  const auto quiet = make_phantom(5, 0, o);
  CHECK(ct.labels.voxels.to_vector() == quiet.labels.voxels.to_vector());
  o.modality = Modality::mr_t1;
  CHECK(make_phantom(5, 0, o).labels.voxels.to_vector() == quiet.labels.voxels.to_vector());
  double squares = 0;
  Index n = 0;
  for (Index i = 0; i < ct.image.voxels.size(); ++i)
    if (ct.labels.voxels.data()[i] == 7) {  // liver: far above the lower end of the scale
      const double d = double(ct.image.voxels.data()[i]) - double(quiet.image.voxels.data()[i]);
      squares += d * d;
      ++n;
    }
  CHECK(std::sqrt(squares / double(n)) == Approx(18).epsilon(0.05));
}

TEST_CASE("phantom: the disease changes what it says, and nothing else", "[fast]") {
  for (Index subject = 0; subject < 4; ++subject) {
    auto o = options(BodyPart::head, Modality::mr_t1);
    o.disease = false;
    const auto healthy = make_phantom(3, subject, o);
    o.disease = true;
    const auto ill = make_phantom(3, subject, o);
    CHECK(healthy.finding.empty());
    CHECK(ill.finding == "enlarged ventricles");
    const double ratio = double(counts(ill)[4]) / double(counts(healthy)[4]);
    CHECK(ratio > 2);  // radii times 1.45: up to 3 times the volume
    CHECK(ratio < 3.6);
    CHECK(counts(ill)[1] == counts(healthy)[1]);  // the skull

    auto l = options(BodyPart::abdomen);
    l.disease = false;
    const auto sound = make_phantom(3, subject, l);
    l.disease = true;
    const auto sick = make_phantom(3, subject, l);
    CHECK(counts(sound)[9] == 0);
    CHECK(counts(sick)[9] > 0);
    for (Index i = 0; i < sick.labels.voxels.size(); ++i) {
      const int was = sound.labels.voxels.data()[i], is = sick.labels.voxels.data()[i];
      if (was != is && is != 9) FAIL("voxel " << i << " changed from " << was << " to " << is);
    }
  }
}

TEST_CASE("phantom: subjects 2n and 2n+1 are one healthy and one diseased", "[fast]") {
  PhantomOptions o;
  o.size = {16, 16, 16};
  Index first = 0;
  for (Index pair = 0; pair < 20; ++pair) {
    const bool a = make_phantom(9, 2 * pair, o).disease, b = make_phantom(9, 2 * pair + 1, o).disease;
    CHECK(a != b);
    first += a;
  }
  CHECK(first > 3);
  CHECK(first < 17);
}

TEST_CASE("phantom: body part and modality are drawn when not given", "[fast]") {
  PhantomOptions o;
  o.size = {16, 16, 16};
  std::vector<int> bodies(3), modalities(3);
  for (Index s = 0; s < 60; ++s) {
    const auto p = make_phantom(1, s, o);
    ++bodies[std::size_t(p.body)];
    ++modalities[std::size_t(p.modality)];
  }
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(bodies[i] > 8);
    CHECK(modalities[i] > 8);
  }
}

TEST_CASE("phantom: random orientation is undone by reorientation to RAS", "[fast]") {
  auto o = options(BodyPart::head);
  const auto plain = make_phantom(4, 2, o);
  o.random_orientation = true;
  const auto turned = make_phantom(4, 2, o);
  const auto back = to_ras(turned.labels);
  CHECK(back.voxels.to_vector() == plain.labels.voxels.to_vector());
  for (int i = 0; i < 16; ++i) CHECK(back.affine.m[std::size_t(i)] == Approx(plain.labels.affine.m[std::size_t(i)]));
  o.random_spacing = true;
  bool thick = false;
  for (Index s = 0; s < 4; ++s) {
    const auto p = make_phantom(4, s, o);
    const Point3 mm = spacing_mm(p.image.affine);
    const double ratio = std::max({mm[0], mm[1], mm[2]}) / std::min({mm[0], mm[1], mm[2]});
    CHECK(ratio <= 3.01);
    thick = thick || ratio > 1.2;
  }
  CHECK(thick);
}

TEST_CASE("phantom: sizes need not be cubes", "[fast]") {
  auto o = options(BodyPart::chest);
  o.size = {32, 40, 17};
  CHECK(make_phantom(1, 1, o).image.shape() == Shape{32, 40, 17});
}

TEST_CASE("phantom: options out of range are refused", "[fast]") {
  PhantomOptions o;
  o.size = {48, 8, 48};
  CHECK_THROWS_WITH(make_phantom(1, 0, o), Catch::Contains("size 8"));
  o.size = {100000, 48, 48};
  CHECK_THROWS_AS(make_phantom(1, 0, o), ConfigError);
  o = {};
  o.noise = -1;
  CHECK_THROWS_WITH(make_phantom(1, 0, o), Catch::Contains("-1"));
  o = {};
  o.bias = std::nan("");
  CHECK_THROWS_AS(make_phantom(1, 0, o), ConfigError);
  o = {};
  o.effect.ventricle_factor = 9;
  CHECK_THROWS_WITH(make_phantom(1, 0, o), Catch::Contains("ventricle factor 9"));
  o = {};
  o.effect.lesion_mm[0] = 40;
  CHECK_THROWS_AS(make_phantom(1, 0, o), ConfigError);
  CHECK_THROWS_AS(make_phantom(1, -1), ConfigError);
}

TEST_CASE("solids: painted volumes agree with their formulas", "[fast]") {
  const Size3 n{60, 60, 60};
  const auto image = Tensor<float>::zeros(shape_of(n));
  const auto labels = Tensor<std::uint8_t>::zeros(shape_of(n));
  const auto place = [](Index i, Index j, Index k) { return Point3{double(i) - 30, double(j) - 30, double(k) - 30}; };
  const auto volume = [&](const Solid& s) {
    labels.zero();
    paint_solids({s}, place, 1, image, labels);
    Index count = 0;
    for (const auto l : labels.span()) count += l;
    return double(count);
  };
  const double pi = 3.14159265358979;
  CHECK(volume(Solid::ellipsoid(1, 1, {0, 0, 0}, {20, 10, 15})) == Approx(4 * pi / 3 * 3000).epsilon(0.02));
  CHECK(volume(Solid::ellipsoid(1, 1, {0, 0, 0}, {20, 10, 15}).turn(0.3, 1, -2)) ==
        Approx(4 * pi / 3 * 3000).epsilon(0.02));
  CHECK(volume(Solid::capsule(1, 1, {-10, 0.3, 0.2}, {10, 0.3, 0.2}, 8)) ==
        Approx(pi * 64 * 20 + 4 * pi / 3 * 512).epsilon(0.02));
  Solid late = Solid::ellipsoid(1, 1, {0, 0, 0}, {5, 5, 5});
  late.within = 0;
  CHECK_THROWS_AS(paint_solids({late}, place, 1, image, labels), ShapeError);
  CHECK_THROWS_AS(paint_solids({}, place, 0, image, labels), ShapeError);
  CHECK_THROWS_AS(paint_solids({}, place, 1, image, Tensor<std::uint8_t>::zeros({2, 2, 2})), ShapeError);
}
