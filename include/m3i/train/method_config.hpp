#pragma once
/// Every setting of the Med3DInsight method, as one tree that all programs read: `MethodConfig`.
///
/// Defaults are the paper's values where it gives one (its section stands in the field's text) and ours where it does
/// not ("ours"). The optimal-transport settings are numbered as in the description of mini-batch partial OT.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "m3i/core/shape.hpp"
#include "m3i/train/config.hpp"
#include "m3i/train/finetune_config.hpp"
#include "m3i/train/network_config.hpp"
#include "m3i/train/optimizer_config.hpp"
#include "m3i/train/setting.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Settings that are one of a few words. In a namespace of their own, because the words are common ones.
namespace choice {

enum class Psat { full, no_positions, no_queries };
inline auto enum_names(Psat) { return std::array{"full", "no_positions", "no_queries"}; }

enum class Alignment { mpot, info_nce, none };
inline auto enum_names(Alignment) { return std::array{"mpot", "info_nce", "none"}; }

enum class AlignmentBatch { process, global };
inline auto enum_names(AlignmentBatch) { return std::array{"process", "global"}; }

enum class Reconstruction { mean, printed, none };
inline auto enum_names(Reconstruction) { return std::array{"mean", "printed", "none"}; }

enum class CostScale { max, none };
inline auto enum_names(CostScale) { return std::array{"max", "none"}; }

enum class Solver { newton, dykstra };
inline auto enum_names(Solver) { return std::array{"newton", "dykstra"}; }

enum class Gradient { implicit, unrolled };
inline auto enum_names(Gradient) { return std::array{"implicit", "unrolled"}; }

enum class Divergence { kl, generalised, cross_entropy };
inline auto enum_names(Divergence) { return std::array{"kl", "generalised", "cross_entropy"}; }

enum class Metric { full, factor, diagonal };
inline auto enum_names(Metric) { return std::array{"full", "factor", "diagonal"}; }

enum class LongCaptions { error, truncate, mean_of_chunks };
inline auto enum_names(LongCaptions) { return std::array{"error", "truncate", "mean_of_chunks"}; }

enum class Plane { coronal, sagittal, axial };
inline auto enum_names(Plane) { return std::array{"coronal", "sagittal", "axial"}; }

enum class Dtype { f32, bf16, f16 };
inline auto enum_names(Dtype) { return std::array{"f32", "bf16", "f16"}; }

enum class SplitBy { ratio, folds, given };
inline auto enum_names(SplitBy) { return std::array{"ratio", "folds", "given"}; }

enum class Stratify { classes, labels, none };
inline auto enum_names(Stratify) { return std::array{"classes", "labels", "none"}; }

enum class Fit { cube, patch };
inline auto enum_names(Fit) { return std::array{"cube", "patch"}; }

/// The ct_ values are the windows of imaging/ct_windows.hpp, in its order.
enum class Intensity {
  minmax,
  percentile,
  window,
  zscore,
  zscore_nonzero,
  ct_soft_tissue,
  ct_lung,
  ct_mediastinum,
  ct_liver,
  ct_brain,
  ct_stroke,
  ct_bone,
  ct_temporal_bone,
  ct_spine
};
inline auto enum_names(Intensity) {
  return std::array{"minmax",         "percentile", "window",           "zscore",   "zscore_nonzero",
                    "ct_soft_tissue", "ct_lung",    "ct_mediastinum",   "ct_liver", "ct_brain",
                    "ct_stroke",      "ct_bone",    "ct_temporal_bone", "ct_spine"};
}

}  // namespace choice

/// How a NIfTI file becomes the network's input, how slices are drawn, how subjects are split.
struct DataConfig {
  double spacing_mm = 1;
  bool antialias = false;
  choice::Fit fit = choice::Fit::cube;
  bool crop_foreground = false;
  choice::Intensity intensity = choice::Intensity::minmax;
  double low_percentile = 0, high_percentile = 100;
  double window_center = 40, window_width = 400;
  std::vector<choice::Plane> planes{choice::Plane::coronal, choice::Plane::sagittal, choice::Plane::axial};
  Index slices_per_volume = 1;
  double min_foreground = 0.1;
  std::optional<Index> channel;
  choice::SplitBy split_by = choice::SplitBy::ratio;
  std::array<double, 3> split{7, 1, 2};
  Index folds = 5, fold = 0;
  choice::Stratify stratify = choice::Stratify::classes;
  double cache_gib = 4;
  std::string cache_folder;
  Index workers = 2;

