#pragma once
/// Volumes as the network takes them, preprocessed once and kept within a byte budget.

#include <list>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "m3i/imaging/chain.hpp"
#include "m3i/imaging/nifti.hpp"
#include "m3i/train/preprocessing.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Tensors by key, the least recently used ones dropped over the budget. Any thread may ask.
template <class T>
class TensorCache {
 public:
  explicit TensorCache(std::size_t budget_bytes) : budget_(budget_bytes) {}

  /// The tensor of this key, made by `make()` if it is not there.
  template <class Make>
  Tensor<T> get(const std::string& key, const Make& make) {
    {
      const std::scoped_lock lock(mutex_);
      if (const auto at = entries_.find(key); at != entries_.end()) {
        order_.splice(order_.begin(), order_, at->second.second);
        return at->second.first;
      }
    }
    const Tensor<T> made = make();
    const std::scoped_lock lock(mutex_);
    if (entries_.count(key) || made.bytes() > budget_) return made;
    order_.push_front(key);
    entries_.emplace(key, std::pair(made, order_.begin()));
    bytes_ += made.bytes();
    while (bytes_ > budget_) {
      const auto oldest = entries_.find(order_.back());
      bytes_ -= oldest->second.first.bytes();
      entries_.erase(oldest);
      order_.pop_back();
    }
    return made;
  }

 private:
  std::size_t budget_, bytes_ = 0;
  std::mutex mutex_;
  std::list<std::string> order_;
  std::map<std::string, std::pair<Tensor<T>, std::list<std::string>::iterator>> entries_;
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
