#pragma once
/// Phantoms: synthetic subjects with labels, so that every program runs without any download.

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "m3i/imaging/geometry.hpp"
#include "m3i/imaging/phantom_anatomy.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// What to make. An empty optional is drawn for each subject.
struct PhantomOptions {
  Size3 size{48, 48, 48};  ///< voxels along right, anterior, superior; each in [16, 512]
  std::optional<BodyPart> body{};
  std::optional<Modality> modality{};
  std::optional<bool> disease{};  ///< empty: subjects 2n and 2n+1 are one healthy and one diseased, in random order
  DiseaseEffect effect{};
  double noise = 1;                 ///< 1: 18 HU (head: 5 HU), or 3.5 % of the brightest MR tissue
  double bias = 0.35;               ///< MR only: the field spans about exp(-bias) to exp(bias)
  double deformation = 1;           ///< 1: smooth displacements of up to about 3 % of the field of view
  bool random_spacing = false;      ///< makes slices along one random axis up to 3 times thicker, and fewer
  bool random_orientation = false;  ///< permutes and flips the voxel axes; the affine follows
};

/// One subject. Image and labels share grid and affine.
struct PhantomSubject {
  std::string id;  ///< "head_ct_0007"
  BodyPart body = BodyPart::head;
  Modality modality = Modality::ct;
  bool disease = false;
  std::string finding;    ///< "enlarged ventricles", ...; empty in health
  int finding_label = 0;  ///< the structure that shows it
  Volume<float> image;    ///< CT in Hounsfield units, MR in arbitrary units
  Volume<std::uint8_t> labels;
  std::vector<std::string> structures;  ///< names of the labels; entry 0 is the background
};

namespace detail {

/// Side of the cube that is imaged, in mm, and the middle of it.
inline double field_of_view_mm(BodyPart body) { return body == BodyPart::head ? 226 : 372; }
inline Point3 field_centre_mm(BodyPart body) {
  return body == BodyPart::head ? Point3{0, 0, -4} : body == BodyPart::chest ? Point3{0, 0, -10} : Point3{0, 0, -10};
}

/// A sum of standing waves whose factors are tabulated along the voxel axes; values within about [-1, 1].
class SmoothField {
 public:
  SmoothField(Random random, const Size3& size, double longest_waves) : size_(size) {
    for (int mode = 0; mode < modes; ++mode)
      for (std::size_t a = 0; a < 3; ++a) {
        const double waves = random.uniform(0.4, 1) * longest_waves, phase = random.uniform(0, 6.283185307179586);
        for (Index i = 0; i < size[a]; ++i)
          table_[a].push_back(std::sin(6.283185307179586 * waves * (double(i) + 0.5) / double(size[a]) + phase));
      }
  }
  double operator()(Index i, Index j, Index k) const {
    double sum = 0;
    for (int mode = 0; mode < modes; ++mode)
      sum += table_[0][std::size_t(mode * size_[0] + i)] * table_[1][std::size_t(mode * size_[1] + j)] *
             table_[2][std::size_t(mode * size_[2] + k)];
    return sum;
  }

 private:
  static constexpr int modes = 2;
  Size3 size_;
  std::vector<double> table_[3];
};

/// Where a subject lies in the scanner: turned, scaled and shifted.
struct Pose {
  std::array<double, 9> turn;
  Point3 scale, shift;

