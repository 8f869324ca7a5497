#pragma once
/// The index arithmetic of window attention: which voxel a window's token is, which voxels a shifted window must keep
/// apart, and which row of the bias table belongs to a pair of tokens.

#include <array>
#include <compare>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

#include "m3i/core/tensor.hpp"
#include "m3i/kernels/for_each.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// How a pair of tokens finds its row in the table, from its relative position (r0, r1, r2), each >= 0.
enum class RelativeIndex {
  swin,      ///< r0 (2 w1 - 1)(2 w2 - 1) + r1 (2 w2 - 1) + r2: one row for each relative position
  nnformer,  ///< r0 (3 w1 - 1) + r1 (2 w1 - 1) + r2: what nnFormer's published weights were trained with
};

struct WindowSpec {
  Index heads = 1;
  std::array<Index, 3> window{1, 1, 1};
  std::array<Index, 3> shift{0, 0, 0};  ///< cyclic, towards lower positions
  double scale = 0;                     ///< of the scores; 0: 1 / sqrt(channels of a head)
  RelativeIndex index = RelativeIndex::swin;
  /// The window that the table was made for, if larger: then token t takes the place that number t has in that window
  /// (as MONAI's SwinUNETR does where a stage is smaller than its window). 0: `window`.
  std::array<Index, 3> table_window{0, 0, 0};

  std::array<Index, 3> tabled() const { return table_window[0] ? table_window : window; }
  Index table_rows() const {
    const auto w = tabled();
    return (2 * w[0] - 1) * (2 * w[1] - 1) * (2 * w[2] - 1);
  }
  /// What the tables of voxels depend on, and those of pairs.
  WindowSpec cut() const { return {.window = window, .shift = shift}; }
  WindowSpec positions() const { return {.window = window, .index = index, .table_window = tabled()}; }
  friend auto operator<=>(const WindowSpec&, const WindowSpec&) = default;
};

namespace detail {

/// Bytes of tables of one kind that window_table() keeps.
inline constexpr std::size_t window_table_bytes = std::size_t(64) << 20;

/// Table(from..., device), or the one that an earlier call made from the same. Every step asks for some tens of them
/// again, and on a GPU the host would wait for each copy.
///
/// A kept table stays for good, since a CUDA graph notes its address. What does not fit beside it is made for its
/// caller alone, and so is what a graph records: recorded work has not been done yet.
template <class Table, class... From>
std::shared_ptr<const Table> window_table(Device device, const From&... from) {
  using Key = std::tuple<Device::Kind, int, From...>;
  static std::mutex mutex;
  static auto& kept = *new std::map<Key, std::shared_ptr<const Table>>;  // never destroyed, like the pools
  static std::size_t bytes = 0;
  const Key key{device.kind, device.number, from...};
  {
    const std::scoped_lock lock(mutex);
    if (const auto known = kept.find(key); known != kept.end()) return known->second;
  }
  const auto made = std::make_shared<const Table>(from..., device);
#if M3I_CUDA
  if (!device.on_host() && stream_is_capturing()) return made;
#endif
  synchronize(device);  // from now on other streams read it
  const std::scoped_lock lock(mutex);
  if (bytes + made->bytes() > window_table_bytes) return made;
  const auto [at, added] = kept.emplace(key, made);
  if (added) bytes += made->bytes();
  return at->second;
}

/// Row of the table for a pair = code(query) - code(key) + zero.
struct RelativeCodes {
  Tensor<Index> code;  ///< of each token of a window
  Index zero = 0;
  std::size_t bytes() const { return code.bytes(); }

  RelativeCodes(const WindowSpec& spec, Device device) {
    const auto w = spec.tabled();
    const bool swin = spec.index == RelativeIndex::swin;
    const Index step0 = swin ? (2 * w[1] - 1) * (2 * w[2] - 1) : 3 * w[1] - 1,
                step1 = swin ? 2 * w[2] - 1 : 2 * w[1] - 1;
    const Index count = spec.window[0] * spec.window[1] * spec.window[2], places = w[0] * w[1] * w[2];
    require(count <= places, "window_attention: the window's ", count, " tokens do not fit the table's window of ",
            places);
    zero = (w[0] - 1) * step0 + (w[1] - 1) * step1 + w[2] - 1;
    require(2 * zero < spec.table_rows(), "window_attention: nnFormer's index reaches row ", 2 * zero,
            " of a table of ", spec.table_rows(), "; it is made for cubic windows");
    std::vector<Index> list;
    for (Index t = 0; t < count; ++t) list.push_back(t / (w[1] * w[2]) * step0 + t / w[2] % w[1] * step1 + t % w[2]);
    code = Tensor<Index>::from(list, {count}, device);
  }
};

/// The table spread out as [heads, keys, queries]; one team a key of a head.
template <class T>
struct WindowBias {
  const T* table;
  const Index* code;
  accumulate_t<T>* bias;
  Index heads, count, zero;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const Index step = heads, *codes = code;
    const T* from = table + (zero - code[row % count]) * step + row / count;
    accumulate_t<T>* to = bias + row * count;
    team.each(count, [=](Index query) { to[query] = accumulate_t<T>(from[codes[query] * step]); });
  }
};

