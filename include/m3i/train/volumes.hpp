#pragma once
/// Volumes as the network takes them, preprocessed once and kept within a byte budget.

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "m3i/data/chain_json.hpp"
#include "m3i/data/volume_cache.hpp"
#include "m3i/imaging/chain.hpp"
#include "m3i/imaging/nifti.hpp"
#include "m3i/train/preprocessing.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// The budget of data.cache_gib.
inline std::shared_ptr<ByteBudget> cache_budget(const MethodConfig& c) {
  return std::make_shared<ByteBudget>(std::size_t(c.data.cache_gib * double(std::size_t(1) << 30)));
}

/// What files hold, computed once each: the first part of a cache's key. Without a cache folder nothing outlives the
/// process, and the paths themselves will do.
class SourceKeys {
 public:
  explicit SourceKeys(bool by_content) : by_content_(by_content) {}

  std::string operator()(const std::string& path) const {
    if (!by_content_) return path;
    {
      const std::scoped_lock lock(mutex_);
      if (const auto at = keys_.find(path); at != keys_.end()) return at->second;
    }
    const std::string key = content_key(path);
    const std::scoped_lock lock(mutex_);
    return keys_.emplace(path, key).first->second;
  }

 private:
  bool by_content_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::string> keys_;
};

/// Reads a volume, checks its intensities and applies the chain.
inline Preprocessed<float> read_preprocessed(const std::string& path, const TransformChain& chain) {
  const Volume<float> volume = read_nifti<float>(path);
  check_intensities(volume, path);
  return apply(chain, volume);
}

/// Stacks tensors of one shape: N of [...] -> [N, ...].
template <class T>
Tensor<T> stack(const std::vector<Tensor<T>>& items) {
  require(!items.empty(), "stack: no items");
  Shape shape{Index(items.size())};
  for (const Index e : items[0].shape()) shape.push_back(e);
  const Tensor<T> out(shape, items[0].device());
  for (std::size_t i = 0; i < items.size(); ++i) out[Index(i)].copy_from(items[i]);
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