  template <class Self, class Field>
  static void fields(Self& self, Field&& field) {
    field("spacing_mm", self.spacing_mm, "isotropic voxel size before padding, mm (4.2)", above(0));
    field("antialias", self.antialias, "blur before resampling to larger voxels (ours: no)");
    field("fit", self.fit,
          "cube: padded and scaled to image_size^3 (4.2); patch: own voxels, crops of image_size^3 (ours)");
    field("crop_foreground", self.crop_foreground,
          "crop to the voxels above 0 once intensities are mapped, before zscore (ours: no)");
    field(
        "intensity", self.intensity,
        "how intensities are mapped: minmax to [0, 1] (4.2), or percentiles, window, zscore, a named CT window (ours)");
    field("low_percentile", self.low_percentile,
          "intensity percentile that becomes 0 (4.2 says [0, 1]; ours: the minimum)", from_below(0, 100));
    field("high_percentile", self.high_percentile, "intensity percentile that becomes 1 (ours: the maximum)",
          above_upto(0, 100));
    field("window_center", self.window_center, "middle of intensity window, in the volume's units (ours)");
    field("window_width", self.window_width, "width of intensity window (ours)", above(0));
    field("planes", self.planes, "planes that slices are drawn from (3.1)");
    field("slices_per_volume", self.slices_per_volume, "slices drawn from each volume (3.1; table 6f: 1, 3, 5)",
          at_least(1));
    field("min_foreground", self.min_foreground, "a slice with a smaller fraction of foreground is drawn again (ours)",
          from_below(0, 1));
    field("channel", self.channel, "of images with several channels, the one that is read; null refuses them (ours)",
          at_least(0));
    field("split_by", self.split_by,
          "ratio (4.2); folds: cross-validation; given: the lists and folds of dataset.json (ours)");
    field("split", self.split, "subjects for training : validation : test (4.2)", at_least(0));
    field("folds", self.folds, "folds of a cross-validation (ours)", between(2, 1000));
    field("fold", self.fold, "fold that is tested (split_by folds) or validates (given) in this run", at_least(0));
    field("stratify", self.stratify,
          "spread evenly over the parts: classes and body parts, the labels that occur, or nothing (ours)");
    field("cache_gib", self.cache_gib, "memory for preprocessed volumes, GiB (ours)", at_least(0));
    field("cache_folder", self.cache_folder,
          "folder for preprocessed volumes: later runs find them there, and those beyond cache_gib are read from it "
          "(ours: none)");
    field("workers", self.workers, "threads that read and preprocess volumes", between(1, 256));
  }
  void check(const ConfigCheck& check) const {
    check(low_percentile < high_percentile, "low_percentile", "is ", low_percentile,
          ", expected less than high_percentile ", high_percentile);
    check(intensity != choice::Intensity::percentile || low_percentile > 0 || high_percentile < 100, "intensity",
          "is percentile, but low_percentile is 0 and high_percentile 100; 0.5 and 99.5 are usual");
    check(!planes.empty(), "planes", "is empty, expected at least one plane");
    check(split_by != choice::SplitBy::folds || fold < folds, "fold", "is ", fold, ", expected less than folds ",
          folds);
    check(split[0] > 0, "split", "gives no subject to training; its first number must be above 0");
  }
};

/// The plane-slice-aware transformer between volume tokens and the towers' space (3.3).
struct PsatConfig {
  choice::Psat mode = choice::Psat::full;
  Index queries = 300, width = 512, depth = 1, heads = 8, mlp_ratio = 4, bins = 128;

