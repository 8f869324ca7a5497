#pragma once
/// nnFormer: a volumetric encoder-decoder of window attention. Zhou et al. 2023, IEEE TIP 32, arXiv:2109.03201.
///
/// Field names are the keys of the published checkpoints. The two published variants differ in the patch, which decides
/// the strides of the embedding, and in the heads of the decoder: the "tumor" one gives each stage those of the next.

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "m3i/autodiff/checkpoint.hpp"
#include "m3i/nn/conv.hpp"
#include "m3i/nn/mlp.hpp"
#include "m3i/nn/norm.hpp"
#include "m3i/nn/window_attention.hpp"
#include "m3i/ops/instances.hpp"
#include "m3i/ops/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {

enum class NnFormerVariant { tumor, synapse };

struct NnFormerOptions {
  Index in_channels = 1, out_channels = 1;
  Index3 image = {128, 128, 128};  ///< usual input; decides where windows cover a whole axis
  NnFormerVariant variant = NnFormerVariant::tumor;
  Index embedding = 96;
  std::array<Index, 4> depths = {2, 2, 2, 2}, heads = {3, 6, 12, 24}, window = {4, 4, 8, 4};
  Index3 patch = {4, 4, 4};
  double drop_path = 0.2;        ///< stochastic depth of the last block, growing linearly from 0
  bool deep_supervision = true;  ///< outputs at three resolutions, else the finest only
  bool checkpoint = false;       ///< recompute blocks and patches in backward instead of keeping what is inside them

  /// These options, or a ConfigError that names the one that makes no network.
  const NnFormerOptions& checked() const {
    for (std::size_t a = 0; a < 3; ++a)
      require<ConfigError>(patch[a] >= 1, "nnformer: patch ", patch[a], " of axis ", a, ", expected 1 or more");
    require<ConfigError>(embedding >= 2 && embedding % 2 == 0, "nnformer: embedding ", embedding,
                         ", expected an even number of channels");
    for (std::size_t s = 0; s < 4; ++s)
      require<ConfigError>(depths[s] >= 1 && window[s] >= 1, "nnformer: stage ", s, " has depth ", depths[s],
                           " and window ", window[s], ", expected 1 or more");
    return *this;
  }
  Index channels(int stage) const { return embedding << stage; }
  /// Extents of the feature maps of a stage for the usual input.
  Index3 grid(int stage) const {
    return {image[0] / patch[0] >> stage, image[1] / patch[1] >> stage, image[2] / patch[2] >> stage};
  }
  Index decoder_heads(int stage) const {
    return heads[std::size_t(variant == NnFormerVariant::tumor ? stage + 1 : stage)];
  }
};

namespace detail {

/// A window that would cover the smallest axis is cut to it, and then does not shift.
struct WindowChoice {
  Index window, shift;
  WindowChoice(const Index3& grid, Index wanted, bool shifted) {
    const Index smallest = *std::min_element(grid.begin(), grid.end());
    require<ConfigError>(smallest > 0, "nnformer: the input is too small for its patch size and four stages");
    window = std::min(wanted, smallest);
    shift = shifted && smallest > wanted ? wanted / 2 : 0;
  }
};

/// Drop probability of block `i` of `total`: 0 for the first, `last` for the last.
inline double drop_rate(double last, Index i, Index total) {
  return total > 1 ? last * double(i) / double(total - 1) : 0;
}

}  // namespace detail

/// norm, window attention, residual; norm, MLP, residual.
template <class T>
struct NnFormerBlock {
  LayerNorm<T> norm1;
  WindowAttention<T> attn;
  LayerNorm<T> norm2;
  Mlp<T> mlp;
  double drop;

  NnFormerBlock(Index channels, Index heads, const detail::WindowChoice& choice, double drop_)
      : norm1(channels),
        attn(channels, heads, choice.window, choice.shift),
        norm2(channels),
        mlp(channels, 4 * channels),
        drop(drop_) {}

  /// x [N, D, H, W, C] -> the same shape
  Var<T> operator()(Var<T> x, const Mode& mode) const {
    x = residual(x, attn(norm1(x)), drop, mode);
    return residual(x, mlp(norm2(x)), drop, mode);
  }
  M3I_FIELDS(norm1, attn, norm2, mlp)
};

