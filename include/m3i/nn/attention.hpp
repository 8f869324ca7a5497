#pragma once
/// Multi-head attention with the separate projections of the Hugging Face checkpoints.

#include "m3i/nn/linear.hpp"
#include "m3i/ops/attention.hpp"

namespace m3i {
inline namespace M3I_ABI {

template <class T>
struct Attention {
  Linear<T> q_proj, k_proj, v_proj, out_proj;
  Index heads;

  Attention(Index channels, Index heads_)
      : q_proj(channels, channels),
        k_proj(channels, channels),
        v_proj(channels, channels),
        out_proj(channels, channels),
        heads(heads_) {
    require(heads > 0 && channels % heads == 0, "attention: ", channels, " channels do not divide into ", heads,
            " heads");
  }

  /// queries [N, Lq, C] look at tokens [N, Lk, C] -> [N, Lq, C]
  Var<T> operator()(const Var<T>& queries, const Var<T>& tokens, bool causal = false) const {
    AttentionOptions<T> options;
    options.heads = heads;
    options.causal = causal;
    return out_proj(attention(q_proj(queries), k_proj(tokens), v_proj(tokens), options));
  }
  M3I_FIELDS(q_proj, k_proj, v_proj, out_proj)
};

}  // namespace M3I_ABI
}  // namespace m3i