  template <class Self, class Field>
  static void fields(Self& self, Field&& field) {
    field("mode", self.mode, "full; no_positions: queries only; no_queries: pooled feature and projection (table 6a)");
    field("queries", self.queries, "learnable queries Q (4.1)", between(1, 65536));
    field("width", self.width, "width of a query (4.1)", between(1, 65536));
    field("depth", self.depth, "blocks (ours)", between(1, 64));
    field("heads", self.heads, "attention heads (ours)", between(1, 256));
    field("mlp_ratio", self.mlp_ratio, "hidden width of the MLP over width (ours)", between(1, 64));
    field("bins", self.bins, "slice positions J of each plane (3.3; number ours)", between(2, 65536));
  }
  void check(const ConfigCheck& check) const {
    check(width % heads == 0, "heads", "is ", heads, ", which does not divide width ", width);
  }
};

/// Mini-batch partial optimal transport with a learned Mahalanobis metric (3.4.1, algorithm 1).
struct MpotConfig {
  double epsilon = 0.05, mass = 0.95;
  choice::CostScale cost_scale = choice::CostScale::max;
  bool l2_normalize = true;
  choice::Solver solver = choice::Solver::newton;
  choice::Gradient gradient = choice::Gradient::implicit;
  Index max_sweeps = 5000;
  double tolerance = 1e-12;
  choice::Divergence loss = choice::Divergence::kl;
  choice::Metric metric = choice::Metric::full;
  Index metric_rank = 0;
  double metric_floor = 0;
  bool metric_trace = false;
  std::optional<double> metric_learning_rate;

  template <class Self, class Field>
  static void fields(Self& self, Field&& field) {
    field("epsilon", self.epsilon, "weight of the entropy (ours; not in the paper)", above(0));
    field("mass", self.mass, "mass s that is transported, 1 for balanced transport (ours; not in the paper)",
          above_upto(0, 1));
    field("cost_scale", self.cost_scale, "divide each cost matrix by its maximum (ours)");
    field("l2_normalize", self.l2_normalize, "divide embeddings by their norm before the cost (ours)");
    field("solver", self.solver, "newton, or the iteration of Bregman projections that algorithm 1 names");
    field("gradient", self.gradient, "implicit differentiation, or through the unrolled iteration (ours)");
    field("max_sweeps", self.max_sweeps, "cap on sweeps: 5000 for newton's start, 1000 is usual for dykstra (ours)",
          between(1, 10000000));
    field("tolerance", self.tolerance, "largest violation of the constraints, as a fraction of mass (ours)", above(0));
    field("loss", self.loss, "form of the divergence from the diagonal; they differ by constants (2)");
    field("metric", self.metric, "full M, projected onto the semidefinite cone; M = L'L; or a diagonal (3.4.1: full)");
    field("metric_rank", self.metric_rank, "rows of L in metric factor, 0 for the embeddings' width", at_least(0));
    field("metric_floor", self.metric_floor, "smallest eigenvalue that the projection leaves", at_least(0));
    field("metric_trace", self.metric_trace, "scale M to trace = width after each projection (ours)");
    field("metric_learning_rate", self.metric_learning_rate, "learning rate of M, null for the network's (ours)",
          above(0));
  }
  void check(const ConfigCheck& check) const {
    check(gradient == choice::Gradient::implicit || solver == choice::Solver::dykstra, "gradient",
          "unrolled needs solver dykstra: newton's path is not differentiated step by step");
  }
};

/// The contrastive loss, which replaces optimal transport in table 6c.
struct InfoNceConfig {
  double temperature = 0.07;
  bool learn_temperature = true;

  template <class Self, class Field>
  static void fields(Self& self, Field&& field) {
    field("temperature", self.temperature, "first temperature (ours: CLIP's)", above(0));
    field("learn_temperature", self.learn_temperature, "train the temperature (ours)");
  }
};

/// The restoration loss (3.4.2) and the corruption of its input.
struct ReconstructionConfig {
  choice::Reconstruction kind = choice::Reconstruction::mean;
  double weight = 1;
  double mask_ratio = 0;
  Index mask_patch = 8;

