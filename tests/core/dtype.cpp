#include "m3i/core/dtype.hpp"

#include <cmath>
#include <limits>

#include "catch.hpp"

using namespace m3i;

namespace {

/// The value of a 16-bit float from its definition: sign, `exponent_bits` of exponent, the rest fraction.
long double defined_value(std::uint16_t bits, int exponent_bits) {
  const int fraction_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (bits & 0x7fff) >> fraction_bits, fraction = bits & ((1 << fraction_bits) - 1);
  const long double magnitude =
      exponent == 0 ? std::ldexp((long double)(fraction), 1 - bias - fraction_bits)
                    : std::ldexp((long double)(fraction + (1 << fraction_bits)), exponent - bias - fraction_bits);
  return bits & 0x8000 ? -magnitude : magnitude;
}

/// Counts the errors of a type over all of its 65536 values and over the numbers around the middle of neighbours, where
/// rounding to nearest even is decided.
template <class S>
void check_all_values(int exponent_bits) {
  const int infinity = ((1 << exponent_bits) - 1) << (15 - exponent_bits);
  int decoded = 0, returned = 0, rounded = 0, rounded_double = 0;
  for (int b = 0; b < 65536; ++b) {
    S s;
    s.bits = std::uint16_t(b);
    const float value = float(s);
    if ((b & 0x7fff) > infinity) {  // NaN stays NaN
      decoded += !std::isnan(value);
      returned += !std::isnan(float(S(value)));
      continue;
    }
    returned += S(value).bits != b;
    if ((b & 0x7fff) == infinity) {
      decoded += !std::isinf(value) || std::signbit(value) != (b >= 0x8000);
      continue;
    }
    const long double low = defined_value(std::uint16_t(b), exponent_bits);
    decoded += (long double)(value) != low || std::signbit(value) != (b >= 0x8000);

    // The next value away from zero; after the largest one comes what would follow it, which is stored as infinity.
    const long double high = defined_value(std::uint16_t(b + 1), exponent_bits);
    const double middle = double((low + high) / 2), outward = b >= 0x8000 ? -HUGE_VAL : HUGE_VAL;
    const std::uint16_t inner = std::uint16_t(b), outer = std::uint16_t(b + 1), even = b % 2 == 0 ? inner : outer;
    rounded += S(float(middle)).bits != even;
    rounded += S(std::nextafter(float(middle), 0.0f)).bits != inner;
    rounded += S(std::nextafter(float(middle), float(outward))).bits != outer;
    rounded_double += S(middle).bits != even;
    rounded_double += S(std::nextafter(middle, 0.0)).bits != inner;
    rounded_double += S(std::nextafter(middle, outward)).bits != outer;
  }
  CHECK(decoded == 0);
  CHECK(returned == 0);
  CHECK(rounded == 0);
  CHECK(rounded_double == 0);
}

}  // namespace

TEST_CASE("half: all 65536 values and all decisions of rounding", "[core]") { check_all_values<half>(5); }

TEST_CASE("bf16: all 65536 values and all decisions of rounding", "[core]") { check_all_values<bf16>(8); }

TEST_CASE("half and bf16: overflow becomes infinity, tiny numbers zero, signs are kept", "[core]") {
  CHECK(float(half(65519.0f)) == 65504.0f);
  CHECK(std::isinf(float(half(65520.0f))));
  CHECK(std::isinf(float(half(1e30))));
  CHECK(float(half(-0x1p-25f)) == 0.0f);
  CHECK(std::signbit(float(half(-0x1p-25f))));
  CHECK(float(half(0x1.8p-25f)) == 0x1p-24f);
  CHECK(float(bf16(1e30)) == Approx(1e30).epsilon(0.004));
  CHECK(std::isinf(float(bf16(std::numeric_limits<double>::max()))));
  CHECK(float(bf16(std::numeric_limits<float>::denorm_min())) == 0.0f);
}

TEST_CASE("element types: names, sizes and the type to compute in", "[core]") {
  CHECK(std::string(dtype_name<double>()) == "f64");
  CHECK(std::string(dtype_name<half>()) == "f16");
  CHECK(std::string(dtype_name<bf16>()) == "bf16");
  CHECK(std::string(dtype_name<std::uint8_t>()) == "u8");
  CHECK(sizeof(half) == 2);
  CHECK(sizeof(bf16) == 2);
  CHECK(std::is_same_v<accumulate_t<half>, float>);
  CHECK(std::is_same_v<accumulate_t<bf16>, float>);
  CHECK(std::is_same_v<accumulate_t<double>, double>);
}
