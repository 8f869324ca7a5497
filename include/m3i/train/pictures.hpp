#pragma once
/// The slices of triplets as pictures in [0, 1], taken from their volumes.

#include <span>
#include <string>
#include <vector>

#include "m3i/data/triplets.hpp"
#include "m3i/train/method_config.hpp"
#include "m3i/train/towers.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// The slice of a triplet, read from its volume. `path` is that of the JSONL file.
/// Throws FileError if the volume cannot be read, is constant, or has another number of slices.
inline Tensor<float> read_triplet_picture(const Triplet& t, const std::string& path) {
  const std::string file = detail::beside(path, t.volume);
  const Volume<float> volume = read_nifti<float>(file);
  check_intensities(volume, file);
  return triplet_picture(volume, t);
}

/// The pictures of triplets as the image tower's input, [N, image, image, 3].
inline Tensor<float> triplet_pixels(const Towers& towers, std::span<const Triplet> triplets, const std::string& path) {
  const Index size = towers.clip.options.image;
  const Tensor<float> out({Index(triplets.size()), size, size, 3});
  parallel_for(Index(triplets.size()), [&](Index i) {
    out[i].copy_from(tower_pixels(towers, read_triplet_picture(triplets[std::size_t(i)], path)));
  });
  return out;
}

inline std::vector<std::string> captions_of(const std::vector<Triplet>& triplets) {
  std::vector<std::string> captions;
  for (const auto& t : triplets) captions.push_back(t.caption);
  return captions;
}

inline LongText long_text(choice::LongCaptions policy) {
  return policy == choice::LongCaptions::error      ? LongText::error
         : policy == choice::LongCaptions::truncate ? LongText::truncate
                                                    : LongText::mean_of_chunks;
}

}  // namespace M3I_ABI
}  // namespace m3i