  template <class Self, class Field>
  static void fields(Self& self, Field&& field) {
    field("kind", self.kind, "mean squared error (ours); printed: sum of norms as in (3); none (table 6b)");
    field("weight", self.weight, "weight in the total loss (4: 1)", at_least(0));
    field("mask_ratio", self.mask_ratio, "fraction of patches of the input set to 0 (ours: none; 0.75 is usual)",
          from_below(0, 1));
    field("mask_patch", self.mask_patch, "edge of a masked patch, voxels (ours)", at_least(1));
  }
};

/// Pretraining on triplets (3.4, 4.1).
struct PretrainConfig {
  choice::Alignment alignment = choice::Alignment::mpot;
  double alignment_weight = 1;
  choice::AlignmentBatch alignment_batch = choice::AlignmentBatch::process;
  MpotConfig mpot;
  InfoNceConfig info_nce;
  ReconstructionConfig reconstruction;
  OptimizerConfig optimizer;
  Index epochs = 300, batch_size = 4, max_steps = 0;

  template <class Self, class Field>
  static void fields(Self& self, Field&& field) {
    field("alignment", self.alignment, "loss between volume and slice, volume and text (3.4.1, table 6b, 6c)");
    field("alignment_weight", self.alignment_weight, "weight in the total loss (4: 1)", at_least(0));
    field("alignment_batch", self.alignment_batch,
          "of several ranks: align within each rank's part of the batch (3.4.1), or over all of it (ours)");
    field("mpot", self.mpot, "partial optimal transport");
    field("info_nce", self.info_nce, "contrastive loss");
    field("reconstruction", self.reconstruction, "restoration of the volume (3.4.2)");
    field("optimizer", self.optimizer, "optimiser of network, PSAT and metric");
    field("epochs", self.epochs, "passes over the triplets (4.1)", at_least(1));
    field("batch_size", self.batch_size, "triplets of a step, over all ranks (4.1: 4 on each of 4 GPUs)",
          between(1, 65536));
    field("max_steps", self.max_steps, "stop after this many steps, 0 for all epochs", at_least(0));
  }
  void check(const ConfigCheck& check) const {
    check(alignment == choice::Alignment::none || batch_size >= 2, "batch_size", "is ", batch_size,
          ", expected at least 2: alignment compares the pairs of a batch (3.4.1)");
    check(alignment != choice::Alignment::none || reconstruction.kind != choice::Reconstruction::none, "alignment",
          "and reconstruction.kind are both none; nothing would be learned");
  }
};

/// The 2-D image and text towers when they are trained from scratch, and their fine-tuning on slice-caption pairs
/// (4.1). Towers that are loaded from a folder bring their own architecture.
struct ClipConfig {
  std::string pretrained;
  Index image_size = 224, patch = 32, vision_width = 768, vision_layers = 12, vision_heads = 12;
  Index context_length = 77, text_width = 512, text_layers = 12, text_heads = 8, embedding = 512;
  choice::LongCaptions long_captions = choice::LongCaptions::mean_of_chunks;
  OptimizerConfig optimizer{
      .kind = choice::Optimizer::adamw, .learning_rate = 1e-5, .beta2 = 0.98, .epsilon = 1e-6, .weight_decay = 0.1};
  double temperature = 0.07;
  Index epochs = 10, batch_size = 32, max_steps = 0;

