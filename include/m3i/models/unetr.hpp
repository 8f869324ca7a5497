#pragma once
/// UNETR: a vision transformer as the encoder of a convolutional decoder. Hatamizadeh et al. 2022, WACV,
/// arXiv:2103.10504.
///
/// Field names are the keys of MONAI's checkpoints. The decoder normalises each instance without learned gain, and its
/// convolutions have no bias, as there.

#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "m3i/autodiff/checkpoint.hpp"
#include "m3i/nn/conv.hpp"
#include "m3i/nn/linear.hpp"
#include "m3i/nn/norm.hpp"
#include "m3i/ops/attention.hpp"
#include "m3i/ops/instances.hpp"
#include "m3i/ops/norm.hpp"
#include "m3i/ops/pointwise.hpp"
#include "m3i/ops/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Defaults are the published network for one channel (ViT-B/16).
struct UnetrOptions {
  Index in_channels = 1, out_channels = 1;
  Index3 image = {96, 96, 96};  ///< fixed by the learned positions
  Index feature_size = 16;      ///< channels of the finest decoder map
  Index hidden = 768, mlp = 3072, heads = 12, layers = 12;
  bool checkpoint = false;  ///< recompute blocks of transformer and decoder in backward instead of keeping activations
  static constexpr Index patch = 16;

  /// These options, or a ConfigError that names the one that makes no network.
  const UnetrOptions& checked() const {
    for (std::size_t a = 0; a < 3; ++a)
      require<ConfigError>(image[a] >= patch && image[a] % patch == 0, "unetr: image extent ", image[a], " of axis ", a,
                           ", expected a multiple of the patch ", patch);
    require<ConfigError>(heads > 0 && hidden % heads == 0, "unetr: hidden size ", hidden, " does not divide into ",
                         heads, " heads");
    require<ConfigError>(layers >= 4 && layers % 4 == 0, "unetr: ", layers, " transformer layers, expected a multiple ",
                         "of 4: the decoder takes features at each quarter of the depth");
    require<ConfigError>(feature_size > 0 && mlp > 0, "unetr: feature size ", feature_size, " and MLP width ", mlp,
                         " must be positive");
    return *this;
  }
  Shape tokens() const { return {image[0] / patch, image[1] / patch, image[2] / patch}; }
};

/// Self-attention with one projection for queries, keys and values, without bias.
template <class T>
struct UnetrAttention {
  Linear<T> out_proj, qkv;
  Index heads;

  UnetrAttention(Index channels, Index heads_)
      : out_proj(channels, channels), qkv(channels, 3 * channels, false), heads(heads_) {}

  /// x [N, L, C] -> [N, L, C]
  Var<T> operator()(const Var<T>& x) const {
    const Index c = x.shape()[2];
    const auto parts = split(qkv(x), {c, c, c}, 2);
    AttentionOptions<T> options;
    options.heads = heads;
    return out_proj(attention(parts[0], parts[1], parts[2], options));
  }
  M3I_FIELDS(out_proj, qkv)
};

template <class T>
struct UnetrMlp {
  Linear<T> linear1, linear2;
  UnetrMlp(Index channels, Index width) : linear1(channels, width), linear2(width, channels) {}
  Var<T> operator()(const Var<T>& x) const { return linear2(gelu(linear1(x))); }
  M3I_FIELDS(linear1, linear2)
};

template <class T>
struct UnetrTransformerBlock {
  UnetrMlp<T> mlp;
  LayerNorm<T> norm1;
  UnetrAttention<T> attn;
  LayerNorm<T> norm2;

  explicit UnetrTransformerBlock(const UnetrOptions& o)
      : mlp(o.hidden, o.mlp), norm1(o.hidden), attn(o.hidden, o.heads), norm2(o.hidden) {}

  /// x [N, L, C] -> [N, L, C]
  Var<T> operator()(Var<T> x) const {
    x = x + attn(norm1(x));
    return x + mlp(norm2(x));
  }
  M3I_FIELDS(mlp, norm1, attn, norm2)
};

/// Patches to tokens, and where they lie.
template <class T>
struct UnetrPatchEmbedding {
  Var<T> position_embeddings;  ///< [1, L, C]
  Conv3d<T> patch_embeddings;

  explicit UnetrPatchEmbedding(const UnetrOptions& o)
      : position_embeddings(normal_parameter<T>({1, o.tokens().size(), o.hidden}, 0.02)),
        patch_embeddings(o.in_channels, o.hidden, {o.patch, o.patch, o.patch}, {o.patch, o.patch, o.patch}) {}

