#pragma once
/// Element types: float, double, half (IEEE binary16) and bf16 (the upper half of a float).
///
/// half and bf16 only store: arithmetic is done in accumulate_t<T>, and rounding is to nearest even.

#include <bit>
#include <cstdint>
#include <type_traits>

#include "m3i/core/config.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {
M3I_HD inline std::uint32_t float_bits(float x) { return std::bit_cast<std::uint32_t>(x); }
M3I_HD inline float bits_float(std::uint32_t b) { return std::bit_cast<float>(b); }

/// binary32 -> binary16, to nearest even; overflow becomes infinity, NaN stays NaN.
M3I_HD inline std::uint16_t to_half_bits(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800  // one instruction
  std::uint16_t h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
  return h;
#else
  const std::uint32_t b = float_bits(x), sign = (b >> 16) & 0x8000u, magnitude = b & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return std::uint16_t(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return std::uint16_t(sign | 0x7c00u);  // rounds to 65536 or is larger
  if (magnitude < 0x38800000u) {  // subnormal result: let a float addition do the shift and the rounding
    return std::uint16_t(sign | (float_bits(bits_float(magnitude) + 0.5f) - 0x3f000000u));
  }
  const std::uint32_t odd = (magnitude >> 13) & 1u;
  return std::uint16_t(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
#endif
}
M3I_HD inline float from_half_bits(std::uint16_t h) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
  return x;
#else
  const std::uint32_t sign = std::uint32_t(h & 0x8000u) << 16, magnitude = h & 0x7fffu;
  if (magnitude >= 0x7c00u) return bits_float(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  if (magnitude < 0x400u) {  // zero or subnormal
    const float value = float(magnitude) * 0x1p-24f;
    return sign ? -value : value;
  }
  return bits_float(sign | ((magnitude << 13) + 0x38000000u));
#endif
}
/// double -> float, to odd: the last bit records that something was cut, so that rounding once more is rounding once.
M3I_HD inline float to_odd_float(double x) {
  const float f = float(x);
  const std::uint32_t b = float_bits(f);
  if (double(f) == x || x != x || (b & 1u)) return f;
  const bool larger = (f < 0 ? -double(f) : double(f)) > (x < 0 ? -x : x);
  return bits_float(larger ? b - 1 : b + 1);
}
M3I_HD inline std::uint16_t to_bf16_bits(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  std::uint16_t h;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(x));
  return h;
#else
  const std::uint32_t b = float_bits(x);
  if ((b & 0x7fffffffu) > 0x7f800000u) return std::uint16_t((b >> 16) | 0x40u);
  return std::uint16_t((b + 0x7fffu + ((b >> 16) & 1u)) >> 16);
#endif
}
M3I_HD inline float from_bf16_bits(std::uint16_t h) { return bits_float(std::uint32_t(h) << 16); }
}  // namespace detail

/// IEEE binary16, layout-compatible with CUDA's __half.
struct half {
  std::uint16_t bits = 0;
  half() = default;
  M3I_HD explicit half(float x) : bits(detail::to_half_bits(x)) {}
  M3I_HD explicit half(double x) : half(detail::to_odd_float(x)) {}
  M3I_HD operator float() const { return detail::from_half_bits(bits); }
};
/// bfloat16, layout-compatible with CUDA's __nv_bfloat16.
struct bf16 {
  std::uint16_t bits = 0;
  bf16() = default;
  M3I_HD explicit bf16(float x) : bits(detail::to_bf16_bits(x)) {}
  M3I_HD explicit bf16(double x) : bf16(detail::to_odd_float(x)) {}
  M3I_HD operator float() const { return detail::from_bf16_bits(bits); }
};

template <class T>
inline constexpr bool is_small_float = std::is_same_v<T, half> || std::is_same_v<T, bf16>;

/// The type to compute in: float for half and bf16, else T itself.
template <class T>
using accumulate_t = std::conditional_t<is_small_float<T>, float, T>;

/// The field's names: f64, f32, f16, bf16, i64, i32, u8.
template <class T>
constexpr const char* dtype_name() {
  if constexpr (std::is_same_v<T, double>) return "f64";
  else if constexpr (std::is_same_v<T, float>) return "f32";
  else if constexpr (std::is_same_v<T, half>) return "f16";
  else if constexpr (std::is_same_v<T, bf16>) return "bf16";
  else if constexpr (std::is_same_v<T, std::int64_t>) return "i64";
  else if constexpr (std::is_same_v<T, std::int32_t>) return "i32";
  else if constexpr (std::is_same_v<T, std::uint8_t>) return "u8";
  else return "unknown";
}

}  // namespace M3I_ABI
}  // namespace m3i
