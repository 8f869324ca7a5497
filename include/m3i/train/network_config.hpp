#pragma once
/// Settings of the volume network.

#include <array>
#include <vector>

#include "m3i/core/shape.hpp"
#include "m3i/train/config.hpp"
#include "m3i/train/setting.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace choice {

enum class Backbone { nnformer, unetr };
inline auto enum_names(Backbone) { return std::array{"nnformer", "unetr"}; }

}  // namespace choice

/// UNETR's own settings.
struct UnetrConfig {
  static constexpr Index patch = 16;  ///< the decoder doubles four times
  Index hidden = 768, layers = 12, heads = 12, mlp = 3072, feature_size = 16;

  template <class Self, class Field>
  static void fields(Self& self, Field&& field) {
    field("hidden", self.hidden, "width of the transformer (published network, ViT-B/16)", between(1, 65536));
    field("layers", self.layers, "transformer blocks (published network)", between(4, 128));
    field("heads", self.heads, "attention heads (published network)", between(1, 256));
    field("mlp", self.mlp, "hidden width of the transformer's MLP (published network)", between(1, 65536));
    field("feature_size", self.feature_size, "channels of the decoder's finest map (published network)",
          between(1, 1024));
  }
  void check(const ConfigCheck& check) const {
    check(hidden % heads == 0, "heads", "is ", heads, ", which does not divide hidden ", hidden);
    check(layers % 4 == 0, "layers", "is ", layers,
          ", expected a multiple of 4: the decoder takes features at each quarter of the depth");
  }
};

/// The volume encoder-decoder.
struct NetworkConfig {
  choice::Backbone backbone = choice::Backbone::nnformer;
  Index image_size = 128;
  Index in_channels = 1;
  Index embedding = 96;
  std::vector<Index> depths{2, 2, 2, 2};
  std::vector<Index> heads{3, 6, 12, 24};
  Index patch = 4;
  std::vector<Index> windows{4, 4, 8, 4};
  double drop_path = 0;
  bool checkpointing = false;
  UnetrConfig unetr;

  template <class Self, class Field>
  static void fields(Self& self, Field&& field) {
    field("backbone", self.backbone, "architecture: nnFormer (4.1) or UNETR (figure 3)");
    field("image_size", self.image_size, "edge of the cubic input, voxels (4.2)", between(4, 1024));
    field("in_channels", self.in_channels, "channels of the input volume", between(1, 64));
    field("embedding", self.embedding, "channels after the patch embedding; doubled at each stage (published network)",
          between(1, 4096));
    field("depths", self.depths, "transformer blocks of each stage (published network)", between(1, 64));
    field("heads", self.heads, "attention heads of each stage (published network)", between(1, 256));
    field("patch", self.patch, "edge of a patch, voxels (published network, 'tumor')", between(1, 64));
    field("windows", self.windows, "edge of an attention window of each stage, tokens (published network, 'tumor')",
          between(1, 64));
    field("drop_path", self.drop_path, "rate of stochastic depth in the last block, 0 in the first (ours)",
          from_below(0, 1));
    field("checkpointing", self.checkpointing,
          "recompute activations in backward: less memory, about a third more time");
    field("unetr", self.unetr, "what UNETR has in place of nnFormer's embedding, depths, heads, patch and windows");
  }
  void check(const ConfigCheck& check) const {
    if (backbone == choice::Backbone::unetr) return check_unetr(check);
    check(!depths.empty(), "depths", "is empty, expected a number of blocks for each stage");
    check(heads.size() == depths.size(), "heads", "has ", heads.size(), " stages, depths has ", depths.size());
    check(windows.size() == depths.size(), "windows", "has ", windows.size(), " stages, depths has ", depths.size());
    check(depths.size() <= 6, "depths", "has ", depths.size(), " stages, expected at most 6");
    for (std::size_t i = 0; i < heads.size(); ++i)
      check((embedding << i) % heads[i] == 0, "heads", "stage ", i, " has ", embedding << i, " channels, which ",
            heads[i], " heads do not divide");
    const Index coarsest = patch << (depths.size() - 1);
    check(image_size >= coarsest, "image_size", "is ", image_size, ", expected at least ", coarsest, " (patch ", patch,
          " and ", depths.size(), " stages)");
  }

 private:
  void check_unetr(const ConfigCheck& check) const {
    check(image_size % UnetrConfig::patch == 0, "image_size", "is ", image_size, ", expected a multiple of ",
          UnetrConfig::patch, ", the edge of UNETR's patches");
    check(drop_path == 0, "drop_path", "is ", drop_path, ", but UNETR has no stochastic depth");
  }
};

}  // namespace M3I_ABI
}  // namespace m3i
