#pragma once
/// The anatomy of the phantoms: head, chest and abdomen as lists of solids, in mm, with each subject's own variation.
///
/// Coordinates are RAS: +x is the patient's right, +y anterior, +z superior. Sizes are those of an adult, rounded.

#include <string>
#include <vector>

#include "m3i/core/random.hpp"
#include "m3i/imaging/solids.hpp"

namespace m3i {
inline namespace M3I_ABI {

enum class BodyPart { head, chest, abdomen };
enum class Modality { ct, mr_t1, mr_t2 };

inline const char* name(BodyPart part) {
  return part == BodyPart::head ? "head" : part == BodyPart::chest ? "chest" : "abdomen";
}
/// "CT", "T1-weighted MRI", "T2-weighted MRI"
inline const char* name(Modality modality) {
  return modality == Modality::ct ? "CT" : modality == Modality::mr_t1 ? "T1-weighted MRI" : "T2-weighted MRI";
}

/// Names of the labels of a body part; entry 0 is the background.
inline const std::vector<std::string>& structure_names(BodyPart part) {
  static const std::vector<std::string> head{"background",   "skull",      "grey matter",
                                             "white matter", "ventricles", "deep grey nuclei",
                                             "cerebellum",   "brainstem",  "eyes"};
  static const std::vector<std::string> chest{"background", "lungs", "heart", "aorta", "airways",
                                              "spine",      "ribs",  "liver", "nodule"};
  static const std::vector<std::string> abdomen{"background", "liver", "spleen", "kidneys", "pancreas",
                                                "stomach",    "aorta", "spine",  "lungs",   "lesion"};
  return part == BodyPart::head ? head : part == BodyPart::chest ? chest : abdomen;
}

/// What the disease flag changes: in the head a structure's size, elsewhere a mass is added. "Known effect" means that
/// these are the only differences in distribution between healthy and diseased subjects.
struct DiseaseEffect {
  double ventricle_factor = 1.45;  ///< head: all radii of the ventricles times this
  double nodule_mm[2] = {11, 19};  ///< chest: radius of the nodule, uniform
  double lesion_mm[2] = {13, 25};  ///< abdomen: radius of the liver lesion, uniform
};

namespace detail {

enum class Tissue {
  lung,
  fat,
  muscle,
  bone,
  marrow,
  blood,
  heart,
  liver,
  spleen,
  kidney,
  pancreas,
  stomach,
  gas,
  fluid,
  grey,
  deep_grey,
  white,
  nodule,
  lesion,
  count
};

/// CT in Hounsfield units (portal-venous contrast), MR in a scale of 0 to 1000.
inline double tissue_value(Tissue tissue, Modality modality) {
  struct Row {
    double ct, t1, t2;
  };
  static constexpr Row table[] = {{-840, 45, 40}, {-95, 900, 620}, {55, 360, 230},  {750, 90, 70},   {320, 420, 260},
                                  {190, 230, 90}, {115, 380, 300}, {112, 480, 250}, {135, 370, 470}, {195, 330, 560},
                                  {92, 520, 360}, {22, 210, 700},  {-950, 15, 15},  {8, 150, 950},   {39, 500, 520},
                                  {41, 560, 440}, {28, 700, 380},  {70, 340, 480},  {48, 270, 640}};
  static_assert(sizeof table / sizeof table[0] == std::size_t(Tissue::count));
  const Row& row = table[int(tissue)];
  return modality == Modality::ct ? row.ct : modality == Modality::mr_t1 ? row.t1 : row.t2;
}

/// Collects the solids of one subject; every size and place that goes through it varies a little between subjects.
/// Draws happen one at a time, never as two arguments of a call: their order would differ between compilers.
class Anatomist {
 public:
  Anatomist(const Random& random, Modality modality) : random_(random) {
    for (int t = 0; t < int(Tissue::count); ++t) {
      const double value = tissue_value(Tissue(t), modality);
      const double change = random_.normal();
      values_.push_back(modality == Modality::ct ? value + 4 * change : value * (1 + 0.05 * change));
    }
  }

  std::vector<Solid> solids;

  double between(double low, double high) { return random_.uniform(low, high); }
  double value(Tissue tissue) const { return values_[std::size_t(tissue)]; }
  /// A size of this subject: within about `share` of the usual one.
  double vary(double usual, double share = 0.07) {
    return usual * (1 + share * std::clamp(random_.normal(), -2.0, 2.0));
  }
  /// A place of this subject: within some mm of the usual one.
  Point3 shift(const Point3& usual, double mm) {
    return {usual[0] + mm * random_.uniform(-1, 1), usual[1] + mm * random_.uniform(-1, 1),
            usual[2] + mm * random_.uniform(-1, 1)};
  }

  /// Adds an ellipsoid and returns it for further shaping; valid until the next one is added.
  Solid& ellipsoid(int label,
                   Tissue tissue,
                   const Point3& centre,
                   const Point3& radius,
                   double place_mm = 3,
                   double size_share = 0.06) {
    const double all = vary(1, size_share);  // one factor for the whole, a smaller one for each axis
    const Point3 r{vary(radius[0] * all, size_share / 2), vary(radius[1] * all, size_share / 2),
                   vary(radius[2] * all, size_share / 2)};
    solids.push_back(Solid::ellipsoid(std::uint8_t(label), value(tissue), shift(centre, place_mm), r));
    return solids.back();
  }
  /// Adds a frame of the body, whose place and size are the caller's: other solids are cut with it.
  int frame(int label, Tissue tissue, const Point3& centre, const Point3& radius) {
    solids.push_back(Solid::ellipsoid(std::uint8_t(label), value(tissue), centre, radius));
    return last();
  }
  Solid& capsule(int label, Tissue tissue, const Point3& from, const Point3& to, double radius) {
    solids.push_back(Solid::capsule(std::uint8_t(label), value(tissue), from, to, radius));
    return solids.back();
  }
  int last() const { return int(solids.size()) - 1; }

 private:
  Random random_;
  std::vector<double> values_;
};

inline constexpr int label_below = Solid::keep_label;

/// The ventricles' radii times `enlarged` (1 in health).
inline std::vector<Solid> head_solids(const Random& random, Modality modality, double enlarged) {
  Anatomist a(random, modality);
  using T = Tissue;
  // Scalp, face and neck, then the skull as a closed shell.
  a.frame(0, T::muscle, {0, -22, -85}, {56, 60, 80});
  a.frame(0, T::muscle, {0, 38, -58}, {a.vary(58), 56, 62});
  a.frame(0, T::fat, {0, -3, 13}, {77, 97, 88});
  a.frame(0, T::muscle, {0, 96, -34}, {11, 15, 17});
  const double thick = a.vary(7, 0.15);
  const Point3 brain{0, -3, 16}, hull{64, 84, 74};
  a.frame(1, T::bone, brain, {hull[0] + thick, hull[1] + thick, hull[2] + thick});
  const int inside = a.frame(0, T::fluid, brain, hull);
  // Cerebrum: a folded grey mantle around folded white matter, cut off below by the base of the skull.
  const double fold = a.between(24, 30), sulcus = a.vary(9, 0.2);
  Solid grey = Solid::ellipsoid(2, a.value(T::grey), brain, {hull[0] - 1.5, hull[1] - 1.5, hull[2] - 1.5});
  grey.fold_mm = sulcus;
  grey.fold_from = 0.5;
  grey.fold_wavelength_mm = fold;
  a.solids.push_back(grey);
  Solid white = Solid::ellipsoid(3, a.value(T::white), brain, {hull[0] - 2, hull[1] - 2, hull[2] - 2});
  white.fold_mm = a.vary(6, 0.1);
  white.fold_from = -2;
  white.fold_wavelength_mm = fold;
  a.solids.push_back(white);
  a.solids.push_back(Solid::ellipsoid(0, a.value(T::fluid), {0, -3, 60}, {a.between(1.2, 2.6), 78, 58}));  // fissure
  a.ellipsoid(3, T::white, {0, -2, 27}, {20, 36, 11}, 1.5);  // corpus callosum
  // The base of the skull rises under the frontal lobes; behind it is room for the cerebellum.
  a.ellipsoid(1, T::bone, {0, 44, -60}, {58, 51, 37}, 2, 0.03);
  a.ellipsoid(0, T::muscle, {0, 47, -63}, {56, 50, 36}, 1, 0.02);
  a.capsule(0, T::gas, {0, 74, -46}, {0, 30, -50}, a.vary(11, 0.1));  // nose and sinuses
  a.capsule(0, T::gas, {0, 24, -58}, {0, 12, -120}, 7);               // throat
  a.ellipsoid(1, T::bone, {0, 52, -88}, {34, 38, 10});                // jaws
  a.ellipsoid(0, T::muscle, {0, 40, -88}, {26, 36, 12});
  a.ellipsoid(0, T::fluid, {0, -44, -36}, {54, 44, 28}, 2).within = inside;
  Solid& cerebellum = a.ellipsoid(6, T::grey, {0, -49, -35}, {51, 36, 25}, 2);
  cerebellum.within = inside;
  cerebellum.fold_mm = 2.5;
  cerebellum.fold_from = 0.4;
  cerebellum.fold_wavelength_mm = 11;
  a.ellipsoid(6, T::white, {0, -46, -32}, {28, 15, 11}, 2);
  const Point3 midbrain = a.shift({0, -15, -14}, 2), cord = a.shift({0, -30, -100}, 2);
  a.capsule(7, T::white, midbrain, cord, a.vary(11));
  a.ellipsoid(7, T::white, {0, -13, -28}, {17, 15, 14}, 2);  // pons
  // Deep grey nuclei, then the ventricles, which push everything aside.
  for (const double side : {-1.0, 1.0}) {
    a.ellipsoid(5, T::deep_grey, {side * 12, -14, 9}, {9, 15, 9}, 1.5);                            // thalamus
    a.ellipsoid(5, T::deep_grey, {side * 27, 5, 7}, {6.5, 17, 11}, 1.5).turn(0, 0, side * -0.25);  // putamen
    a.ellipsoid(5, T::deep_grey, {side * 15, 21, 15}, {6, 13, 10}, 1.5);                           // caudate
  }
  const double size = enlarged * a.vary(1, 0.1);
  for (const double side : {-1.0, 1.0}) {
    const double own = size * a.vary(1, 0.05), out = 3.5 + 6.5 * own;
    const auto horn = [&](const Point3& at, const Point3& radius, double x_rad, double z_rad) {
      const Point3 grown{radius[0] * own, radius[1] * own, radius[2] * own};
      a.ellipsoid(4, T::fluid, {side * at[0], at[1], at[2]}, grown, 1, 0.03).turn(x_rad, 0, side * z_rad);
    };
    horn({out, 10, 23}, {6.5, 25, 8.5}, -0.2, 0.12);
    horn({out + 7, -33, 16}, {7, 19, 8}, 0.25, -0.3);
    horn({34, -8, -12}, {4.5, 16, 4.5}, 0, 0.2);
  }
  a.ellipsoid(4, T::fluid, {0, -6, 7}, {2.6 * size, 13, 10}, 0.5, 0.03);        // third
  a.ellipsoid(4, T::fluid, {0, -29, -30}, {7 * size, 5 * size, 8}, 0.5, 0.03);  // fourth
  for (const double side : {-1.0, 1.0}) {
    a.ellipsoid(0, T::fat, {side * 31, 66, -24}, {18, 24, 16}, 1);
    a.ellipsoid(8, T::fluid, {side * 32, 79, -23}, {12.5, 12.5, 12.5}, 1, 0.04);
    a.ellipsoid(label_below, T::bone, {side * 56, -6, -42}, {12, 26, 13}, 2);  // temporal bone
  }
  return a.solids;
}

/// Trunk: skin, fat, muscle.
inline void trunk(Anatomist& a, double half_width, double half_depth, double fat_mm) {
  constexpr double endless = 1500;
  a.frame(0, Tissue::muscle, {0, 0, 0}, {half_width, half_depth, endless});
  a.frame(0, Tissue::fat, {0, 0, 0}, {half_width - 2.5, half_depth - 2.5, endless});
  a.frame(0, Tissue::muscle, {0, -3, 0}, {half_width - fat_mm, half_depth - fat_mm * 0.8, endless});
}

/// Vertebral bodies with discs between, arches, and the canal.
inline void spine(Anatomist& a, int label, double y, double low, double high) {
  const double step = a.between(27, 33), size = a.vary(1, 0.07), start = a.between(0, step);
  const auto add = [&](Tissue tissue, const Point3& at, const Point3& radius) {
    a.solids.push_back(Solid::ellipsoid(std::uint8_t(label), a.value(tissue), at, radius));
  };
  a.capsule(0, Tissue::muscle, {0, y, low}, {0, y, high}, 15 * size);  // discs
  for (const double side : {-1.0, 1.0})
    a.capsule(0, Tissue::muscle, {side * 25, y - 28, low}, {side * 25, y - 28, high}, 19);  // muscles of the back
  for (double z = low + start; z < high; z += step) {
    add(Tissue::bone, {0, y, z}, {20 * size, 16.5 * size, 13.5});
    add(Tissue::marrow, {0, y, z}, {16.5 * size, 13 * size, 10.5});
    add(Tissue::bone, {0, y - 22, z - 2}, {15, 12, 9});
    add(Tissue::bone, {0, y - 40, z - 8}, {4, 15, 8});
    for (const double side : {-1.0, 1.0}) add(Tissue::bone, {side * 24, y - 22, z}, {16, 5, 6});
  }
  a.capsule(0, Tissue::fluid, {0, y - 23, low}, {0, y - 23, high}, 8);
}

/// A mass with an irregular surface. Without one (radius 0) as many numbers are drawn, so that disease changes nothing
/// else.
inline void mass(Anatomist& a, int label, Tissue tissue, const Point3& at, double radius_mm, int within) {
  const Point3 radius{radius_mm, radius_mm * a.between(0.85, 1.15), radius_mm * a.between(0.85, 1.15)};
  if (radius_mm == 0) return;
  a.solids.push_back(Solid::ellipsoid(std::uint8_t(label), a.value(tissue), at, radius));
  Solid& s = a.solids.back();
  s.within = within;
  s.fold_mm = 0.1 * radius_mm;
  s.fold_wavelength_mm = radius_mm;
}

/// `nodule_mm`: radius of the nodule; 0 for none.
inline std::vector<Solid> chest_solids(const Random& random, Modality modality, double nodule_mm) {
  Anatomist a(random, modality);
  using T = Tissue;
  const double width = a.vary(168, 0.05), depth = a.vary(118, 0.05), fat = a.between(10, 22);
  trunk(a, width, depth, fat);
  const Point3 middle{0, 2, -15}, wall{width - fat - 14, depth - fat * 0.8 - 14, 176};
  // Ribs: bands of a shell around the cavity. The cavity is endless below, so that the ribs go on over the liver.
  const Point3 shell{wall[0] + 9, wall[1] + 9, wall[2] + 9};
  const int cavity = a.frame(0, T::fat, middle, wall);
  Solid ribs = Solid::ellipsoid(6, a.value(T::bone), middle, shell);
  ribs.without = cavity;
  ribs.band_period_mm = a.between(31, 36);
  ribs.band_width_mm = 12.5;
  ribs.band_slope = a.between(0.3, 0.5);
  a.solids.push_back(ribs);
  a.ellipsoid(6, T::bone, {0, wall[1] + 6, 5}, {17, 6, 75}, 2);  // sternum
  for (const double side : {-1.0, 1.0}) {
    a.ellipsoid(0, T::bone, {side * 98, -68, 62}, {34, 5, 50}, 4).turn(0, 0, side * -0.55);          // shoulder blades
    a.ellipsoid(0, T::bone, {side * 62, 58, 146}, {58, 8, 8}, 3).turn(0, side * 0.15, side * -0.2);  // collar bones
  }
  spine(a, 5, -68, -210, 210);
  // Lungs fill the cavity beside the mediastinum.
  const Point3 right_at = a.shift({68, -2, -8}, 4), left_at = a.shift({-72, -4, -8}, 4);
  const double height = a.vary(150, 0.07);
  a.solids.push_back(Solid::ellipsoid(1, a.value(T::lung), right_at, {62, 88, height}));
  a.solids.back().within = cavity;
  a.solids.push_back(Solid::ellipsoid(1, a.value(T::lung), left_at, {57, 88, height}));
  a.solids.back().within = cavity;
  // Vessels that branch from the hila.
  for (const double side : {-1.0, 1.0}) {
    const Point3 hilum{side * 30, -6, 10};
    for (int branch = 0; branch < 9; ++branch) {
      const Point3 fork{side * a.between(50, 72), a.between(-40, 35), a.between(-75, 85)};
      a.capsule(label_below, T::muscle, hilum, fork, 4.2);
      for (int twig = 0; twig < 2; ++twig)
        a.capsule(label_below, T::muscle, fork, a.shift({fork[0] + side * 24, fork[1], fork[2]}, 22), 2.3);
    }
  }
  const double which = a.between(-1, 1) < 0 ? -1 : 1;
  const Point3& lung = which > 0 ? right_at : left_at;
  const Point3 at{lung[0] + which * a.between(-12, 18), lung[1] + a.between(-38, 38), a.between(-35, 85)};
  mass(a, 8, T::nodule, at, nodule_mm, cavity);
  // Below the diaphragm.
  a.ellipsoid(0, T::muscle, {-62, -8, -178}, {74, 82, 76}, 6).within = cavity;
  a.ellipsoid(label_below, T::stomach, {-58, 8, -176}, {46, 50, 52}, 8).within = cavity;
  a.ellipsoid(7, T::liver, {56, 2, -172}, {88, 88, 88}, 6).within = cavity;
  // Mediastinum: heart with its chambers, great vessels, airways.
  const Point3 heart = a.shift({-20, 24, -52}, 5);
  const double beat = a.vary(1, 0.08);
  a.solids.push_back(Solid::ellipsoid(0, a.value(T::fat), {-6, 10, 30}, {30, 48, 90}));
  a.solids.push_back(Solid::ellipsoid(2, a.value(T::heart), heart, {60 * beat, 43 * beat, 50 * beat}));
  a.solids.back().turn(0.3, -0.35, 0.35);
  a.solids.push_back(Solid::ellipsoid(2, a.value(T::blood), {heart[0] - 17, heart[1] - 2, heart[2] - 6},
                                      {29 * beat, 20 * beat, 22 * beat}));
  a.solids.back().turn(0.3, -0.35, 0.35);
  a.solids.push_back(Solid::ellipsoid(2, a.value(T::blood), {heart[0] + 21, heart[1] + 6, heart[2] + 10},
                                      {20 * beat, 21 * beat, 30 * beat}));
  const double vessel = a.vary(12, 0.1);
  const Point3 arch{-4, -4, a.between(72, 86)};
  a.capsule(0, T::blood, {26, 10, 100}, {25, 12, -20}, 9);  // superior vena cava
  a.capsule(3, T::blood, {4, 14, -15}, {12, 14, arch[2] - 14}, vessel + 2);
  a.capsule(3, T::blood, {12, 14, arch[2] - 14}, {arch[0], arch[1], arch[2]}, vessel + 1);
  a.capsule(3, T::blood, {arch[0], arch[1], arch[2]}, {-20, -38, arch[2] - 18}, vessel);
  a.capsule(3, T::blood, {-20, -38, arch[2] - 18}, {-16, -45, -215}, vessel - 1);
  const double wind = a.vary(8.5, 0.1);
  a.capsule(4, T::gas, {0, 2, 210}, {2, -14, 45}, wind);
  a.capsule(4, T::gas, {2, -14, 45}, {40, -14, 12}, wind - 2);
  a.capsule(4, T::gas, {2, -14, 45}, {-42, -16, 8}, wind - 2.5);
  return a.solids;
}

/// `lesion_mm`: radius of the liver lesion; 0 for none.
inline std::vector<Solid> abdomen_solids(const Random& random, Modality modality, double lesion_mm) {
  Anatomist a(random, modality);
  using T = Tissue;
  const double width = a.vary(170, 0.06), depth = a.vary(122, 0.06), fat = a.between(12, 30);
  trunk(a, width, depth, fat);
  const int cavity = a.frame(0, T::fat, {0, 4, 0}, {width - fat - 15, depth - fat * 0.8 - 15, 1500});
  const Solid room = a.solids[std::size_t(cavity)];
  Solid ribs = Solid::ellipsoid(0, a.value(T::bone), {0, 4, 150}, {room.radius[0] + 8, room.radius[1] + 8, 230});
  ribs.without = cavity;
  ribs.band_period_mm = 34;
  ribs.band_width_mm = 12;
  ribs.band_slope = a.between(0.5, 0.8);
  a.solids.push_back(ribs);
  spine(a, 7, -66, -220, 220);
  for (const double side : {-1.0, 1.0})
    a.capsule(0, T::muscle, {side * 30, -58, 0}, {side * 52, -40, -220}, a.vary(19, 0.1));  // psoas
  // Bowel: soft loops, some with gas.
  for (int loop = 0; loop < 26; ++loop) {
    const Point3 at{a.between(-95, 95), a.between(5, 62), a.between(-175, -25)};
    const double r = a.between(15, 24);
    Solid& wall = a.ellipsoid(0, T::muscle, at, {r * a.between(1, 1.8), r, r}, 0);
    const double tilt = a.between(-1.5, 1.5);
    wall.turn(0, tilt, a.between(-1, 1)).within = cavity;
    Solid inner = wall;
    inner.value = a.between(0, 1) < 0.35 ? a.value(T::gas) : a.value(T::stomach);
    for (double& x : inner.radius) x -= 4.5;
    a.solids.push_back(inner);
  }
  // Lung bases above the diaphragm, with liver, stomach and spleen pushed up into them.
  for (const double side : {-1.0, 1.0})
    a.ellipsoid(8, T::lung, {side * 76, -14, 190}, {60, 78, 108}, 4).within = cavity;
  Solid& spleen = a.ellipsoid(2, T::spleen, {-98, -38, 66}, {27, 42, 52}, 5, 0.1);
  spleen.turn(0.35, -0.25, 0.5).within = cavity;
  const Point3 stomach = a.shift({-56, 30, 66}, 6);
  const Point3 stomach_size{a.vary(46, 0.12), a.vary(38, 0.1), a.vary(52, 0.1)};
  a.solids.push_back(Solid::ellipsoid(5, a.value(T::muscle), stomach, stomach_size));
  a.solids.back().turn(0.2, 0.35, 0).within = cavity;
  Solid content = a.solids.back();
  content.value = a.value(T::stomach);
  for (double& x : content.radius) x -= 5;
  a.solids.push_back(content);
  const Point3 bubble{stomach[0] + 4, stomach[1] + 20, stomach[2] + 12};
  a.solids.push_back(Solid::ellipsoid(label_below, a.value(T::gas), bubble, {22, 11, 20}));
  const double growth = a.vary(1, 0.07);
  const Point3 liver = a.shift({66, 2, 56}, 5);
  a.solids.push_back(Solid::ellipsoid(1, a.value(T::liver), liver, {84 * growth, 80 * growth, 80 * growth}));
  a.solids.back().turn(0, 0.15, 0.1).within = cavity;
  a.solids.push_back(Solid::ellipsoid(1, a.value(T::liver), {liver[0] - 62, liver[1] + 40, liver[2] + 16},
                                      {62 * growth, 36 * growth, 40 * growth}));
  a.solids.back().turn(0, 0.25, 0.1).within = cavity;
  for (int branch = 0; branch < 5; ++branch)  // hepatic vessels
    a.capsule(label_below, T::blood, {liver[0] - 35, liver[1] - 12, liver[2]},
              a.shift({liver[0] + 14, liver[1] + 8, liver[2] + 8}, 38), 4);
  a.ellipsoid(label_below, T::fluid, {liver[0] - 18, liver[1] + 42, liver[2] - 54}, {13, 15, 22}, 4,
              0.12);  // gall bladder
  const Point3 spot{liver[0] + a.between(-18, 34), liver[1] + a.between(-38, 38), liver[2] + a.between(-30, 38)};
  mass(a, 9, T::lesion, spot, lesion_mm, cavity);
  for (const double side : {-1.0, 1.0}) {
    const Point3 at = a.shift({side * 66, -46, side > 0 ? -24.0 : -10.0}, 5);
    const double size = a.vary(1, 0.08);
    Solid kidney = Solid::ellipsoid(3, a.value(T::kidney), at, {28 * size, 24 * size, 53 * size});
    kidney.turn(0.15, side * -0.2, side * 0.4);
    a.solids.push_back(kidney);
    a.solids.push_back(
        Solid::ellipsoid(label_below, a.value(T::fat), {at[0] - side * 14, at[1] + 4, at[2]}, {14, 8, 22}));
  }
  const Point3 head = a.shift({30, 8, -4}, 4), neck = a.shift({-8, 16, 12}, 4), tail = a.shift({-68, -14, 34}, 5);
  const double thick = a.vary(12, 0.12);
  a.capsule(4, T::pancreas, head, neck, thick + 2).within = cavity;
  a.capsule(4, T::pancreas, neck, tail, thick - 2).within = cavity;
  a.capsule(label_below, T::blood, {20, -34, -220}, {26, -22, 130}, 12);  // inferior vena cava
  a.capsule(6, T::blood, {-14, -32, -150}, {-12, -38, 220}, a.vary(11, 0.1));
  for (const double side : {-1.0, 1.0}) a.capsule(6, T::blood, {-14, -32, -148}, {side * 40 - 8, -20, -220}, 7);
  return a.solids;
}

}  // namespace detail

}  // namespace M3I_ABI
}  // namespace m3i