  /// x [N, D, H, W, C_in] -> [N, L, C]
  Var<T> operator()(const Var<T>& x) const {
    const Shape& p = position_embeddings.shape();
    return reshape(patch_embeddings(x), {x.shape()[0], p[1], p[2]}) + position_embeddings;
  }
  M3I_FIELDS(position_embeddings, patch_embeddings)
};

/// The encoder: a volume of one size to features of the transformer.
template <class T>
struct UnetrTransformer {
  UnetrOptions options;
  UnetrPatchEmbedding<T> patch_embedding;
  std::vector<UnetrTransformerBlock<T>> blocks;
  LayerNorm<T> norm;

  explicit UnetrTransformer(const UnetrOptions& o) : options(o.checked()), patch_embedding(o), norm(o.hidden) {
    for (Index i = 0; i < o.layers; ++i) blocks.emplace_back(o);
  }

  /// x [N, D, H, W, C_in] -> maps [N, D/16, H/16, W/16, hidden] at a quarter, half and three quarters of the depth
  /// (after blocks 4, 7 and 10 of 12, as published), and at the end, normalised.
  std::array<Var<T>, 4> operator()(const Var<T>& x) const {
    const Index3& n = options.image;
    require(x.rank() == 5 && x.shape() == Shape({x.shape()[0], n[0], n[1], n[2], options.in_channels}), "unetr: input ",
            x.shape(), " is not [N, ", n[0], ", ", n[1], ", ", n[2], ", ", options.in_channels,
            "]; the network's learned positions fix its input size");
    const std::size_t quarter = blocks.size() / 4;
    std::array<Var<T>, 4> maps;
    Var<T> y = patch_embedding(x);
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      y = options.checkpoint ? checkpoint([block = blocks[i]](const Var<T>& v) { return block(v); }, y) : blocks[i](y);
      if (i > 0 && i % quarter == 0) maps[i / quarter - 1] = y;
    }
    maps[3] = norm(y);
    const Shape grid = options.tokens();
    for (Var<T>& map : maps) map = reshape(map, {x.shape()[0], grid[0], grid[1], grid[2], options.hidden});
    return maps;
  }
  M3I_FIELDS(patch_embedding, blocks, norm)
};

/// MONAI wraps each convolution once more.
template <class T>
struct UnetrConv {
  Conv3d<T> conv;
  UnetrConv(Index in, Index out, Index kernel, bool with_bias = false)
      : conv(in, out, {kernel, kernel, kernel}, {1, 1, 1}, {kernel / 2, kernel / 2, kernel / 2}, with_bias) {}
  Var<T> operator()(const Var<T>& x) const { return conv(x); }
  M3I_FIELDS(conv)
};
/// Doubles each axis.
template <class T>
struct UnetrUpsample {
  ConvTranspose3d<T> conv;
  UnetrUpsample(Index in, Index out) : conv(in, out, {2, 2, 2}, false) {}
  Var<T> operator()(const Var<T>& x) const { return conv(x); }
  M3I_FIELDS(conv)
};

/// Two 3 x 3 x 3 convolutions with a shortcut, which is projected where the channels change.
template <class T>
struct UnetrResidual {
  UnetrConv<T> conv1, conv2;
  std::optional<UnetrConv<T>> conv3;

  UnetrResidual(Index in, Index out) : conv1(in, out, 3), conv2(out, out, 3) {
    if (in != out) conv3.emplace(in, out, 1);
  }

  /// Statement by statement: what a nested call has used would live until the whole expression ends.
  Var<T> operator()(Var<T> x) const {
    Var<T> y = conv1(x);
    if (conv3) x = (*conv3)(x);  // here, so that x can go: it is twice as wide
    if (conv3) x = instance_norm(x);
    y = instance_norm(y);
    y = leaky_relu(y, 0.01);
    y = conv2(y);
    y = instance_norm(y);
    y = y + x;
    return leaky_relu(y, 0.01);
  }
  M3I_FIELDS(conv1, conv2, conv3)
};

/// The skip at full resolution: from the image itself.
template <class T>
struct UnetrImageSkip {
  UnetrResidual<T> layer;
  explicit UnetrImageSkip(const UnetrOptions& o) : layer(o.in_channels, o.feature_size) {}
  Var<T> operator()(const Var<T>& x) const { return layer(x); }
  M3I_FIELDS(layer)
};

