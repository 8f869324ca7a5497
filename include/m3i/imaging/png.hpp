#pragma once
/// 8-bit pictures, grey or RGB, and PNG files of them: to disk, to memory, or as a data URI for a page without outside
/// resources. The encoder is complete in itself (RFC 2083, 1950, 1951) and gives the same bytes everywhere.

#include <array>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "m3i/imaging/files.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Pixels row by row from the top left; channels 1 (grey) or 3 (red, green, blue).
struct Image {
  Index height = 0, width = 0, channels = 1;
  std::vector<std::uint8_t> pixels;

  Image() = default;
  Image(Index height_, Index width_, Index channels_, std::uint8_t value = 0)
      : height(height_), width(width_), channels(channels_) {
    require(height > 0 && width > 0 && height <= 65535 && width <= 65535 && (channels == 1 || channels == 3),
            "image: ", height, " x ", width, " pixels of ", channels,
            " channels, expected 1 to 65535 a side and 1 or 3 channels");
    pixels.assign(std::size_t(height * width * channels), value);
  }
  std::uint8_t* at(Index row, Index column) { return pixels.data() + (row * width + column) * channels; }
  const std::uint8_t* at(Index row, Index column) const { return pixels.data() + (row * width + column) * channels; }
};

namespace detail {

inline std::uint32_t crc32_of(std::span<const std::uint8_t> bytes) {
  static const auto table = [] {
    std::array<std::uint32_t, 256> t{};
    for (std::uint32_t n = 0; n < 256; ++n) {
      std::uint32_t c = n;
      for (int bit = 0; bit < 8; ++bit) c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
      t[n] = c;
    }
    return t;
  }();
  std::uint32_t c = 0xffffffffu;
  for (const std::uint8_t b : bytes) c = table[(c ^ b) & 0xff] ^ (c >> 8);
  return ~c;
}
inline std::uint32_t adler32_of(std::span<const std::uint8_t> bytes) {
  std::uint32_t a = 1, b = 0;
  for (const std::uint8_t x : bytes) {
    a = (a + x) % 65521;
    b = (b + a) % 65521;
  }
  return b << 16 | a;
}

/// Deflate with the fixed Huffman codes; repeats are found through the last place of each three bytes.
class Deflate {
 public:
  explicit Deflate(std::vector<std::uint8_t>& out) : out_(out) {}

  void compress(std::span<const std::uint8_t> in) {
    put(1, 1);  // the last block
    put(1, 2);  // of fixed codes
    constexpr std::size_t window = 32768, longest = 258;
    std::vector<std::size_t> last(std::size_t(1) << 15, SIZE_MAX);
    for (std::size_t i = 0; i < in.size();) {
      std::size_t length = 0, distance = 0;
      if (i + 3 <= in.size()) {
        std::size_t& place = last[hash(in.data() + i)];
        if (place != SIZE_MAX && i - place <= window) {
          distance = i - place;
          while (length < longest && i + length < in.size() && in[i + length] == in[place + length]) ++length;
        }
        place = i;
      }
      if (length < 3) {
        symbol(in[i++]);
      } else {
        repeat(unsigned(length), unsigned(distance));
        for (const std::size_t end = i + length; ++i < end;)
          if (i + 3 <= in.size()) last[hash(in.data() + i)] = i;
      }
    }
    symbol(256);
    if (held_ > 0) out_.push_back(std::uint8_t(bits_));
  }

