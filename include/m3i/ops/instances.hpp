#pragma once
/// The operations that m3i::compiled holds ready for every floating-point type. A program that links it
/// (M3I_COMPILED=1) is told here that they exist, and compiles none of them again: they are nearly all of the compile
/// time of a network.
///
/// A new operation works without a line here; with one it stops costing every program its compile time.

#include "m3i/ops/attention.hpp"
#include "m3i/ops/conv.hpp"
#include "m3i/ops/dropout.hpp"
#include "m3i/ops/embedding.hpp"
#include "m3i/ops/interpolate.hpp"
#include "m3i/ops/linear.hpp"
#include "m3i/ops/loss.hpp"
#include "m3i/ops/norm.hpp"
#include "m3i/ops/pointwise.hpp"
#include "m3i/ops/reduce.hpp"
#include "m3i/ops/shape.hpp"
#include "m3i/ops/softmax.hpp"
#include "m3i/ops/window.hpp"

#define M3I_POINTWISE_INSTANCES(KEYWORD, T)                    \
  KEYWORD template Var<T> pointwise(const Var<T>&, Relu);      \
  KEYWORD template Var<T> pointwise(const Var<T>&, LeakyRelu); \
  KEYWORD template Var<T> pointwise(const Var<T>&, Gelu);      \
  KEYWORD template Var<T> pointwise(const Var<T>&, GeluTanh);  \
  KEYWORD template Var<T> pointwise(const Var<T>&, QuickGelu); \
  KEYWORD template Var<T> pointwise(const Var<T>&, Silu);      \
  KEYWORD template Var<T> pointwise(const Var<T>&, Sigmoid);   \
  KEYWORD template Var<T> pointwise(const Var<T>&, Tanh);      \
  KEYWORD template Var<T> pointwise(const Var<T>&, Softplus);  \
  KEYWORD template Var<T> pointwise(const Var<T>&, Exp);       \
  KEYWORD template Var<T> pointwise(const Var<T>&, Log);       \
  KEYWORD template Var<T> pointwise(const Var<T>&, Sqrt);      \
  KEYWORD template Var<T> pointwise(const Var<T>&, Square);    \
  KEYWORD template Var<T> pointwise(const Var<T>&, Abs);       \
  KEYWORD template Var<T> pointwise(const Var<T>&, detail::ScaleAndShift);

#define M3I_ARITHMETIC_INSTANCES(KEYWORD, T)                                              \
  KEYWORD template Var<T> detail::binary<detail::Add>(const Var<T>&, const Var<T>&);      \
  KEYWORD template Var<T> detail::binary<detail::Subtract>(const Var<T>&, const Var<T>&); \
  KEYWORD template Var<T> detail::binary<detail::Multiply>(const Var<T>&, const Var<T>&); \
  KEYWORD template Var<T> detail::binary<detail::Divide>(const Var<T>&, const Var<T>&);   \
  KEYWORD template Var<T> sum(const Var<T>&);                                             \
  KEYWORD template Var<T> sum(const Var<T>&, int, bool);                                  \
  KEYWORD template Var<T> mean(const Var<T>&);                                            \
  KEYWORD template Var<T> mean(const Var<T>&, int, bool);                                 \
  KEYWORD template Var<T> max(const Var<T>&, int, bool);

#define M3I_SHAPE_INSTANCES(KEYWORD, T)                                                            \
  KEYWORD template Var<T> reshape(const Var<T>&, const Shape&);                                    \
  KEYWORD template Var<T> concat(const std::vector<Var<T>>&, int);                                 \
  KEYWORD template Var<T> slice(const Var<T>&, int, Index, Index);                                 \
  KEYWORD template Var<T> permute(const Var<T>&, const std::vector<int>&);                         \
  KEYWORD template Var<T> pad(const Var<T>&, const std::vector<std::array<Index, 2>>&);            \
  KEYWORD template Var<T> roll(const Var<T>&, const std::vector<Index>&, const std::vector<int>&); \
  KEYWORD template Var<T> broadcast_to(const Var<T>&, const Shape&);                               \
  KEYWORD template Var<T> index_select(const Var<T>&, int, const Tensor<std::int64_t>&);           \
  KEYWORD template Var<T> embedding(const Var<T>&, const Tensor<std::int64_t>&);                   \
  KEYWORD template Var<T> dropout(const Var<T>&, double, Random&);                                 \
  KEYWORD template Var<T> drop_path(const Var<T>&, double, Random&);

#define M3I_LAYER_INSTANCES(KEYWORD, T)                                                                          \
  KEYWORD template Var<T> linear(const Var<T>&, const Var<T>&, const Var<T>&);                                   \
  KEYWORD template Var<T> matmul(const Var<T>&, const Var<T>&, bool, bool);                                      \
  KEYWORD template Var<T> conv3d(const Var<T>&, const Var<T>&, const Var<T>&, const Conv3dSpec&);                \
  KEYWORD template Var<T> conv_transpose3d(const Var<T>&, const Var<T>&, const Var<T>&, const Conv3dSpec&);      \
  KEYWORD template Var<T> interpolate(const Var<T>&, const std::array<Index, 3>&, Interpolation, bool);          \
  KEYWORD template Var<T> layer_norm(const Var<T>&, const Var<T>&, const Var<T>&, double);                       \
  KEYWORD template Var<T> instance_norm(const Var<T>&, const Var<T>&, const Var<T>&, double);                    \
  KEYWORD template Var<T> l2_normalize(const Var<T>&, double);                                                   \
  KEYWORD template Var<T> softmax(const Var<T>&, int);                                                           \
  KEYWORD template Var<T> attention<T>(const Var<T>&, const Var<T>&, const Var<T>&, const AttentionOptions<T>&); \
  KEYWORD template Var<T> window_attention(const Var<T>&, const Var<T>&, const WindowSpec&, const Var<T>&);      \
  KEYWORD template Var<T> window_attention(const Var<T>&, const Var<T>&, const Var<T>&, const WindowSpec&,       \
                                           const Var<T>&, const Var<T>&);                                        \
  KEYWORD template Var<T> cross_entropy(const Var<T>&, const Tensor<std::int64_t>&, double);                     \
  KEYWORD template Var<T> dice_loss(const Var<T>&, const Tensor<std::int64_t>&, const DiceOptions&);             \
  KEYWORD template Var<T> mse_loss(const Var<T>&, const Var<T>&);                                                \
  KEYWORD template Var<T> info_nce(const Var<T>&, const Var<T>&, const Var<T>&);

#define M3I_OP_INSTANCES(KEYWORD, T)   \
  M3I_POINTWISE_INSTANCES(KEYWORD, T)  \
  M3I_ARITHMETIC_INSTANCES(KEYWORD, T) \
  M3I_SHAPE_INSTANCES(KEYWORD, T)      \
  M3I_LAYER_INSTANCES(KEYWORD, T)

#if defined(M3I_COMPILED) && M3I_COMPILED
namespace m3i {
inline namespace M3I_ABI {
M3I_OP_INSTANCES(extern, float)
M3I_OP_INSTANCES(extern, double)
M3I_OP_INSTANCES(extern, half)
M3I_OP_INSTANCES(extern, bf16)
}  // namespace M3I_ABI
}  // namespace m3i
#endif