/// A skip from tokens: one doubling, then `steps` more, each followed by a residual block.
template <class T>
struct UnetrTokenSkip {
  struct Step {
    UnetrUpsample<T> up;
    UnetrResidual<T> residual;
    template <class Visitor>
    void visit_fields(const Visitor& visitor) const {  // a sequence in the checkpoints
      visitor("0", up);
      visitor("1", residual);
    }
  };
  UnetrUpsample<T> transp_conv_init;
  std::vector<Step> blocks;

  UnetrTokenSkip(Index hidden, Index channels, int steps) : transp_conv_init(hidden, channels) {
    for (int i = 0; i < steps; ++i) blocks.push_back({{channels, channels}, {channels, channels}});
  }

  Var<T> operator()(Var<T> x) const {
    x = transp_conv_init(x);
    for (const Step& step : blocks) {
      x = step.up(x);
      x = step.residual(std::move(x));
    }
    return x;
  }
  M3I_FIELDS(transp_conv_init, blocks)
};

/// The coarser map doubled, beside the skip of its resolution.
template <class T>
struct UnetrUp {
  UnetrUpsample<T> transp_conv;
  UnetrResidual<T> conv_block;

  UnetrUp(Index in, Index out) : transp_conv(in, out), conv_block(2 * out, out) {}

  Var<T> operator()(const Var<T>& x, Var<T> skip) const {
    skip = concat<T>({transp_conv(x), skip}, -1);
    return conv_block(std::move(skip));
  }
  M3I_FIELDS(transp_conv, conv_block)
};

/// Channels to classes.
template <class T>
struct UnetrOut {
  UnetrConv<T> conv;
  explicit UnetrOut(const UnetrOptions& o) : conv(o.feature_size, o.out_channels, 1, true) {}
  Var<T> operator()(const Var<T>& x) const { return conv(x); }
  M3I_FIELDS(conv)
};

template <class T>
struct Unetr {
  UnetrOptions options;
  UnetrTransformer<T> vit;
  UnetrImageSkip<T> encoder1;
  UnetrTokenSkip<T> encoder2, encoder3, encoder4;
  UnetrUp<T> decoder5, decoder4, decoder3, decoder2;
  UnetrOut<T> out;

  explicit Unetr(const UnetrOptions& o)
      : options(o),
        vit(o),
        encoder1(o),
        encoder2(o.hidden, 2 * o.feature_size, 2),
        encoder3(o.hidden, 4 * o.feature_size, 1),
        encoder4(o.hidden, 8 * o.feature_size, 0),
        decoder5(o.hidden, 8 * o.feature_size),
        decoder4(8 * o.feature_size, 4 * o.feature_size),
        decoder3(4 * o.feature_size, 2 * o.feature_size),
        decoder2(2 * o.feature_size, o.feature_size),
        out(o) {}

  /// Features of the transformer as maps [N, D/16, H/16, W/16, hidden], shallow first, the normalised last.
  std::array<Var<T>, 4> encode(const Var<T>& x) const { return vit(x); }

  /// From the maps of encode(), and the image itself for the skip at full resolution, to [N, D, H, W, out].
  Var<T> decode(const std::array<Var<T>, 4>& maps, const Var<T>& x) const {
    const auto& [z3, z6, z9, z12] = maps;
    Var<T> y = up(decoder5, z12, skip(encoder4, z9));
    y = up(decoder4, y, skip(encoder3, z6));
    y = up(decoder3, y, skip(encoder2, z3));
    y = up(decoder2, y, skip(encoder1, x));
    return out(y);
  }

  /// x [N, D, H, W, in] -> [N, D, H, W, out]
  Var<T> operator()(const Var<T>& x) const { return decode(encode(x), x); }
  M3I_FIELDS(vit, encoder1, encoder2, encoder3, encoder4, decoder5, decoder4, decoder3, decoder2, out)

 private:
  using Inputs = std::vector<Var<T>>;
  /// Modules of the decoder, checkpointed one by one: of the finest maps only skips and results are kept.
  template <class Module>
  Var<T> skip(const Module& module, const Var<T>& x) const {
    if (!options.checkpoint) return module(x);
    return checkpoint([module](const Var<T>& v) { return module(v); }, x);
  }
  Var<T> up(const UnetrUp<T>& module, const Var<T>& x, Var<T> skip) const {
    if (!options.checkpoint) return module(x, std::move(skip));
    return checkpoint([module](const Inputs& v) { return module(v[0], v[1]); }, Inputs{x, skip});
  }
};

}  // namespace M3I_ABI
}  // namespace m3i
