#pragma once
/// Words on pictures: a fixed font of 5 x 7 points with two rows below the line, for ASCII.

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

#include "m3i/imaging/png.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Red, green, blue.
using Rgb = std::array<std::uint8_t, 3>;

namespace detail {

constexpr Index glyph_width = 5, glyph_height = 9, glyph_step = 6;

/// Nine rows from the top, each five points as one digit of base 32 (0-9, A-V), the leftmost point in the highest bit.
inline std::string_view glyph(unsigned char c) {
  static constexpr std::array<std::string_view, 96> rows{
      "000000000", "444440400", "AA0000000", "AAVAVAA00", "4FKE5U400", "OP248J300", "CIK8LID00", "440000000",
      "248884200", "842224800", "04LEL4000", "044V44000", "00000C480", "000V00000", "00000CC00", "01248G000",
      "EHJLPHE00", "4C4444E00", "EH1248V00", "V2421HE00", "26AIV2200", "VGU11HE00", "68GUHHE00", "V12488800",
      "EHHEHHE00", "EHHF12C00", "0CC0CC000", "0CC0C4800", "248G84200", "00V0V0000", "842124800", "EH1240400",
      "EH1DLLE00", "EHHVHHH00", "UHHUHHU00", "EHGGGHE00", "SIHHHIS00", "VGGUGGV00", "VGGUGGG00", "EHGNHHF00",
      "HHHVHHH00", "E44444E00", "72222IC00", "HIKOKIH00", "GGGGGGV00", "HRLLHHH00", "HHPLJHH00", "EHHHHHE00",
      "UHHUGGG00", "EHHHLID00", "UHHUKIH00", "FGGE11U00", "V44444400", "HHHHHHE00", "HHHHHA400", "HHHLLLA00",
      "HHA4AHH00", "HHHA44400", "V1248GV00", "E88888E00", "0G8421000", "E22222E00", "4AH000000", "000000V00",
      "842000000", "00E1FHF00", "GGMPHHU00", "00EGGHE00", "11DJHHF00", "00EHVGE00", "698S88800", "00FHHHF1E",
      "GGMPHHH00", "40C444E00", "2062222IC", "GGIKOKI00", "C44444E00", "00QLLHH00", "00MPHHH00", "00EHHHE00",
      "00UHHHUGG", "00FHHHF11", "00MPGGG00", "00EGE1U00", "88S889600", "00HHHJD00", "00HHHA400", "00HHLLA00",
      "00HA4AH00", "00HHHHF1E", "00V248V00", "244844200", "444444400", "844244800", "008L20000", "VHHHHHV00"};
  return rows[c >= 32 && c < 127 ? std::size_t(c - 32) : 95];  // a box for what the font does not have
}
inline bool glyph_point(std::string_view rows, Index row, Index column) {
  const char d = rows[std::size_t(row)];
  const int bits = d <= '9' ? d - '0' : d - 'A' + 10;
  return (bits >> (glyph_width - 1 - column) & 1) != 0;
}
/// True for the second and further bytes of a character in UTF-8: they draw nothing.
inline bool inside_character(char c) { return (static_cast<unsigned char>(c) & 0xC0u) == 0x80u; }

}  // namespace detail

/// Height of a line in pixels, from the top of capitals to the bottom of descenders.
inline Index text_height(Index scale = 1) { return detail::glyph_height * scale; }

/// Width of words in pixels.
inline Index text_width_pixels(std::string_view words, Index scale = 1) {
  const auto characters =
      Index(std::count_if(words.begin(), words.end(), [](char c) { return !detail::inside_character(c); }));
  return characters == 0 ? 0 : (characters * detail::glyph_step - 1) * scale;
}

/// Draws words with their top left corner at (row, column); what lies outside the picture is cut off.
///
///   scale  pixels per point of the font
///   halo   a dark rim, so that the words can be read on any picture
inline void draw_text(
    Image& image, Index row, Index column, std::string_view words, Rgb color, Index scale = 2, bool halo = true) {
  require(scale >= 1 && scale <= 64, "draw_text: scale ", scale, ", expected 1 to 64");
  const auto fill = [&](Index top, Index left, Index side, Rgb paint) {
    for (Index r = std::max<Index>(top, 0); r < std::min(top + side, image.height); ++r)
      for (Index c = std::max<Index>(left, 0); c < std::min(left + side, image.width); ++c)
        std::copy_n(paint.begin(), image.channels, image.at(r, c));
  };
  const auto each_point = [&](Index rim, Rgb paint) {
    Index left = column;
    for (const char c : words) {
      if (detail::inside_character(c)) continue;
      const std::string_view rows = detail::glyph(static_cast<unsigned char>(c));
      for (Index y = 0; y < detail::glyph_height; ++y)
        for (Index x = 0; x < detail::glyph_width; ++x)
          if (detail::glyph_point(rows, y, x))
            fill(row + y * scale - rim, left + x * scale - rim, scale + 2 * rim, paint);
      left += detail::glyph_step * scale;
    }
  };
  if (halo) each_point(std::max<Index>(1, scale / 2), {0, 0, 0});
  each_point(0, color);
}

}  // namespace M3I_ABI
}  // namespace m3i
