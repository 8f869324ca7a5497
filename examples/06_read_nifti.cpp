// Volumes in space: makes a phantom, writes it as NIfTI, reads it back and looks at it. With a file name it reads that.

#include <cstdio>
#include <filesystem>

#include "m3i/imaging.hpp"

using namespace m3i;

/// A slice in [0, 1] as text, dark to bright.
static void show_slice(const Tensor<float>& slice) {
  const Tensor<float> picture = slice_display(slice);  // top row: anterior, as in a viewer
  for (Index row = 0; row < picture.shape()[0]; row += 2) {
    for (Index column = 0; column < picture.shape()[1]; ++column)
      std::putchar(" .:-=+*#%@"[Index(9.99f * picture[row].data()[column])]);
    std::putchar('\n');
  }
}

int main(int argc, char** argv) try {
  std::string path = argc > 1 ? argv[1] : "";
  if (path.empty()) {
    // [write]
    const PhantomSubject subject = make_phantom(
        1, 0, {.size = {64, 64, 48}, .body = BodyPart::head, .modality = Modality::mr_t1, .random_orientation = true});
    path = (std::filesystem::temp_directory_path() / (subject.id + ".nii")).string();
    write_nifti(path, subject.image);
    // [write]
  }
  // [read]
  const Volume<float> volume = read_nifti(path);  // checked against the file's length before memory is taken
  const Point3 step = spacing_mm(volume.affine);
  std::printf("shape %s, axes %s, voxels of %.2f x %.2f x %.2f mm\n", volume.shape().text().c_str(),
              orientation(volume.affine).c_str(), step[0], step[1], step[2]);
  const Point3 corner = volume.affine({0, 0, 0});
  std::printf("voxel (0, 0, 0) lies at %.1f mm right, %.1f mm anterior, %.1f mm superior\n", corner[0], corner[1],
              corner[2]);
  // [read]

  // [preprocess]
  const auto [cube, way_back] = preprocess(volume, {.size = 48, .spacing_mm = 2});  // RAS, [0, 1], 48^3
  const Volume<float> back = way_back.restore_image(cube.voxels);                   // the input's own grid and header
  // [preprocess]
  std::printf("preprocessed: %s, axes %s; back: %s, axes %s\n", cube.shape().text().c_str(),
              orientation(cube.affine).c_str(), back.shape().text().c_str(), orientation(back.affine).c_str());
  show_slice(extract_slice(cube, Plane::axial, 26));
  return 0;
} catch (const Error& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 2;
}
