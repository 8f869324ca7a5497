#pragma once
/// The plane-slice-aware transformer: volume tokens to one embedding in the space of the 2-D towers (paper, 3.3).

#include <vector>

#include "m3i/nn/attention.hpp"
#include "m3i/nn/mlp.hpp"
#include "m3i/nn/norm.hpp"
#include "m3i/ops/instances.hpp"
#include "m3i/ops/reduce.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// The rows of table 6 (a): a pooled feature and a projection; queries; queries that know plane and slice.
enum class PsatKind { pooled, queries, plane_slice_queries };

struct PsatOptions {
  PsatKind kind = PsatKind::plane_slice_queries;
  Index volume_channels = 768;  ///< of the encoder's deepest feature map
  Index tower_width = 512;      ///< of the 2-D towers' embeddings
  Index width = 512, queries = 300, heads = 8, depth = 1, mlp_ratio = 4;
  Index planes = 3, slices = 128;  ///< size of the plane-slice embedding
};

/// Queries look at each other, then at the volume, then go through an MLP; each with a residual.
template <class T>
struct PsatBlock {
  LayerNorm<T> norm1;
  Attention<T> self_attn;
  LayerNorm<T> norm2;
  Attention<T> cross_attn;
  LayerNorm<T> norm3;
  Mlp<T> mlp;

  explicit PsatBlock(const PsatOptions& o)
      : norm1(o.width),
        self_attn(o.width, o.heads),
        norm2(o.width),
        cross_attn(o.width, o.heads),
        norm3(o.width),
        mlp(o.width, o.mlp_ratio * o.width) {}

  /// queries [N, Q, C], tokens [N, L, C] -> [N, Q, C]
  Var<T> operator()(Var<T> queries, const Var<T>& tokens) const {
    const Var<T> normed = norm1(queries);
    queries = queries + self_attn(normed, normed);
    queries = queries + cross_attn(norm2(queries), tokens);
    return queries + mlp(norm3(queries));
  }
  M3I_FIELDS(norm1, self_attn, norm2, cross_attn, norm3, mlp)
};

/// Where slices stand in the table of planes and bins: [N], in host memory. Throws ShapeError for what does not fit.
inline Tensor<std::int64_t> slice_positions(const std::vector<Index>& plane,
                                            const std::vector<Index>& slice,
                                            Index bins,
                                            Index planes = 3) {
  require(plane.size() == slice.size(), "psat: ", plane.size(), " planes and ", slice.size(), " slices");
  std::vector<std::int64_t> positions;
  for (std::size_t i = 0; i < plane.size(); ++i) {
    require(plane[i] >= 0 && plane[i] < planes && slice[i] >= 0 && slice[i] < bins, "psat: plane ", plane[i],
            ", slice bin ", slice[i], " of sample ", i, " is outside ", planes, " x ", bins);
    positions.push_back(plane[i] * bins + slice[i]);
  }
  return Tensor<std::int64_t>::from(positions, {Index(positions.size())});
}

template <class T>
struct Psat {
  PsatOptions options;
  Linear<T> volume_proj;
  Var<T> query;        ///< [Q, C]
  Var<T> plane_slice;  ///< V_p of the paper, [planes, slices, C], starts at zero
  std::vector<PsatBlock<T>> blocks;
  Mlp<T> head;

  explicit Psat(const PsatOptions& o)
      : options(o), volume_proj(o.volume_channels, o.width), head(o.width, o.width, o.tower_width) {
    if (o.kind != PsatKind::pooled) {
      query = normal_parameter<T>({o.queries, o.width}, 0.02);
      for (Index i = 0; i < o.depth; ++i) blocks.emplace_back(o);
    }
    if (o.kind == PsatKind::plane_slice_queries) plane_slice = constant_parameter<T>({o.planes, o.slices, o.width}, 0);
  }

  /// Embedding of each volume as seen from its slice.
  ///
  ///   volume  [N, D, H, W, volume_channels], the encoder's deepest features
  ///   plane   N entries, 0 coronal, 1 sagittal, 2 axial
  ///   slice   N entries, bins in [0, slices)
  ///   ->      [N, tower_width], rows of unit length
  ///
  /// Throws ShapeError for an empty volume, and for planes and slices that do not fit.
  Var<T> operator()(const Var<T>& volume, const std::vector<Index>& plane, const std::vector<Index>& slice) const {
    require(volume.rank() != 5 || Index(plane.size()) == volume.shape()[0], "psat: ", plane.size(), " planes and ",
            slice.size(), " slices for ", volume.shape()[0], " volumes");
    return (*this)(volume, slice_positions(plane, slice, options.slices, options.planes));
  }
  /// The same with slice_positions() [N].
  Var<T> operator()(const Var<T>& volume, const Tensor<std::int64_t>& position) const {
    require(volume.rank() == 5 && volume.size() > 0, "psat: needs a non-empty volume [N, D, H, W, C], got ",
            volume.shape());
    require(position.shape() == Shape{volume.shape()[0]}, "psat: the slices' positions are ", position.shape(), " for ",
            volume.shape()[0], " volumes");
    const Index n = volume.shape()[0], width = options.width;
    Var<T> tokens = volume_proj(reshape(volume, {n, volume.size() / (n * volume.shape()[-1]), volume.shape()[-1]}));
    if (options.kind == PsatKind::pooled) return l2_normalize(head(mean(tokens, 1)));

    Var<T> queries = broadcast_to(query, {n, options.queries, width});
    if (options.kind == PsatKind::plane_slice_queries) {
      const Var<T> where =
          reshape(embedding(reshape(plane_slice, {options.planes * options.slices, width}), position), {n, 1, width});
      queries = queries + where;
      tokens = tokens + where;
    }
    for (const auto& block : blocks) queries = block(queries, tokens);
    return l2_normalize(mean(head(queries), 1));
  }
  M3I_FIELDS(volume_proj, query, plane_slice, blocks, head)
};

}  // namespace M3I_ABI
}  // namespace m3i