  template <class Self, class Field>
  static void fields(Self& self, Field&& field) {
    field("pretrained", self.pretrained,
          "folder with CLIP weights and vocabulary (4.1), empty for towers from scratch");
    field("image_size", self.image_size, "edge of the input, pixels (CLIP ViT-B/32)", between(1, 4096));
    field("patch", self.patch, "edge of a patch, pixels (ViT-B/32)", between(1, 1024));
    field("vision_width", self.vision_width, "width of the image tower (ViT-B/32)", between(1, 65536));
    field("vision_layers", self.vision_layers, "blocks of the image tower (ViT-B/32)", between(1, 128));
    field("vision_heads", self.vision_heads, "attention heads of the image tower (ViT-B/32)", between(1, 256));
    field("context_length", self.context_length, "tokens that the text tower reads (CLIP)", between(3, 65536));
    field("text_width", self.text_width, "width of the text tower (CLIP)", between(1, 65536));
    field("text_layers", self.text_layers, "blocks of the text tower (CLIP)", between(1, 128));
    field("text_heads", self.text_heads, "attention heads of the text tower (CLIP)", between(1, 256));
    field("embedding", self.embedding, "width of the shared space (CLIP)", between(1, 65536));
    field("long_captions", self.long_captions, "what is done with a caption longer than context_length (ours)");
    field("optimizer", self.optimizer, "optimiser of both towers (ours: CLIP's, with a small rate)");
    field("temperature", self.temperature, "first temperature of towers from scratch (CLIP)", above(0));
    field("epochs", self.epochs, "passes over the pairs (ours)", at_least(1));
    field("batch_size", self.batch_size, "pairs of a step, over all ranks (ours)", between(2, 65536));
    field("max_steps", self.max_steps, "stop after this many steps, 0 for all epochs", at_least(0));
  }
  void check(const ConfigCheck& check) const {
    check(image_size % patch == 0, "patch", "is ", patch, ", which does not divide image_size ", image_size);
    check(vision_width % vision_heads == 0, "vision_heads", "is ", vision_heads,
          ", which does not divide vision_width ", vision_width);
    check(text_width % text_heads == 0, "text_heads", "is ", text_heads, ", which does not divide text_width ",
          text_width);
  }
};

/// Seed, device, logs and checkpoints: the same for every program.
struct RunConfig {
  std::uint64_t seed = 0;
  std::string device = "cpu";
  choice::Dtype dtype = choice::Dtype::f32;
  bool cuda_graph = false;
  Index threads = 0;
  Index log_every = 1, save_every = 100, keep = 3, max_bad_steps = 10;

  template <class Self, class Field>
  static void fields(Self& self, Field&& field) {
    field("seed", self.seed, "seed of every random number; the same seed gives the same bits");
    field("device", self.device, "cpu, cuda:0, ... or emulated");
    field("dtype", self.dtype, "type that the trained network computes in; weights and losses are f32 in any case");
    field("cuda_graph", self.cuda_graph,
          "on a GPU: record forward and backward at the first step and replay them, as one launch (ours)");
    field("threads", self.threads, "threads of the CPU, 0 for all", between(0, 4096));
    field("log_every", self.log_every, "steps between two lines of the log", at_least(1));
    field("save_every", self.save_every, "steps between two checkpoints", at_least(1));
    field("keep", self.keep, "checkpoints that are kept; the oldest is removed", at_least(1));
    field("max_bad_steps", self.max_bad_steps, "stop after this many steps in a row with a non-finite loss (ours)",
          at_least(1));
  }
};

/// The whole method. All programs read the same file, each its own sections.
struct MethodConfig {
  std::string about;
  RunConfig run;
  DataConfig data;
  NetworkConfig network;
  PsatConfig psat;
  ClipConfig clip;
  PretrainConfig pretrain;
  SegmentationConfig segmentation;
  ClassificationConfig classification;

  template <class Self, class Field>
  static void fields(Self& self, Field&& field) {
    field("about", self.about, "free text: what this file is for");
    field("run", self.run, "seed, device, logs, checkpoints");
    field("data", self.data, "volumes, slices, splits (3.1, 4.1, 4.2)");
    field("network", self.network, "volume encoder-decoder (3.2, 4.1)");
    field("psat", self.psat, "plane-slice-aware transformer (3.3)");
    field("clip", self.clip, "image and text towers (3.2, 4.1)");
    field("pretrain", self.pretrain, "pretraining on triplets (3.4, 4.1)");
    field("segmentation", self.segmentation, "fine-tuning for segmentation (4.2.1)");
    field("classification", self.classification, "fine-tuning for classification (4.2.2)");
  }
  void check(const ConfigCheck& check) const {
    check(network.backbone == choice::Backbone::nnformer || !segmentation.deep_supervision,
          "segmentation.deep_supervision", "is true, but network.backbone is ", enum_name(network.backbone),
          ", which has one output");
  }
};

}  // namespace M3I_ABI
}  // namespace m3i
