#pragma once
/// Scalar functions for host and device, without branches, so that a plain loop over them vectorises.
///
/// Accuracy: within 5 units in the last place of std:: for float and double (tests/kernels/math.cpp measures it).
/// exp really reaches 0 and infinity, NaN stays NaN.

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "m3i/core/config.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace math {

namespace detail {

template <class T>
struct Layout;
template <>
struct Layout<float> {
  using Int = std::int32_t;
  static constexpr int mantissa = 23, bias = 127, exp_terms = 7, log_terms = 5;
  static constexpr float exp_factorial = 5040;    // of exp_terms
  static constexpr float to_integer = 0x1.8p23f;  // adding it leaves the nearest integer in the low bits
  static constexpr float ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;
  static constexpr float lowest = -87.33654f, highest = 88.72283f, tiny = 0x1p-126f, upscale = 0x1p25f;
  static constexpr int upscale_log2 = 25;
};
template <>
struct Layout<double> {
  using Int = std::int64_t;
  static constexpr int mantissa = 52, bias = 1023, exp_terms = 13, log_terms = 11;
  static constexpr double exp_factorial = 6227020800;
  static constexpr double to_integer = 0x1.8p52;
  static constexpr double ln2_high = 0x1.62e42fefa38p-1, ln2_low = 0x1.ef35793c7673p-45;
  static constexpr double lowest = -708.39641853226408, highest = 709.78271289338397, tiny = 0x1p-1022,
                          upscale = 0x1p54;
  static constexpr int upscale_log2 = 54;
};

/// x = n ln 2 + r with |r| <= ln 2 / 2; returns e^r - 1 and 2^(n/2) twice, so that n = 128 does not overflow.
template <class T>
struct Reduced {
  T r_expm1, scale, scale2;
};
template <class T>
M3I_HD inline Reduced<T> reduce(T x) {
  using L = Layout<T>;
  using Int = typename L::Int;
  const T shifted = x * T(1.4426950408889634074) + L::to_integer;
  const Int n = std::bit_cast<Int>(shifted) - std::bit_cast<Int>(T(L::to_integer));
  const T n_real = shifted - L::to_integer;
  const T r = (x - n_real * L::ln2_high) - n_real * L::ln2_low;
  // e^r - 1 = r + r^2 (1/2! + r (1/3! + ...)); unrolled, the factorials are constants and nothing is divided.
  T factorial = L::exp_factorial, p = 1 / factorial;
  M3I_UNROLL(16)
  for (int k = L::exp_terms; k > 2; --k) factorial /= T(k), p = p * r + 1 / factorial;
  const Int half = n >> 1;
  return {r + r * r * p, std::bit_cast<T>((half + L::bias) << L::mantissa),
          std::bit_cast<T>((n - half + L::bias) << L::mantissa)};
}
template <class T>
M3I_HD inline T clamp_exponent(T x) {
  using L = Layout<T>;
  const T low = x < L::lowest ? L::lowest : x;
  return low > L::highest ? L::highest : low;
}

}  // namespace detail

template <class T>
M3I_HD inline T abs(T x) {
  return x < 0 ? -x : x;
}
template <class T>
M3I_HD inline T max(T a, T b) {
  return a > b ? a : b;
}
template <class T>
M3I_HD inline T min(T a, T b) {
  return a < b ? a : b;
}
M3I_HD inline float sqrt(float x) { return ::sqrtf(x); }
M3I_HD inline double sqrt(double x) { return ::sqrt(x); }

template <class T>
M3I_HD inline T exp(T x) {
  using L = detail::Layout<T>;
  const auto e = detail::reduce(detail::clamp_exponent(x));
  const T y = (e.r_expm1 + 1) * e.scale * e.scale2;
  const T low = x < L::lowest ? T(0) : y;
  return x > L::highest ? std::numeric_limits<T>::infinity() : low;
}

/// e^x - 1 without cancellation near 0.
template <class T>
M3I_HD inline T expm1(T x) {
  using L = detail::Layout<T>;
  const auto e = detail::reduce(detail::clamp_exponent(x));
  const T scale = e.scale * e.scale2;
  const T near = scale * e.r_expm1 + (scale - 1);
  const T y = x > T(40) ? (e.r_expm1 + 1) * e.scale * e.scale2 : near;  // there 1 is lost, and `scale` may overflow
  return x > L::highest ? std::numeric_limits<T>::infinity() : y;
}