 private:
  static std::size_t hash(const std::uint8_t* p) {
    return ((std::uint32_t(p[0]) | std::uint32_t(p[1]) << 8 | std::uint32_t(p[2]) << 16) * 0x9e3779b1u) >> 17;
  }
  /// The lowest bit first.
  void put(std::uint32_t value, unsigned count) {
    bits_ |= std::uint64_t(value) << held_;
    for (held_ += count; held_ >= 8; held_ -= 8, bits_ >>= 8) out_.push_back(std::uint8_t(bits_));
  }
  /// Huffman codes go out from their highest bit.
  void code(std::uint32_t value, unsigned count) {
    std::uint32_t reversed = 0;
    for (unsigned b = 0; b < count; ++b) reversed |= (value >> b & 1) << (count - 1 - b);
    put(reversed, count);
  }
  void symbol(unsigned s) {
    if (s < 144) code(0x30 + s, 8);
    else if (s < 256) code(0x190 + s - 144, 9);
    else if (s < 280) code(s - 256, 7);
    else code(0xc0 + s - 280, 8);
  }
  void repeat(unsigned length, unsigned distance) {
    static constexpr std::array<unsigned, 29> lengths{3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                                      31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    unsigned s = 28;
    while (lengths[s] > length) --s;
    symbol(257 + s);
    put(length - lengths[s], s < 8 || s == 28 ? 0 : (s - 4) / 4);
    unsigned d = 0, base = 1;  // distance codes: two of each width, from 1 on
    const auto extra = [](unsigned k) { return k < 4 ? 0 : k / 2 - 1; };
    while (distance >= base + (1u << extra(d))) base += 1u << extra(d++);
    code(d, 5);
    put(distance - base, extra(d));
  }

  std::vector<std::uint8_t>& out_;
  std::uint64_t bits_ = 0;
  unsigned held_ = 0;
};

inline void append_big_endian(std::vector<std::uint8_t>& out, std::uint32_t value) {
  for (const int shift : {24, 16, 8, 0}) out.push_back(std::uint8_t(value >> shift));
}
inline void append_chunk(std::vector<std::uint8_t>& out, const char* type, std::span<const std::uint8_t> data) {
  append_big_endian(out, std::uint32_t(data.size()));
  const std::size_t start = out.size();
  out.insert(out.end(), type, type + 4);
  out.insert(out.end(), data.begin(), data.end());
  append_big_endian(out, crc32_of(std::span<const std::uint8_t>(out).subspan(start)));
}

/// Rows after PNG's filters: of "none", "left" and "above" the one whose differences are smallest.
inline std::vector<std::uint8_t> filtered_rows(const Image& image) {
  const Index row = image.width * image.channels;
  std::vector<std::uint8_t> out;
  out.reserve(std::size_t((row + 1) * image.height));
  std::array<std::vector<std::uint8_t>, 3> tries;
  for (Index y = 0; y < image.height; ++y) {
    const std::uint8_t* p = image.pixels.data() + y * row;
    std::size_t best = 0;
    long least = -1;
    for (std::size_t filter = 0; filter < 3; ++filter) {
      tries[filter].resize(std::size_t(row));
      long sum = 0;
      for (Index x = 0; x < row; ++x) {
        const int before = filter == 1   ? (x >= image.channels ? p[x - image.channels] : 0)
                           : filter == 2 ? (y > 0 ? p[x - row] : 0)
                                         : 0;
        tries[filter][std::size_t(x)] = std::uint8_t(p[x] - before);
        sum += std::abs(int(std::int8_t(tries[filter][std::size_t(x)])));
      }
      if (least < 0 || sum < least) {
        least = sum;
        best = filter;
      }
    }
    out.push_back(std::uint8_t(best));  // 0 none, 1 left ("Sub"), 2 above ("Up")
    out.insert(out.end(), tries[best].begin(), tries[best].end());
  }
  return out;
}

}  // namespace detail

/// A PNG file in memory.
inline std::vector<std::uint8_t> png_bytes(const Image& image) {
  require(image.height > 0 && image.width > 0 && (image.channels == 1 || image.channels == 3) &&
              Index(image.pixels.size()) == image.height * image.width * image.channels,
          "png: ", image.pixels.size(), " values for ", image.height, " x ", image.width, " pixels of ", image.channels,
          " channels");
  std::vector<std::uint8_t> out{0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  std::vector<std::uint8_t> header;
  detail::append_big_endian(header, std::uint32_t(image.width));
  detail::append_big_endian(header, std::uint32_t(image.height));
  for (const int b : {8, image.channels == 3 ? 2 : 0, 0, 0, 0}) header.push_back(std::uint8_t(b));
  detail::append_chunk(out, "IHDR", header);
  const std::vector<std::uint8_t> rows = detail::filtered_rows(image);
  std::vector<std::uint8_t> data{0x78, 0x01};
  detail::Deflate(data).compress(rows);
  detail::append_big_endian(data, detail::adler32_of(rows));
  detail::append_chunk(out, "IDAT", data);
  detail::append_chunk(out, "IEND", {});
  return out;
}

/// Writes a PNG file, whole or not at all. Throws FileError.
inline void write_png(const std::string& path, const Image& image) { detail::write_whole_file(path, png_bytes(image)); }

/// RFC 4648.
inline std::string base64(std::span<const std::uint8_t> bytes) {
  static constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t three = std::uint32_t(bytes[i]) << 16;
    if (i + 1 < bytes.size()) three |= std::uint32_t(bytes[i + 1]) << 8;
    if (i + 2 < bytes.size()) three |= bytes[i + 2];
    for (const int shift : {18, 12, 6, 0}) out += digits[three >> shift & 63];
  }
  if (bytes.size() % 3 == 1) out.replace(out.size() - 2, 2, "==");
  if (bytes.size() % 3 == 2) out.back() = '=';
  return out;
}
/// For <img src="...">.
inline std::string png_data_uri(const Image& image) { return "data:image/png;base64," + base64(png_bytes(image)); }

}  // namespace M3I_ABI
}  // namespace m3i
