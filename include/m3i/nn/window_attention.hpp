#pragma once
/// Attention within shifted windows, with a learned bias for each relative position (nnFormer's index of the table).

#include "m3i/nn/linear.hpp"
#include "m3i/ops/window.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {
template <class T>
Var<T> relative_bias_table(Index window, Index heads) {
  const Index offsets = 2 * window - 1;
  return normal_parameter<T>({offsets * offsets * offsets, heads}, 0.02);
}
inline WindowSpec cubic_window(Index channels, Index heads, Index window, Index shift) {
  require(heads > 0 && channels % heads == 0, "window attention: ", channels, " channels do not divide into ", heads,
          " heads");
  WindowSpec spec;
  spec.heads = heads;
  spec.window = {window, window, window};
  spec.shift = {shift, shift, shift};
  spec.index = RelativeIndex::nnformer;
  return spec;
}
}  // namespace detail

/// Every window attends to itself.
template <class T>
struct WindowAttention {
  Var<T> relative_position_bias_table;  ///< [(2 window - 1)^3, heads]
  Linear<T> qkv, proj;
  WindowSpec spec;

  WindowAttention(Index channels, Index heads, Index window, Index shift)
      : relative_position_bias_table(detail::relative_bias_table<T>(window, heads)),
        qkv(channels, 3 * channels),
        proj(channels, channels),
        spec(detail::cubic_window(channels, heads, window, shift)) {}

  /// x [N, D, H, W, C] -> the same shape. Positions beyond the volume count as zero input: their q, k, v are the bias.
  Var<T> operator()(const Var<T>& x) const {
    return proj(window_attention(qkv(x), relative_position_bias_table, spec, qkv.bias));
  }
  M3I_FIELDS(relative_position_bias_table, qkv, proj)
};

/// Upsampled features are the queries, unprojected; the encoder's features give keys and values.
template <class T>
struct SkipWindowAttention {
  Var<T> relative_position_bias_table;
  Linear<T> kv, proj;
  WindowSpec spec;

  SkipWindowAttention(Index channels, Index heads, Index window)
      : relative_position_bias_table(detail::relative_bias_table<T>(window, heads)),
        kv(channels, 2 * channels),
        proj(channels, channels),
        spec(detail::cubic_window(channels, heads, window, 0)) {}

  /// up, skip [N, D, H, W, C] -> the same shape
  Var<T> operator()(const Var<T>& up, const Var<T>& skip) const {
    return proj(window_attention(up, kv(skip), relative_position_bias_table, spec, kv.bias));
  }
  M3I_FIELDS(relative_position_bias_table, kv, proj)
};

}  // namespace M3I_ABI
}  // namespace m3i