/// Natural logarithm; -infinity at 0, NaN below.
template <class T>
M3I_HD inline T log(T x) {
  using L = detail::Layout<T>;
  using Int = typename L::Int;
  const bool small = x < L::tiny;
  const T scaled = small ? x * L::upscale : x;
  // Mantissa in [sqrt(1/2), sqrt(2)): subtract the bits of sqrt(1/2) before splitting off the exponent.
  const Int offset = std::bit_cast<Int>(T(0.70710678118654752440));
  const Int bits = std::bit_cast<Int>(scaled) - offset;
  const Int exponent = bits >> L::mantissa;
  const T m = std::bit_cast<T>((bits & ((Int(1) << L::mantissa) - 1)) + offset);
  const T s = (m - 1) / (m + 1), s2 = s * s;  // log m = 2 artanh s
  T p = 0;
  M3I_UNROLL(16)
  for (int k = L::log_terms; k >= 1; --k) p = (p + 1 / T(2 * k + 1)) * s2;
  const T n = T(exponent - (small ? L::upscale_log2 : 0));
  const T f = m - 1;  // exact; s = f - s f, so that the leading term f carries no rounding of its own
  const T y = n * L::ln2_high + (f - (s * (f - 2 * p) - n * L::ln2_low));
  const T positive = x < std::numeric_limits<T>::infinity() ? y : x;
  const T not_zero = x == 0 ? -std::numeric_limits<T>::infinity() : positive;
  return x < 0 ? std::numeric_limits<T>::quiet_NaN() : not_zero;
}

/// log(1 + x) without cancellation near 0.
template <class T>
M3I_HD inline T log1p(T x) {
  const T u = 1 + x;
  const T lost = (u - 1) - x;
  const T y = math::log(u) - (u == 0 ? T(0) : lost / u);
  return x < std::numeric_limits<T>::infinity() ? y : x;
}

template <class T>
M3I_HD inline T sigmoid(T x) {
  return 1 / (1 + math::exp(-x));
}

template <class T>
M3I_HD inline T tanh(T x) {
  const T e = math::expm1(-2 * math::abs(x));
  const T y = -e / (e + 2);
  return x < 0 ? -y : y;
}

/// log(1 + e^x)
template <class T>
M3I_HD inline T softplus(T x) {
  return math::max(x, T(0)) + math::log1p(math::exp(-math::abs(x)));
}

/// e^(-x^2) and erf(x) together: GELU and its slope need both.
/// Rational approximations of Cody 1969, Math. Comp. 23, 631-637 (the middle one serves the tail: there only 1 - erf is
/// of its size, below 1.6e-8).
template <class T>
struct ErfGauss {
  T erf, gauss;
};
template <class T>
M3I_HD inline ErfGauss<T> erf_gauss(T x) {
  const T a = math::abs(x), z = a * a;
  const T gauss = math::exp(-z);
  const T near_p = (((T(1.85777706184603153e-1) * z + T(3.16112374387056560e00)) * z + T(1.13864154151050156e02)) * z +
                    T(3.77485237685302021e02)) *
                       z +
                   T(3.20937758913846947e03);
  const T near_q =
      (((z + T(2.36012909523441209e01)) * z + T(2.44024637934444173e02)) * z + T(1.28261652607737228e03)) * z +
      T(2.84423683343917062e03);
  const T b = math::min(a, T(8));  // beyond, erf is 1 in either type and the powers would overflow float
  const T far_p =
      (((((((T(2.15311535474403846e-8) * b + T(5.64188496988670089e-1)) * b + T(8.88314979438837594e00)) * b +
           T(6.61191906371416295e01)) *
              b +
          T(2.98635138197400131e02)) *
             b +
         T(8.81952221241769090e02)) *
            b +
        T(1.71204761263407058e03)) *
           b +
       T(2.05107837782607147e03)) *
          b +
      T(1.23033935479799725e03);
  const T far_q =
      (((((((b + T(1.57449261107098347e01)) * b + T(1.17693950891312499e02)) * b + T(5.37181101862009858e02)) * b +
          T(1.62138957456669019e03)) *
             b +
         T(3.29079923573345963e03)) *
            b +
        T(4.36261909014324716e03)) *
           b +
       T(3.43936767414372164e03)) *
          b +
      T(1.23033935480374942e03);
  const bool near = a < T(0.46875);
  const T part = (near ? a * near_p : gauss * far_p) / (near ? near_q : far_q);  // one division, not two
  const T y = near ? part : 1 - part;
  return {x < 0 ? -y : y, gauss};
}
template <class T>
M3I_HD inline T erf(T x) {
  return erf_gauss(x).erf;
}

template <class T>
M3I_HD inline T pow(T x, T exponent) {
  return std::pow(x, exponent);
}
template <class T>
M3I_HD inline T cos(T x) {
  return std::cos(x);
}
M3I_HD inline bool is_finite(double x) { return x - x == 0; }

}  // namespace math
}  // namespace M3I_ABI
}  // namespace m3i
