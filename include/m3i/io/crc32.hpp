#pragma once
/// CRC-32 (the polynomial of zip, PNG and zlib), eight bytes a step: finds damaged files.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "m3i/core/config.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {
/// tables[k][b]: the remainder of byte b followed by k zero bytes.
struct CrcTables {
  std::array<std::array<std::uint32_t, 256>, 8> table{};
  constexpr CrcTables() {
    for (std::uint32_t b = 0; b < 256; ++b) {
      std::uint32_t r = b;
      for (int bit = 0; bit < 8; ++bit) r = r >> 1 ^ (r & 1 ? 0xEDB88320u : 0u);
      table[0][b] = r;
    }
    for (std::size_t k = 1; k < 8; ++k)
      for (std::size_t b = 0; b < 256; ++b) table[k][b] = table[k - 1][b] >> 8 ^ table[0][table[k - 1][b] & 0xFF];
  }
};
inline constexpr CrcTables crc_tables;
}  // namespace detail

/// The checksum of `bytes` after those that gave `before`: crc32("b", crc32("a")) == crc32("ab").
inline std::uint32_t crc32(std::string_view bytes, std::uint32_t before = 0) {
  const auto& t = detail::crc_tables.table;
  const char* p = bytes.data();
  std::size_t n = bytes.size();
  std::uint32_t crc = ~before;
  for (; n >= 8; p += 8, n -= 8) {
    std::uint32_t low = 0, high = 0;
    std::memcpy(&low, p, 4);
    std::memcpy(&high, p + 4, 4);
    low ^= crc;
    crc = t[7][low & 0xFF] ^ t[6][low >> 8 & 0xFF] ^ t[5][low >> 16 & 0xFF] ^ t[4][low >> 24] ^  //
          t[3][high & 0xFF] ^ t[2][high >> 8 & 0xFF] ^ t[1][high >> 16 & 0xFF] ^ t[0][high >> 24];
  }
  for (; n > 0; ++p, --n) crc = crc >> 8 ^ t[0][(crc ^ static_cast<unsigned char>(*p)) & 0xFF];
  return ~crc;
}

}  // namespace M3I_ABI
}  // namespace m3i
