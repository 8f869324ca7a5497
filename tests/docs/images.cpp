/// Code of docs/7-images.md.

#include "../catch.hpp"

#include "../io/scratch.hpp"
#include "m3i/data/chain_json.hpp"
#include "m3i/imaging.hpp"
#include "m3i/metrics.hpp"

using namespace m3i;

namespace {

/// A scan whose axes run left, posterior, superior, with thick slices.
Volume<float> some_scan() {
  Volume<float> v{Tensor<float>({24, 20, 8}), {}, nullptr};
  v.affine = Affine{{-1.5, 0, 0, 18, 0, -1.5, 0, 15, 0, 0, 5, -20, 0, 0, 0, 1}};
  for (Index i = 0; i < v.voxels.size(); ++i) v.voxels.data()[i] = float(i % 97);
  return v;
}

}  // namespace

TEST_CASE("docs: orientation, spacing, and where a voxel is", "[docs]") {
  const Volume<float> scan = some_scan();
  // [orientation]
  CHECK(orientation(scan.affine) == "LPS");
  CHECK(spacing_mm(scan.affine) == Point3{1.5, 1.5, 5});
  const Point3 mm = scan.affine({0, 0, 0});  // centre of the first voxel: right, anterior, superior
  CHECK(mm == Point3{18, 15, -20});

  const Volume<float> ras = to_ras(scan);  // axes permuted and flipped, nothing interpolated
  const Size3 n = size3(ras.shape());
  CHECK(ras.affine({double(n[0] - 1), double(n[1] - 1), 0}) == mm);  // the same voxel, in the same place
  // [orientation]
  CHECK(orientation(ras.affine) == "RAS");
}

TEST_CASE("docs: a chain and its way back", "[docs]") {
  const Volume<float> scan = some_scan();
  // [chain]
  TransformChain chain;
  chain.steps = {steps::Orient{}, steps::Spacing{{2, 2, 2}}, steps::Window{50, 100}, steps::PadToAtLeast{{24, 24, 24}}};
  const Preprocessed<float> x = apply(chain, scan);

  Tensor<std::uint8_t> found(x.volume.shape());  // what a network says of each voxel of x
  for (Index i = 0; i < found.size(); ++i) found.data()[i] = x.volume.voxels.data()[i] > 0.5f;
  const Volume<std::uint8_t> labels = x.record.restore_labels(found);  // on the scan's own grid
  CHECK(labels.shape() == scan.shape());
  CHECK(labels.affine == scan.affine);

  const std::string json = chain_json(chain);  // kept in model files
  CHECK(parse_chain(json) == chain);
  // [chain]
  CHECK(chain.text().find("RAS") != std::string::npos);
}

TEST_CASE("docs: files keep their geometry", "[docs]") {
  const Scratch folder;
  const std::string input = folder / "scan.nii", output = folder / "labels.nii";
  write_nifti(input, some_scan());
  // [files]
  const auto scan = read_nifti<float>(input);  // value = stored * slope + intercept
  const Tensor<std::uint8_t> found = Tensor<std::uint8_t>::zeros(scan.shape());
  write_labels(output, Volume<std::uint8_t>{found, scan.affine, scan.header});  // forms, codes, units as in the input
  CHECK(same_grid(scan, read_labels<std::uint8_t>(output)).same);
  // [files]
}

TEST_CASE("docs: a distance has a convention", "[docs]") {
  auto truth = Tensor<std::uint8_t>::zeros({16, 16, 8});
  const auto set = [](const Tensor<std::uint8_t>& mask, Index from, Index to) {
    for (Index i = from; i < to; ++i)
      for (Index j = 4; j < 12; ++j)
        for (Index k = 2; k < 6; ++k) mask.data()[(i * 16 + j) * 8 + k] = 1;
  };
  set(truth, 4, 10);
  auto prediction = Tensor<std::uint8_t>::zeros({16, 16, 8});
  set(prediction, 4, 12);
  // [distance]
  const std::array<double, 3> mm{1.5, 1.5, 5};
  const double monai = hd95(prediction, truth, std::uint8_t(1), mm, Hausdorff95::monai);  // mm
  const double medpy = hd95(prediction, truth, std::uint8_t(1), mm, Hausdorff95::medpy);  // mm
  const double voxels = hd95(prediction, truth, std::uint8_t(1), mm, Hausdorff95::nnformer);
  CHECK(monai == 3);  // two voxels of 1.5 mm
  CHECK(medpy == 3);
  CHECK(voxels == 2);  // spacing is ignored, as in nnFormer's scripts
  // [distance]
}
