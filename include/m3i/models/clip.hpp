#pragma once
/// CLIP: an image tower and a text tower with a common embedding. Radford et al. 2021, arXiv:2103.00020.
///
/// Field names are those of the Hugging Face checkpoints (one of them is misspelt there).

#include <algorithm>
#include <vector>

#include "m3i/nn/attention.hpp"
#include "m3i/nn/mlp.hpp"
#include "m3i/nn/norm.hpp"
#include "m3i/ops/conv.hpp"
#include "m3i/ops/instances.hpp"
#include "m3i/ops/loss.hpp"

namespace m3i {
inline namespace M3I_ABI {

struct ClipTowerOptions {
  Index width = 768, layers = 12, heads = 12, hidden = 3072;
  Activation activation = Activation::quick_gelu;
};
/// Defaults are ViT-B/32.
struct ClipOptions {
  ClipTowerOptions vision = {};
  Index image = 224, patch = 32;  ///< pixels
  ClipTowerOptions text = {512, 12, 8, 2048, Activation::quick_gelu};
  Index vocabulary = 49408, context = 77;
  Index projection = 512;  ///< width of the common embedding
};

template <class T>
struct ClipBlock {
  Attention<T> self_attn;
  LayerNorm<T> layer_norm1;
  Mlp<T> mlp;
  LayerNorm<T> layer_norm2;

  explicit ClipBlock(const ClipTowerOptions& o)
      : self_attn(o.width, o.heads),
        layer_norm1(o.width),
        mlp(o.width, o.hidden, o.width, o.activation),
        layer_norm2(o.width) {}

  /// x [N, L, C] -> [N, L, C]
  Var<T> operator()(Var<T> x, bool causal) const {
    const Var<T> normed = layer_norm1(x);
    x = x + self_attn(normed, normed, causal);
    return x + mlp(layer_norm2(x));
  }
  M3I_FIELDS(self_attn, layer_norm1, mlp, layer_norm2)
};

template <class T>
struct ClipEncoder {
  std::vector<ClipBlock<T>> layers;

  explicit ClipEncoder(const ClipTowerOptions& o) {
    for (Index i = 0; i < o.layers; ++i) layers.emplace_back(o);
  }
  Var<T> operator()(Var<T> x, bool causal) const {
    for (const auto& layer : layers) x = layer(x, causal);
    return x;
  }
  M3I_FIELDS(layers)
};

/// Pixels to tokens: patches, a class token in front, learned positions.
template <class T>
struct ClipImageEmbeddings {
  struct Patch {
    Var<T> weight;  ///< [C, patch, patch, 3]
    M3I_FIELDS(weight)
  };
  Var<T> class_embedding;  ///< [C]
  Patch patch_embedding;
  Embedding<T> position_embedding;
  Index image, patch;

  explicit ClipImageEmbeddings(const ClipOptions& o)
      : class_embedding(normal_parameter<T>({o.vision.width}, 0.02)),
        patch_embedding{fan_in_parameter<T>({o.vision.width, o.patch, o.patch, 3}, 3 * o.patch * o.patch)},
        position_embedding(grid(o) * grid(o) + 1, o.vision.width),
        image(o.image),
        patch(o.patch) {}

  /// pixels [N, image, image, 3] -> [N, 1 + patches, C]
  Var<T> operator()(const Var<T>& pixels) const {
    require(pixels.rank() == 4 && pixels.shape().slice(1, 4) == Shape({image, image, 3}), "clip: image ",
            pixels.shape(), " is not [N, ", image, ", ", image, ", 3]");
    const Index n = pixels.shape()[0], c = class_embedding.size(), along = image / patch;
    Conv3dSpec spec;
    spec.stride = {1, patch, patch};
    const Var<T> patches = conv3d(reshape(pixels, {n, 1, image, image, 3}),
                                  reshape(patch_embedding.weight, {c, 1, patch, patch, 3}), Var<T>(), spec);
    const Var<T> first = broadcast_to(reshape(class_embedding, {1, 1, c}), {n, 1, c});
    return concat<T>({first, reshape(patches, {n, along * along, c})}, 1) + position_embedding.weight;
  }
  M3I_FIELDS(class_embedding, patch_embedding, position_embedding)

 private:
  /// Patches along each side.
  static Index grid(const ClipOptions& o) {
    require<ConfigError>(o.patch > 0 && o.image >= o.patch && o.image % o.patch == 0, "clip: image size ", o.image,
                         " is not a multiple of patch ", o.patch);
    return o.image / o.patch;
  }
};

template <class T>
struct ClipVision {
  ClipImageEmbeddings<T> embeddings;
  LayerNorm<T> pre_layrnorm;
  ClipEncoder<T> encoder;
  LayerNorm<T> post_layernorm;

  explicit ClipVision(const ClipOptions& o)
      : embeddings(o), pre_layrnorm(o.vision.width), encoder(o.vision), post_layernorm(o.vision.width) {}

  /// pixels [N, image, image, 3] -> the class token [N, C]
  Var<T> operator()(const Var<T>& pixels) const {
    const Var<T> x = encoder(pre_layrnorm(embeddings(pixels)), false);
    return post_layernorm(reshape(slice(x, 1, 0, 1), {x.shape()[0], x.shape()[2]}));
  }
  M3I_FIELDS(embeddings, pre_layrnorm, encoder, post_layernorm)
};

template <class T>
struct ClipTextEmbeddings {
  Embedding<T> token_embedding, position_embedding;
  explicit ClipTextEmbeddings(const ClipOptions& o)
      : token_embedding(o.vocabulary, o.text.width), position_embedding(o.context, o.text.width, 0.01) {}
  /// ids [N, L] -> [N, L, C]
  Var<T> operator()(const Tensor<std::int64_t>& ids) const {
    return token_embedding(ids) + slice(position_embedding.weight, 0, 0, ids.shape()[1]);
  }
  M3I_FIELDS(token_embedding, position_embedding)
};

template <class T>
struct ClipText {
  ClipTextEmbeddings<T> embeddings;
  ClipEncoder<T> encoder;
  LayerNorm<T> final_layer_norm;
  Index context;

  explicit ClipText(const ClipOptions& o)
      : embeddings(o), encoder(o.text), final_layer_norm(o.text.width), context(o.context) {}

  /// ids [N, L], L at most the context -> the features of each end-of-text token [N, C], which has the highest id.
  Var<T> operator()(const Tensor<std::int64_t>& ids) const {
    require(ids.rank() == 2 && ids.shape()[1] > 0 && ids.shape()[1] <= context, "clip: token ids ", ids.shape(),
            " are not [N, L] with L up to ", context, "; cut the text first");
    const Index n = ids.shape()[0], length = ids.shape()[1];
    const Var<T> x = final_layer_norm(encoder(embeddings(ids), true));
    std::vector<std::int64_t> ends;
    const auto values = ids.to_vector();
    for (Index i = 0; i < n; ++i) {
      const auto row = values.begin() + i * length;
      ends.push_back(i * length + (std::max_element(row, row + length) - row));
    }
    return index_select(reshape(x, {n * length, x.shape()[2]}), 0, Tensor<std::int64_t>::from(ends, {n}, x.device()));
  }
  M3I_FIELDS(embeddings, encoder, final_layer_norm)
};

template <class T>
struct Clip {
  ClipOptions options;
  ClipVision<T> vision_model;
  ClipText<T> text_model;
  Linear<T> visual_projection, text_projection;
  Var<T> logit_scale;  ///< logarithm of the inverse temperature

  explicit Clip(const ClipOptions& o)
      : options(o),
        vision_model(o),
        text_model(o),
        visual_projection(o.vision.width, o.projection, false),
        text_projection(o.text.width, o.projection, false),
        logit_scale(constant_parameter<T>({}, 2.6592600369327783)) {}  // log(1 / 0.07)

  /// pixels [N, image, image, 3], normalised as the tower expects -> [N, projection]
  Var<T> encode_image(const Var<T>& pixels) const { return visual_projection(vision_model(pixels)); }
  /// ids [N, L] -> [N, projection]
  Var<T> encode_text(const Tensor<std::int64_t>& ids) const { return text_projection(text_model(ids)); }

  /// Symmetric contrastive loss of matched images and texts.
  Var<T> operator()(const Var<T>& pixels, const Tensor<std::int64_t>& ids) const {
    return info_nce(l2_normalize(encode_image(pixels)), l2_normalize(encode_text(ids)), logit_scale);
  }
  M3I_FIELDS(vision_model, text_model, visual_projection, text_projection, logit_scale)
};

}  // namespace M3I_ABI
}  // namespace m3i