namespace detail {
/// One block after the other; checkpointed, each keeps its input alone and is computed again in backward.
template <class T>
Var<T> run_blocks(const std::vector<NnFormerBlock<T>>& blocks, Var<T> x, const Mode& mode, bool checkpointed) {
  for (const auto& block : blocks)
    x = checkpointed ? checkpoint([block, mode](const Var<T>& v) { return block(v, mode); }, x, mode.random)
                     : block(x, mode);
  return x;
}
}  // namespace detail

/// The decoder's first block: upsampled features ask, the encoder's features of the same resolution answer.
template <class T>
struct NnFormerSkipBlock {
  LayerNorm<T> norm1;
  SkipWindowAttention<T> attn;
  LayerNorm<T> norm2;
  Mlp<T> mlp;
  double drop;

  NnFormerSkipBlock(Index channels, Index heads, const detail::WindowChoice& choice, double drop_)
      : norm1(channels),
        attn(channels, heads, choice.window),
        norm2(channels),
        mlp(channels, 4 * channels),
        drop(drop_) {}

  /// up, skip [N, D, H, W, C] -> the same shape
  Var<T> operator()(const Var<T>& up, const Var<T>& skip, const Mode& mode) const {
    const Var<T> x = residual(up + skip, attn(norm1(up), norm1(skip)), drop, mode);
    return residual(x, mlp(norm2(x)), drop, mode);
  }
  M3I_FIELDS(norm1, attn, norm2, mlp)
};

/// Two convolutions with GELU and normalisation between; the first strides.
template <class T>
struct PatchProjection {
  Conv3d<T> conv1, conv2;
  LayerNorm<T> norm1;
  std::optional<LayerNorm<T>> norm2;  ///< absent in the last projection, which ends at its second convolution

  PatchProjection(Index in, Index out, Index3 stride, bool last)
      : conv1(in, out, {3, 3, 3}, stride, {1, 1, 1}), conv2(out, out, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}), norm1(out) {
    if (!last) norm2.emplace(out);
  }

  Var<T> operator()(const Var<T>& x) const {
    Var<T> y = conv1(x);  // statement by statement: nested, each map would live until the last is there
    y = gelu(y);
    y = norm1(y);
    y = conv2(y);
    if (!norm2) return y;
    y = gelu(y);
    return (*norm2)(y);
  }
  M3I_FIELDS(conv1, conv2, norm1, norm2)
};

/// Voxels to tokens: x [N, D, H, W, C] -> [N, D/patch, H/patch, W/patch, embedding].
template <class T>
struct NnFormerPatchEmbed {
  PatchProjection<T> proj1, proj2;
  LayerNorm<T> norm;
  Index3 patch;

  explicit NnFormerPatchEmbed(const NnFormerOptions& o)
      : proj1(o.in_channels, o.embedding / 2, first_stride(o), false),
        proj2(o.embedding / 2, o.embedding, second_stride(o), true),
        norm(o.embedding),
        patch(o.patch) {}

  /// Pads each axis with zeros at its end to a multiple of the patch.
  Var<T> operator()(const Var<T>& x) const {
    std::vector<std::array<Index, 2>> widths(5, {0, 0});
    bool whole = true;
    for (std::size_t a = 0; a < 3; ++a) {
      widths[a + 1][1] = (patch[a] - x.shape()[int(a) + 1] % patch[a]) % patch[a];
      whole = whole && widths[a + 1][1] == 0;
    }
    Var<T> y = whole ? x : pad(x, widths);
    y = proj1(y);
    y = proj2(y);
    return norm(y);
  }
  M3I_FIELDS(proj1, proj2, norm)

 private:
  /// Half of an even patch, and the first projection takes the rest: 4 = 2 x 2, 2 = 2 x 1. Both published variants.
  static Index3 second_stride(const NnFormerOptions& o) {
    Index3 stride;
    for (std::size_t a = 0; a < 3; ++a) stride[a] = o.patch[a] % 2 == 0 ? o.patch[a] / 2 : 1;
    return stride;
  }
  static Index3 first_stride(const NnFormerOptions& o) {
    Index3 stride = second_stride(o);
    for (std::size_t a = 0; a < 3; ++a) stride[a] = o.patch[a] / stride[a];
    return stride;
  }
};

/// Halves each axis and doubles the channels.
template <class T>
struct NnFormerDownsample {
  Conv3d<T> reduction;
  LayerNorm<T> norm;
  explicit NnFormerDownsample(Index channels)
      : reduction(channels, 2 * channels, {3, 3, 3}, {2, 2, 2}, {1, 1, 1}), norm(channels) {}
  Var<T> operator()(const Var<T>& x) const { return reduction(norm(gelu(x))); }
  M3I_FIELDS(reduction, norm)
};