/// tokens[w, t]: the position in the volume of token t of window w, or -1 outside; regions[w, t]: which of up to 27
/// parts of the rolled volume it lies in. A window across the seam of the roll sees several.
struct WindowTokens {
  Index* tokens;
  std::uint8_t* regions;
  Index extent[3], padded[3], window[3], shift[3];
  M3I_HD void operator()(Index i) const {
    const Index count = window[0] * window[1] * window[2];
    Index t = i % count, w = i / count, position[3];
    std::uint8_t region = 0, weight = 1;
    for (int a = 2; a >= 0; --a) {
      const Index across = padded[a] / window[a];
      const Index p = w % across * window[a] + t % window[a];  // in the rolled, padded volume
      w /= across, t /= window[a];
      const Index moved = p + shift[a];
      position[a] = moved < padded[a] ? moved : moved - padded[a];
      const int part = p < padded[a] - window[a] ? 0 : p < padded[a] - shift[a] ? 1 : 2;
      region = std::uint8_t(region + part * weight), weight = std::uint8_t(weight * 3);
    }
    const bool inside = position[0] < extent[0] && position[1] < extent[1] && position[2] < extent[2];
    tokens[i] = inside ? (position[0] * extent[1] + position[1]) * extent[2] + position[2] : -1;
    if (regions) regions[i] = region;
  }
};

struct WindowLayout {
  Index windows = 1, count = 1, volume = 1;  ///< windows of a volume, tokens of a window, voxels of a volume
  bool padded = false, shifted = false;
  Tensor<Index> tokens;
  Tensor<std::uint8_t> regions;  ///< undefined unless shifted
  std::size_t bytes() const { return tokens.bytes() + regions.bytes(); }

  WindowLayout(const std::array<Index, 3>& extents, const WindowSpec& spec, Device device) {
    WindowTokens map{};
    for (int a = 0; a < 3; ++a) {
      const auto axis = std::size_t(a);
      const Index extent = extents[axis], w = spec.window[axis];
      map.extent[a] = extent, map.window[a] = w, map.shift[a] = spec.shift[axis];
      map.padded[a] = (extent + w - 1) / w * w;
      windows *= map.padded[a] / w, count *= w, volume *= extent;
      padded |= map.padded[a] != extent, shifted |= spec.shift[axis] > 0;
    }
    tokens = Tensor<Index>({windows, count}, device);
    if (shifted) regions = Tensor<std::uint8_t>({windows, count}, device);
    map.tokens = tokens.data(), map.regions = regions.data();
    for_each(device, tokens.size(), map);
  }
};

/// For each row of the table the pairs that use it, as positions in [keys, queries].
struct PairLists {
  Tensor<Index> starts, pairs;
  std::size_t bytes() const { return starts.bytes() + pairs.bytes(); }

  PairLists(const WindowSpec& spec, Device device) {
    const RelativeCodes relative(spec, Device::cpu());
    const auto codes = relative.code.span();
    const Index n = relative.code.size(), rows = spec.table_rows();
    std::vector<Index> first(std::size_t(rows) + 1, 0), list(std::size_t(n * n));
    for (const Index key : codes)
      for (const Index query : codes) ++first[std::size_t(query - key + relative.zero + 1)];
    for (std::size_t r = 1; r < first.size(); ++r) first[r] += first[r - 1];
    starts = Tensor<Index>::from(first, {rows + 1}, device);
    Index pair = 0;
    for (const Index key : codes)
      for (const Index query : codes) list[std::size_t(first[std::size_t(query - key + relative.zero)]++)] = pair++;
    pairs = Tensor<Index>::from(list, {n * n}, device);
  }
};

}  // namespace detail
}  // namespace M3I_ABI
}  // namespace m3i
