#pragma once
/// Random crops of volumes for training on patches (data.fit = patch).

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "m3i/core/random.hpp"
#include "m3i/imaging/volume.hpp"
#include "m3i/train/method_config.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// First voxel of a random crop of `size`^3 out of labels [I, J, K], which are at least as large. With probability
/// `foreground` the crop's middle is a random voxel of a random class other than 0, as far as the volume's edge lets it
/// (nnU-Net's rule); else, and without such a voxel, the crop may lie anywhere.
inline Size3 patch_begin(const Tensor<std::uint8_t>& labels, Index size, double foreground, Random random) {
  const Size3 n = size3(labels.shape());
  for (std::size_t a = 0; a < 3; ++a)
    require(size > 0 && n[a] >= size, "patch_begin: a crop of ", size, "^3 from ", labels.shape());
  Size3 begin;
  const bool wanted = random.uniform() < foreground;
  for (std::size_t a = 0; a < 3; ++a) begin[a] = random.below(n[a] - size + 1);
  const double choice = random.uniform(), place = random.uniform();
  if (!wanted) return begin;

  std::array<Index, 256> count{};
  for (const std::uint8_t v : labels.span()) ++count[v];
  std::vector<std::size_t> present;
  for (std::size_t c = 1; c < count.size(); ++c)
    if (count[c] > 0) present.push_back(c);
  if (present.empty()) return begin;
  const auto pick = [](double u, Index from) { return std::min(from - 1, Index(u * double(from))); };
  const std::size_t label = present[std::size_t(pick(choice, Index(present.size())))];
  Index left = pick(place, count[label]), at = 0;
  for (;; ++at)
    if (labels.data()[at] == label && left-- == 0) break;
  const Size3 voxel{at / (n[1] * n[2]), at / n[2] % n[1], at % n[2]};
  for (std::size_t a = 0; a < 3; ++a) begin[a] = std::clamp<Index>(voxel[a] - size / 2, 0, n[a] - size);
  return begin;
}

/// Each entry `times` times in a row: the items of an epoch when several patches are drawn from each volume.
inline std::vector<Index> repeated(const std::vector<Index>& entries, Index times) {
  std::vector<Index> out;
  for (const Index e : entries) out.insert(out.end(), std::size_t(times), e);
  return out;
}

/// Throws ConfigError for data.fit = patch where whole volumes are needed.
inline void require_whole_volumes(const MethodConfig& config, const char* program) {
  require<ConfigError>(config.data.fit == choice::Fit::cube, "data.fit: patch is for segmentation; ", program,
                       " needs whole volumes; use --set data.fit=cube (a network pretrained so can be fine-tuned on ",
                       "patches)");
}

}  // namespace M3I_ABI
}  // namespace m3i