/// Doubles each axis and halves the channels.
template <class T>
struct NnFormerUpsample {
  LayerNorm<T> norm;
  ConvTranspose3d<T> up;
  explicit NnFormerUpsample(Index channels) : norm(channels), up(channels, channels / 2, {2, 2, 2}) {}
  Var<T> operator()(const Var<T>& x) const { return up(norm(x)); }
  M3I_FIELDS(norm, up)
};

/// One resolution of the encoder: blocks with alternating shift.
template <class T>
struct NnFormerStage {
  std::vector<NnFormerBlock<T>> blocks;
  std::optional<NnFormerDownsample<T>> downsample;
  bool checkpointed;

  NnFormerStage(const NnFormerOptions& o, int stage, Index first, Index total) : checkpointed(o.checkpoint) {
    const auto s = std::size_t(stage);
    for (Index i = 0; i < o.depths[s]; ++i)
      blocks.emplace_back(o.channels(stage), o.heads[s], detail::WindowChoice(o.grid(stage), o.window[s], i % 2 == 1),
                          detail::drop_rate(o.drop_path, first + i, total));
    if (stage < 3) downsample.emplace(o.channels(stage));
  }

  Var<T> operator()(const Var<T>& x, const Mode& mode) const {
    return detail::run_blocks(blocks, x, mode, checkpointed);
  }
  M3I_FIELDS(blocks, downsample)
};

/// Volume to feature maps at four resolutions.
template <class T>
struct NnFormerEncoder {
  NnFormerPatchEmbed<T> patch_embed;
  std::vector<NnFormerStage<T>> layers;
  LayerNorm<T> norm0, norm1, norm2, norm3;
  bool checkpointed;

  explicit NnFormerEncoder(const NnFormerOptions& o)
      : patch_embed(o.checked()),
        norm0(o.channels(0)),
        norm1(o.channels(1)),
        norm2(o.channels(2)),
        norm3(o.channels(3)),
        checkpointed(o.checkpoint) {
    Index total = 0, first = 0;
    for (const Index depth : o.depths) total += depth;
    for (int stage = 0; stage < 4; ++stage) {
      layers.emplace_back(o, stage, first, total);
      first += o.depths[std::size_t(stage)];
    }
  }

  /// x [N, D, H, W, C_in] -> four maps, finest first: [N, D/p, H/p, W/p, E], [N, D/2p, ..., 2E], ...
  std::vector<Var<T>> operator()(const Var<T>& x, const Mode& mode = {}) const {
    const LayerNorm<T>* norms[] = {&norm0, &norm1, &norm2, &norm3};
    std::vector<Var<T>> maps;
    Var<T> y = checkpointed ? checkpoint([e = patch_embed](const Var<T>& v) { return e(v); }, x) : patch_embed(x);
    for (std::size_t stage = 0; stage < 4; ++stage) {
      y = layers[stage](y, mode);
      maps.push_back((*norms[stage])(y));
      if (layers[stage].downsample) y = (*layers[stage].downsample)(y);
    }
    return maps;
  }
  M3I_FIELDS(patch_embed, layers, norm0, norm1, norm2, norm3)
};

/// One resolution of the decoder.
template <class T>
struct NnFormerUpStage {
  struct Blocks {  // the published list mixes two kinds: entry 0 attends to the skip, the others to themselves
    NnFormerSkipBlock<T> first;
    std::vector<NnFormerBlock<T>> rest;
    template <class Visitor>
    void visit_fields(const Visitor& visitor) const {
      visitor("0", first);
      for (std::size_t i = 0; i < rest.size(); ++i) visitor(text(i + 1), rest[i]);
    }
  };
  Blocks blocks;
  NnFormerUpsample<T> Upsample;
  bool checkpointed;

  NnFormerUpStage(const NnFormerOptions& o, int stage, Index first, Index total)
      : blocks{{o.channels(stage), o.decoder_heads(stage),
                detail::WindowChoice(o.grid(stage), o.window[std::size_t(stage)], false),
                detail::drop_rate(o.drop_path, first, total)},
               {}},
        Upsample(o.channels(stage + 1)),
        checkpointed(o.checkpoint) {
    for (Index i = 1; i < o.depths[std::size_t(stage)]; ++i)
      blocks.rest.emplace_back(o.channels(stage), o.decoder_heads(stage),
                               detail::WindowChoice(o.grid(stage), o.window[std::size_t(stage)], true),
                               detail::drop_rate(o.drop_path, first + i, total));
  }

