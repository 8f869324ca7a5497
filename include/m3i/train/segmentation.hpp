#pragma once
/// Segmentation: the loss, and networks from files.

#include <string>
#include <vector>

#include "m3i/ops/loss.hpp"
#include "m3i/train/finetune.hpp"
#include "m3i/train/label_scheme.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {
/// The voxel of a fine grid [N, D, H, W] that is nearest to the centre of a coarse one's.
struct NearestLabel {
  const std::int64_t* fine;
  std::int64_t* coarse;
  Index size[3], from[3];  ///< d, h, w and D, H, W
  M3I_HD void operator()(Index i) const {
    Index at = i, source = 0, stride = 1;
    for (int a = 2; a >= 0; --a) {
      source += stride * ((2 * (at % size[a]) + 1) * from[a] / (2 * size[a]));
      stride *= from[a], at /= size[a];
    }
    coarse[i] = fine[at * stride + source];
  }
};
}  // namespace detail

/// Labels [N, D, H, W] of the voxels nearest to the centres of a coarser grid [N, d, h, w].
inline Tensor<std::int64_t> thinned_labels(const Tensor<std::int64_t>& labels, const Shape& grid) {
  const Shape& s = labels.shape();
  const Tensor<std::int64_t> out(grid, labels.device());
  for_each(out.device(), out.size(),
           detail::NearestLabel{labels.data(), out.data(), {grid[1], grid[2], grid[3]}, {s[1], s[2], s[3]}});
  return out;
}

/// The loss of one output: soft Dice, alone or with cross-entropy.
template <class T>
Var<T> segmentation_loss(const Var<T>& logits, const Tensor<std::int64_t>& labels, const SegmentationConfig& c) {
  const Var<T> dice = dice_loss(logits, labels, {.include_background = c.background, .smooth = c.smooth});
  return c.loss == choice::SegmentationLoss::dice ? dice : dice + cross_entropy(logits, labels);
}

/// The loss of all outputs, finest first: each coarser one has half the weight of the one before, and weights add up to
/// 1 (nnU-Net's scheme). outputs[i] [N, D_i, H_i, W_i, K], labels [N, D, H, W].
template <class T>
Var<T> segmentation_loss(const std::vector<Var<T>>& outputs,
                         const Tensor<std::int64_t>& labels,
                         const SegmentationConfig& c) {
  Var<T> loss;
  double weight = 1, total = 0;
  for (const Var<T>& logits : outputs) {
    const Shape grid = logits.shape().slice(0, 4);
    const Var<T> term =
        weight * segmentation_loss(logits, grid == labels.shape() ? labels : thinned_labels(labels, grid), c);
    loss = loss.defined() ? loss + term : term;
    total += weight;
    weight /= 2;
  }
  return outputs.size() == 1 ? loss : (1 / total) * loss;
}

/// The segmentation network of a file. Throws FileError if it is another kind of model or does not fit.
inline SegmentationModel<float> load_segmentation_model(const ModelFile& file, Device device) {
  require<FileError>(file.info.kind == "segmentation", file.path(), ": is a ", file.info.kind,
                     " model, expected one of segmentation, as ", "finetune_segmentation writes it");
  const SegmentationModel<float> model(file.info.config, file.info.classes());
  load_module<float>(model, *file.weights);
  to(model, device);
  return model;
}

}  // namespace M3I_ABI
}  // namespace m3i
