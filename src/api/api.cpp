/// m3i::api: the bodies of m3i/api.hpp.

#include "m3i/api.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "m3i/kernels/instruction_set.hpp"
#include "m3i/train/classification.hpp"
#include "m3i/train/inference.hpp"
#include "m3i/train/mixed_network.hpp"
#include "m3i/train/patches.hpp"
#include "m3i/train/preprocessing.hpp"
#include "m3i/train/segmentation.hpp"

// The programs themselves: examples/NAME.cpp compiled once more for this library, with its main under another name.
#define M3I_API_PROGRAMS(X) X(pretrain) X(fit_clip) X(finetune_segmentation) X(finetune_classification)
#define M3I_DECLARE_PROGRAM(NAME) int m3i_program_##NAME(int, char**);
M3I_API_PROGRAMS(M3I_DECLARE_PROGRAM)
#undef M3I_DECLARE_PROGRAM

namespace m3i::api {

namespace {

template <class Voxel>
Image<Voxel> image_of(const Volume<Voxel>& v) {
  const Shape& n = v.shape();
  return {{n[0], n[1], n[2]}, v.affine.m, v.voxels.to_vector(), v.header};
}

template <class Voxel>
Volume<Voxel> volume_of(const char* function, const Image<Voxel>& image) {
  const auto& n = image.size;
  constexpr std::int64_t most = std::int64_t(1) << 20;
  const bool sound = n[0] > 0 && n[1] > 0 && n[2] > 0 && n[0] <= most && n[1] <= most && n[2] <= most;
  require<ShapeError>(sound && Index(image.voxels.size()) == n[0] * n[1] * n[2], function, ": an image of ", n[0],
                      " x ", n[1], " x ", n[2], " with ", image.voxels.size(), " voxels; expected size[0] * size[1] * ",
                      "size[2] of them, each from 1 to 2^20");
  return {Tensor<Voxel>::from(image.voxels, {n[0], n[1], n[2]}), Affine{image.affine},
          std::static_pointer_cast<const NiftiHeader>(image.header)};
}

}  // namespace

Scan read_scan(const std::string& path) {
  const auto volume = read_nifti<float>(path);
  check_intensities(volume, path);
  return image_of(volume);
}

void write_labels(const std::string& path, const Labels& labels) {
  const auto volume = volume_of("write_labels", labels);
  const auto& values = labels.voxels;
  const bool small = std::all_of(values.begin(), values.end(), [](std::int32_t v) { return v >= 0 && v <= 255; });
  if (!small) return m3i::write_labels(path, volume);
  m3i::write_labels(path, Volume<std::uint8_t>{cast<std::uint8_t>(volume.voxels), volume.affine, volume.header});
}

/// The network of the file's task, and its encoder, which shares the parameters.
struct Model::Loaded {
  ModelFile file;
  Device device;
  choice::Dtype dtype;
  std::optional<SegmentationModel<float>> segmentation;
  std::optional<ClassificationModel<float>> classification;
  std::optional<BackboneEncoder<float>> encoder;
  std::optional<MixedNetwork<SegmentationModel>> segments;
  std::optional<MixedNetwork<ClassificationModel>> classifies;

  Loaded(const std::string& path, const Options& options)
      : file(read_model(path)), device(Device::parse(options.device)), dtype(parse_dtype(options.dtype)) {
    require<ConfigError>(device.on_host() || device.number < cuda_device_count(), "device: ", options.device,
                         " is not there; this build sees ", cuda_device_count(), " GPUs");
    const MethodConfig& config = file.info.config;
    const Index classes = file.info.classes();
    if (file.info.kind == "segmentation") {
      segmentation = load_segmentation_model(file, device);
      segments.emplace(dtype, *segmentation, config, classes);
      encoder = segmentation->network.encoder();
    } else if (file.info.kind == "classification") {
      classification = load_classification_model(file, device);
      classifies.emplace(dtype, *classification, config, classes);
      encoder = classification->network;
    } else {
      encoder.emplace(backbone_options(config.network, 1));
      load_module<float>(*encoder, *file.weights,
                         {.strict = true, .prefix = "network.", .ignore = backbone_decoders, .rename = {}});
      to(*encoder, device);
    }
  }

  Preprocessed<float> prepared(const char* function, const Scan& scan) const {
    const auto volume = volume_of(function, scan);
    check_intensities(volume, function);
    return apply(preprocessing_chain(file.info), volume);
  }
  void require_kind(const char* function, const char* kind) const {
    require<ConfigError>(file.info.kind == kind, function, ": ", file.path(), " is a ", file.info.kind,
                         " model, expected one of ", kind);
  }
};

Model::Model(const std::string& path, const Options& options) : loaded_(std::make_unique<Loaded>(path, options)) {}
Model::~Model() = default;
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;

const std::string& Model::kind() const { return loaded_->file.info.kind; }
const std::vector<std::string>& Model::names() const { return loaded_->file.info.names; }
const std::vector<std::int32_t>& Model::values() const { return loaded_->file.info.values; }
std::string Model::preprocessing() const { return preprocessing_text(loaded_->file.info); }

Labels Model::segment(const Scan& scan) const {
  const Loaded& m = *loaded_;
  m.require_kind("segment", "segmentation");
  const ModelInfo& info = m.file.info;
  Segmenter<float> segmenter(*m.segments, info.config.network.image_size, info.classes(), m.device,
                             InferenceRequest{}.options(info.config));
  const auto classes = segmenter.on_input_grid(m.prepared("segment", scan));
  return image_of(
      Volume<std::int32_t>{label_values({info.names, info.values}, classes.voxels), classes.affine, classes.header});
}

std::vector<double> Model::classify(const Scan& scan) const {
  const Loaded& m = *loaded_;
  m.require_kind("classify", "classification");
  require_whole_volumes(m.file.info.config, "classify");
  return class_probabilities(*m.classifies, m.prepared("classify", scan).volume.voxels, m.device);
}

std::vector<float> Model::embed(const Scan& scan) const {
  const Loaded& m = *loaded_;
  require_whole_volumes(m.file.info.config, "embed");
  NoGrad guard;
  const Tensor<float> voxels = m.prepared("embed", scan).volume.voxels;
  const Shape& n = voxels.shape();
  const Var<float> x(voxels.reshape({1, n[0], n[1], n[2], 1}).to(m.device));
  return pooled((*m.encoder)(x).back()).value().to_vector();
}

namespace {
using Main = int (*)(int, char**);
const std::map<std::string, Main>& mains() {
#define M3I_LIST_PROGRAM(NAME) {#NAME, m3i_program_##NAME},
  static const std::map<std::string, Main> all{M3I_API_PROGRAMS(M3I_LIST_PROGRAM)};
#undef M3I_LIST_PROGRAM
  return all;
}
}  // namespace

std::vector<std::string> programs() {
  std::vector<std::string> names;
  for (const auto& [name, main] : mains()) names.push_back(name);
  return names;
}

int run(const std::string& program, const std::vector<std::string>& arguments) {
  const auto found = mains().find(program);
  require<ConfigError>(found != mains().end(), "run: no program \"", program,
                       "\"; there are pretrain, fit_clip, finetune_segmentation and finetune_classification");
  std::vector<std::string> words{program};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  return found->second(int(words.size()), argv.data());
}

std::string build() { return M3I_CUDA ? "CUDA" : instruction_set(); }

}  // namespace m3i::api