  /// x: the coarser map; skip: the encoder's map of this resolution.
  Var<T> operator()(const Var<T>& x, const Var<T>& skip, const Mode& mode) const {
    Var<T> up = Upsample(x);
    for (int axis = 1; axis <= 3; ++axis)  // an odd axis was rounded up on the way down
      if (up.shape()[axis] != skip.shape()[axis]) up = slice(up, axis, 0, skip.shape()[axis]);
    const std::vector<Var<T>> inputs{up, skip};
    const auto first = [block = blocks.first, mode](const std::vector<Var<T>>& v) { return block(v[0], v[1], mode); };
    const Var<T> y = checkpointed ? checkpoint(first, inputs, mode.random) : first(inputs);
    return detail::run_blocks(blocks.rest, y, mode, checkpointed);
  }
  M3I_FIELDS(blocks, Upsample)
};

/// Feature maps back up to the patch grid.
template <class T>
struct NnFormerDecoder {
  std::vector<NnFormerUpStage<T>> layers;  ///< finest first, as published

  explicit NnFormerDecoder(const NnFormerOptions& o) {
    Index total = 0;
    for (int stage = 0; stage < 3; ++stage) total += o.depths[std::size_t(stage)];
    Index first = total;
    for (int stage = 0; stage < 3; ++stage) {
      first -= o.depths[std::size_t(stage)];
      layers.emplace_back(o, stage, first, total);
    }
  }

  /// Four maps of the encoder -> three maps, finest first.
  std::vector<Var<T>> operator()(const std::vector<Var<T>>& skips, const Mode& mode = {}) const {
    std::vector<Var<T>> maps(3);
    Var<T> y = skips[3];
    for (std::size_t stage = 3; stage-- > 0;) maps[stage] = y = layers[stage](y, skips[stage], mode);
    return maps;
  }
  M3I_FIELDS(layers)
};

/// Tokens back to voxels.
template <class T>
struct PatchExpand {
  ConvTranspose3d<T> up;
  PatchExpand(Index channels, Index out, Index3 patch) : up(channels, out, patch) {}
  Var<T> operator()(const Var<T>& x) const { return up(x); }
  M3I_FIELDS(up)
};

template <class T>
struct NnFormer {
  NnFormerOptions options;
  NnFormerEncoder<T> model_down;
  NnFormerDecoder<T> decoder;
  std::vector<PatchExpand<T>> final;

  explicit NnFormer(const NnFormerOptions& o) : options(o), model_down(o), decoder(o) {
    for (int stage = 0; stage < (o.deep_supervision ? 3 : 1); ++stage)
      final.emplace_back(o.channels(stage), o.out_channels, o.patch);
  }

  /// Feature maps of the encoder, finest first.
  std::vector<Var<T>> encode(const Var<T>& x, const Mode& mode = {}) const { return model_down(checked(x), mode); }

  /// Decoded feature maps expanded to voxels: the finest on the input's grid [N, D, H, W, out], then, with deep
  /// supervision, at 1/2 and 1/4 of it.
  std::vector<Var<T>> decode(const std::vector<Var<T>>& skips, const Shape& input, const Mode& mode = {}) const {
    const auto maps = decoder(skips, mode);
    std::vector<Var<T>> outputs;
    for (std::size_t i = 0; i < final.size(); ++i) outputs.push_back(final[i](maps[i]));
    for (int axis = 1; axis <= 3; ++axis)  // the patch embedding padded
      if (outputs[0].shape()[axis] != input[axis]) outputs[0] = slice(outputs[0], axis, 0, input[axis]);
    return outputs;
  }

  /// x [N, D, H, W, in] -> outputs as of decode()
  std::vector<Var<T>> operator()(const Var<T>& x, const Mode& mode = {}) const {
    return decode(encode(x, mode), x.shape(), mode);
  }
  M3I_FIELDS(model_down, decoder, final)

 private:
  const Var<T>& checked(const Var<T>& x) const {
    require(x.rank() == 5 && x.shape()[4] == options.in_channels, "nnformer: input ", x.shape(),
            " is not [N, D, H, W, ", options.in_channels, "]");
    return x;
  }
};

}  // namespace M3I_ABI
}  // namespace m3i