  explicit Pose(Random random) {
    const double most = 0.12;  // rad
    const double x_rad = random.uniform(-most, most), y_rad = random.uniform(-most, most);
    turn = Solid{}.turn(x_rad, y_rad, random.uniform(-most, most)).axes;
    const double all = random.uniform(0.92, 1.06);
    for (std::size_t a = 0; a < 3; ++a) {
      scale[a] = all * random.uniform(0.97, 1.03);
      shift[a] = random.uniform(-6, 6);
    }
  }
  /// Scanner mm -> the subject's own mm.
  Point3 operator()(const Point3& p) const {
    Point3 q;
    for (std::size_t r = 0; r < 3; ++r) {
      q[r] = 0;
      for (std::size_t a = 0; a < 3; ++a) q[r] += turn[3 * r + a] * (p[a] - shift[a]);
      q[r] /= scale[r];
    }
    return q;
  }
};

/// CT: normal noise. MR: bias field, gain, and Rician noise (the magnitude of a complex signal; never negative).
inline void add_scanner_effects(
    const Tensor<float>& image, BodyPart body, Modality modality, const PhantomOptions& options, Random random) {
  const Size3 n = size3(image.shape());
  const bool ct = modality == Modality::ct;
  const SmoothField field(random.split(1), n, 0.9);
  Random draw = random.split(2);
  const double gain = ct ? 1 : draw.uniform(0.6, 1.6);
  const double deviation = options.noise * (!ct ? 35.0 : body == BodyPart::head ? 5.0 : 18.0);
  const Random noise = random.split(3);
  parallel_for(n[0], [&](Index i) {
    for (Index j = 0; j < n[1]; ++j)
      for (Index k = 0; k < n[2]; ++k) {
        const Index at = (i * n[1] + j) * n[2] + k;
        const Philox4 r = philox(noise.seed, noise.stream, std::uint64_t(at));
        const double length = std::sqrt(-2 * std::log(1 - unit_interval(r.x, r.y))) * deviation;
        const double angle = 6.283185307179586 * unit_interval(r.z, r.w);
        float& v = image.data()[at];
        if (ct) {
          v = float(std::max(-1024.0, double(v) + length * std::cos(angle)));  // scanners stop at -1024
        } else {
          const double signal = double(v) * std::exp(options.bias * field(i, j, k));
          v = float(gain * std::hypot(signal + length * std::cos(angle), length * std::sin(angle)));
        }
      }
  });
}

/// The voxel size and count after thickening slices along one random axis.
inline Size3 thick_slices(Size3 size, Random& random) {
  const auto axis = std::size_t(random.below(3));
  size[axis] = std::max<Index>(16, Index(double(size[axis]) / random.uniform(1, 3)));
  return size;
}

inline void check_options(const PhantomOptions& o) {
  for (const Index n : o.size)
    require<ConfigError>(n >= 16 && n <= 512, "phantom: size ", n, " must lie in [16, 512] along every axis");
  const double values[] = {o.noise, o.bias, o.deformation};
  for (const double v : values)
    require<ConfigError>(std::isfinite(v) && v >= 0 && v <= 10, "phantom: noise, bias and deformation are ", o.noise,
                         ", ", o.bias, " and ", o.deformation, "; each must lie in [0, 10]");
  const DiseaseEffect& e = o.effect;
  require<ConfigError>(e.ventricle_factor >= 0.5 && e.ventricle_factor <= 2.5, "phantom: ventricle factor ",
                       e.ventricle_factor, " must lie in [0.5, 2.5]");
  for (const auto& range : {e.nodule_mm, e.lesion_mm})
    require<ConfigError>(range[0] > 0 && range[0] <= range[1] && range[1] <= 60, "phantom: radii ", range[0], " to ",
                         range[1], " mm must be an interval in (0, 60]");
}

/// The solids of a subject whose body part, modality and disease are decided; sets the finding.
inline std::vector<Solid> subject_solids(PhantomSubject& out,
                                         const DiseaseEffect& effect,
                                         const Random& anatomy,
                                         Random disease_size) {
  const auto mass_mm = [&](const double(&range)[2]) {
    return out.disease ? disease_size.uniform(range[0], range[1]) : 0;
  };
  const auto found = [&](const char* finding, int label) {
    if (!out.disease) return;
    out.finding = finding;
    out.finding_label = label;
  };
  switch (out.body) {
    case BodyPart::head:
      found("enlarged ventricles", 4);
      return head_solids(anatomy, out.modality, out.disease ? effect.ventricle_factor : 1);
    case BodyPart::chest:
      found("a lung nodule", 8);
      return chest_solids(anatomy, out.modality, mass_mm(effect.nodule_mm));
    case BodyPart::abdomen: break;
  }
  found("a liver lesion", 9);
  return abdomen_solids(anatomy, out.modality, mass_mm(effect.lesion_mm));
}

}  // namespace detail

