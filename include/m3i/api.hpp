#pragma once
/// The narrow interface: trained models and the training programs behind plain functions, compiled once into m3i::api.
///
/// It names no tensor, no template and no macro of m3i, needs C++17 and the standard library alone, and is the same for
/// builds with and without CUDA. So a program keeps its own compiler, flags and compile time, and nvcc away from its
/// files, and still uses a GPU where the library was built for one:
///
///     const m3i::api::Model model("runs/seg/model.safetensors", {"cuda:0"});
///     m3i::api::write_labels("labels.nii.gz", model.segment(m3i::api::read_scan("scan.nii.gz")));
///
/// Errors are std::exceptions (m3i::Error) that name the file or value, what was found and what was expected. One Model
/// may be used from one thread at a time; different ones from any.

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace m3i::api {

/// Voxels on a grid in space, as a NIfTI file has them.
///
/// size    I, J, K
/// voxels  (i, j, k) at voxels[(i * J + j) * K + k]
/// affine  4 x 4, row after row: voxel (i, j, k) -> millimetres, x to the right, y to the front, z up
/// header  what its file said besides (units, codes, forms), which outputs keep; null for an image made in memory
template <class Voxel>
struct Image {
  std::array<std::int64_t, 3> size{};
  std::array<double, 16> affine{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
  std::vector<Voxel> voxels{};
  std::shared_ptr<const void> header{};
};
using Scan = Image<float>;
using Labels = Image<std::int32_t>;

/// Reads a .nii, .nii.gz, .hdr or .img file, scaled as its header says.
Scan read_scan(const std::string& path);
/// Writes a .nii or .nii.gz file, whole or not at all.
void write_labels(const std::string& path, const Labels& labels);

struct Options {
  std::string device = "cpu";  ///< or "cuda:0", ...
  std::string dtype = "f32";   ///< that the network computes in: f32, bf16, f16
};

/// A model.safetensors of pretrain, finetune_segmentation or finetune_classification, ready to use.
class Model {
 public:
  explicit Model(const std::string& path, const Options& options = {});
  ~Model();
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;

  const std::string& kind() const;                  ///< "pretrained", "segmentation" or "classification"
  const std::vector<std::string>& names() const;    ///< structures (0 is the background), or classes
  const std::vector<std::int32_t>& values() const;  ///< segmentation: what each structure is called in label files
  std::string preprocessing() const;                ///< what happens to a scan before the network, in words

  /// Segmentation: a value of values() for each voxel, on the scan's own grid.
  Labels segment(const Scan& scan) const;
  /// Classification: the probability of each class.
  std::vector<double> classify(const Scan& scan) const;
  /// Any model: the encoder's deepest features, averaged over the scan, for retrieval or for a classifier of one's own.
  std::vector<float> embed(const Scan& scan) const;

 private:
  struct Loaded;
  std::unique_ptr<Loaded> loaded_;
};

/// The programs that run() knows: those that train.
std::vector<std::string> programs();
/// Runs a program as from the command line, in this process, and returns its exit code; messages go to the standard
/// streams. What can be configured is in its --help and docs/configuration.md:
///
///     run("finetune_segmentation", {"data/phantoms", "runs/seg", "--config", "configs/demo.json"});
///
/// With --ranks or --gpus it forks: no other thread may run then, and no GPU may have been used. Throws for an unknown
/// name.
int run(const std::string& program, const std::vector<std::string>& arguments);

/// The instruction set or GPU build that the library was compiled for, such as "x86-64-v4" or "CUDA".
std::string build();

}  // namespace m3i::api
