#pragma once
/// Settings of the downstream tasks (paper, 4.2).

#include <array>

#include "m3i/train/augment_config.hpp"
#include "m3i/train/optimizer_config.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace choice {

enum class SegmentationLoss { dice, dice_cross_entropy };
inline auto enum_names(SegmentationLoss) { return std::array{"dice", "dice_cross_entropy"}; }

}  // namespace choice

/// What segmentation and classification have in common (4.2).
struct FinetuneConfig {
  OptimizerConfig optimizer{.learning_rate = 1e-4};
  AugmentConfig augment;
  Index epochs = 100, batch_size = 4, max_steps = 0;
  Index freeze_epochs = 0, validate_every = 1;
  double train_fraction = 1;

  template <class Self, class Field>
  static void fields(Self& self, Field&& field) {
    field("optimizer", self.optimizer, "optimiser of network and head (ours)");
    field("augment", self.augment, "random changes of the training volumes");
    field("epochs", self.epochs, "passes over the training subjects (ours)", at_least(1));
    field("batch_size", self.batch_size, "volumes of a step, over all ranks (ours)", between(1, 65536));
    field("max_steps", self.max_steps, "stop after this many steps, 0 for all epochs", at_least(0));
    field("freeze_epochs", self.freeze_epochs, "epochs in which only the head learns (ours)", at_least(0));
    field("validate_every", self.validate_every, "epochs between validations; the best one is kept (ours)",
          at_least(1));
    field("train_fraction", self.train_fraction, "fraction of the training subjects used (figure 3c: 0.1, 0.2, 0.5, 1)",
          above_upto(0, 1));
  }
};

/// Training on crops of volumes that are larger than the network's input (data.fit = patch), and sliding windows over
/// them.
struct PatchConfig {
  double foreground = 1.0 / 3;
  Index per_volume = 1;
  double overlap = 0.5;

  template <class Self, class Field>
  static void fields(Self& self, Field&& field) {
    field("foreground", self.foreground, "share of crops around a voxel of a structure (nnU-Net: a third)",
          between(0, 1));
    field("per_volume", self.per_volume, "crops of each volume in an epoch (ours)", between(1, 100000));
    field("overlap", self.overlap, "of neighbouring windows in validation and prediction (nnU-Net: 0.5)",
          from_below(0, 1));
  }
};

/// Segmentation (4.2.1): encoder and decoder from pretraining, a new head.
struct SegmentationConfig {
  FinetuneConfig training;
  choice::SegmentationLoss loss = choice::SegmentationLoss::dice;
  bool background = false;
  double smooth = 1e-5;
  bool deep_supervision = false;
  PatchConfig patch;

  template <class Self, class Field>
  static void fields(Self& self, Field&& field) {
    field("training", self.training, "optimisation");
    field("loss", self.loss, "loss (4.2.1: dice)");
    field("background", self.background, "let the background count as a class in the Dice loss (ours)");
    field("smooth", self.smooth, "added to numerator and denominator of Dice (ours)", at_least(0));
    field("deep_supervision", self.deep_supervision, "add the losses of the coarser outputs (ours)");
    field("patch", self.patch, "crops and windows (data.fit = patch)");
  }
};

/// Classification (4.2.2): the pretrained encoder, pooled, and a linear head with cross-entropy.
struct ClassificationConfig {
  FinetuneConfig training;
  double dropout = 0, label_smoothing = 0;
  bool balance = false;

  template <class Self, class Field>
  static void fields(Self& self, Field&& field) {
    field("training", self.training, "optimisation");
    field("dropout", self.dropout, "dropout before the head (ours)", from_below(0, 1));
    field("label_smoothing", self.label_smoothing, "weight of the uniform distribution in the target (ours)",
          from_below(0, 1));
    field("balance", self.balance, "draw every class equally often (ours)");
  }
};

}  // namespace M3I_ABI
}  // namespace m3i