/// Makes subject number `subject` of the population `seed`. A pure function of its arguments, whatever the threads.
///
/// The subject's anatomy, pose, deformation, disease, contrast and noise come from streams of their own: changing the
/// noise does not change the anatomy, and a healthy subject made diseased keeps its anatomy but for the disease.
/// Throws ConfigError for options out of range.
inline PhantomSubject make_phantom(std::uint64_t seed, Index subject, const PhantomOptions& options = {}) {
  detail::check_options(options);
  require<ConfigError>(subject >= 0, "phantom: subject ", subject, " must not be negative");
  const Random random = Random(seed, 0x706861).split(std::uint64_t(subject));
  Random draw = random.split(1), grid = random.split(3);

  PhantomSubject out;
  const auto part = BodyPart(draw.below(3));
  const auto contrast = Modality(draw.below(3));
  out.body = options.body.value_or(part);
  out.modality = options.modality.value_or(contrast);
  const bool first_of_pair_ill = Random(seed, 0x70616972).split(std::uint64_t(subject / 2)).uniform() < 0.5;
  out.disease = options.disease.value_or(first_of_pair_ill == (subject % 2 == 0));
  out.structures = structure_names(out.body);
  const char* modality = out.modality == Modality::ct ? "ct" : out.modality == Modality::mr_t1 ? "t1" : "t2";
  std::string number = std::to_string(subject);
  if (number.size() < 4) number.insert(0, 4 - number.size(), '0');
  out.id = text(name(out.body), "_", modality, "_", number);

  const std::vector<Solid> solids = detail::subject_solids(out, options.effect, random.split(4), random.split(2));

  const Size3 size = options.random_spacing ? detail::thick_slices(options.size, grid) : options.size;
  const double field_mm = detail::field_of_view_mm(out.body);
  const Point3 centre = detail::field_centre_mm(out.body);
  Point3 step_mm, corner_mm;
  for (std::size_t a = 0; a < 3; ++a) {
    step_mm[a] = field_mm / double(size[a]);
    corner_mm[a] = centre[a] - field_mm / 2 + step_mm[a] / 2;
  }
  const Affine affine = Affine::scaling(step_mm, corner_mm);
  const detail::Pose pose(random.split(5));
  const Random bend = random.split(6);
  const detail::SmoothField bend_x(bend.split(0), size, 1.8), bend_y(bend.split(1), size, 1.8),
      bend_z(bend.split(2), size, 1.8);
  const double bend_mm = options.deformation * 0.015 * field_mm;
  const auto place = [&](Index i, Index j, Index k) {
    Point3 p = affine({double(i), double(j), double(k)});
    p[0] += bend_mm * bend_x(i, j, k);
    p[1] += bend_mm * bend_y(i, j, k);
    p[2] += bend_mm * bend_z(i, j, k);
    return pose(p);
  };
  out.image = {Tensor<float>(shape_of(size)), affine, nullptr};
  out.labels = {Tensor<std::uint8_t>::zeros(shape_of(size)), affine, nullptr};
  const float air = out.modality == Modality::ct ? -1000.0f : 0.0f;
  std::fill_n(out.image.voxels.data(), out.image.voxels.size(), air);
  paint_solids(solids, place, std::max({step_mm[0], step_mm[1], step_mm[2]}), out.image.voxels, out.labels.voxels);
  detail::add_scanner_effects(out.image.voxels, out.body, out.modality, options, random.split(7));

  if (options.random_orientation) {
    OrientationMap map;
    const auto order = grid.permutation(3);
    for (std::size_t a = 0; a < 3; ++a) {
      map.axis[a] = int(order[a]);
      map.flip[a] = grid.uniform() < 0.5;
    }
    out.image = reorient(out.image, map);
    out.labels = reorient(out.labels, map);
  }
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
