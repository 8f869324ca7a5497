#pragma once
/// Pictures before they are sent: what they are allowed to carry, and what they will cost, as an estimate.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "m3i/core/error.hpp"
#include "m3i/data/caption.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {
inline std::uint32_t big_endian(std::string_view bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}
}  // namespace detail

/// A PNG reduced to its picture: only the chunks that pixels need stay. Text, time and EXIF, where names and dates
/// hide, go. Throws FileError unless the bytes are a PNG from signature to IEND.
inline std::string bare_png(std::string_view bytes, const std::string& where) {
  constexpr std::string_view signature("\x89PNG\r\n\x1a\n", 8);
  require<FileError>(bytes.substr(0, 8) == signature, where, ": is no PNG picture");
  std::string out(signature);
  for (std::size_t at = 8; at < bytes.size();) {
    require<FileError>(bytes.size() - at >= 12, where, ": PNG ends inside a chunk");
    const std::size_t length = detail::big_endian(bytes, at);
    require<FileError>(length <= bytes.size() - at - 12, where, ": PNG ends inside a chunk");
    const std::string_view chunk = bytes.substr(at, length + 12), type = chunk.substr(4, 4);
    require<FileError>(at > 8 || (type == "IHDR" && length == 13), where, ": PNG does not begin with IHDR");
    if (type == "IHDR" || type == "PLTE" || type == "tRNS" || type == "IDAT" || type == "IEND") out += chunk;
    if (type == "IEND") return out;
    at += chunk.size();
  }
  fail<FileError>(where, ": PNG has no end");
}

/// Width and height of a picture from bare_png().
inline std::pair<Index, Index> png_size(std::string_view png) {
  return {Index(detail::big_endian(png, 16)), Index(detail::big_endian(png, 20))};
}

/// Tokens of a picture by the rule that OpenAI publishes for GPT-4o and GPT-4V: 85 at low detail; else the picture is
/// shrunk into 2048 x 2048 and to 768 on its shorter side, and each tile of 512 x 512 costs 170 more. Other services
/// and newer models count otherwise: an estimate.
inline Index image_tokens(Index width, Index height, const std::string& detail_level) {
  if (detail_level == "low") return 85;
  double w = double(std::max<Index>(width, 1)), h = double(std::max<Index>(height, 1));
  const auto shrink = [&](double factor) {
    if (factor < 1) w *= factor, h *= factor;
  };
  shrink(2048 / std::max(w, h));
  shrink(768 / std::min(w, h));
  const auto tiles = [](double side) { return Index(std::ceil(std::max(1.0, side - 1e-6) / 512)); };
  return 85 + 170 * tiles(w) * tiles(h);
}

/// Tokens of English text, about: four bytes each, and a few around a message.
inline Index prompt_tokens_about(std::string_view prompt) { return 8 + Index(prompt.size() + 3) / 4; }

/// Tokens of a description of fewer than 100 words, about.
inline constexpr Index caption_tokens_about = 130;

/// What is still to be sent. Prices are in any currency for a million tokens.
struct CaptionCost {
  Index pictures = 0, bytes = 0;  ///< bytes of the requests' bodies
  Index tokens_in = 0, tokens_out = 0, tokens_out_most = 0;

  void add(std::string_view png, const CaptionParameters& p) {
    const auto [width, height] = png_size(png);
    ++pictures;
    bytes += Index(png.size() + 2) / 3 * 4 + Index(p.prompt.size()) + 180;
    tokens_in += image_tokens(width, height, p.detail) + prompt_tokens_about(p.prompt);
    tokens_out += std::min(caption_tokens_about, p.max_tokens);
    tokens_out_most += p.max_tokens;
  }
  double price(double price_in, double price_out) const {
    return (double(tokens_in) * price_in + double(tokens_out) * price_out) / 1e6;
  }
  double price_most(double price_in, double price_out) const {
    return (double(tokens_in) * price_in + double(tokens_out_most) * price_out) / 1e6;
  }
};

}  // namespace M3I_ABI
}  // namespace m3i
