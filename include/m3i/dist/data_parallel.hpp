#pragma once
/// DataParallel: every rank takes a part of the batch, all take the same step.
///
///     DataParallel<float> parallel(communicator, parameters(network));   // rank 0's values everywhere
///     ...
///     parallel.backward(loss);                                           // gradients: the mean over the ranks
///     optimizer.step(...);

#include <unordered_map>
#include <utility>
#include <vector>

#include "m3i/autodiff/backward.hpp"
#include "m3i/core/random.hpp"
#include "m3i/core/shard.hpp"
#include "m3i/dist/communicator.hpp"
#include "m3i/kernels/for_each.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// This rank's part of a global batch. Equal parts; throws ConfigError when they are not.
inline BatchShard batch_shard(const Communicator& communicator, Index batch) {
  require<ConfigError>(batch % communicator.size() == 0, "batch size ", batch, ": not a multiple of the ",
                       communicator.size(), " ranks; it counts the items of all ranks");
  const Index count = batch / communicator.size();
  return {batch, communicator.rank() * count, count};
}

/// The generator of what each rank draws for itself, such as dropout: rank 0 draws what one process would.
inline Random random_of_rank(const Communicator& communicator, const Random& random) {
  return communicator.first() ? random : random.split(1 + std::uint64_t(communicator.rank()));
}

namespace detail {
template <class T>
struct MeanOf {
  T* x;
  accumulate_t<T> factor;
  M3I_HD void operator()(Index i) const { x[i] = T(accumulate_t<T>(x[i]) * factor); }
};
}  // namespace detail

/// Averages gradients over the ranks, in buckets: parameters in reverse order of creation, in which backward finishes
/// them. A bucket leaves as soon as its last gradient is there, while backward goes on.
template <class T>
class DataParallel final : private LeafObserver {
 public:
  /// Gives every parameter the value of rank 0. Frozen parameters have no gradient to average.
  DataParallel(Communicator& communicator, const std::vector<Var<T>>& parameters, Index bucket_bytes = Index(4) << 20)
      : communicator_(communicator) {
    for (const Var<T>& p : parameters) communicator.broadcast(p.value());
    Index filled = bucket_bytes;
    for (auto p = parameters.rbegin(); p != parameters.rend(); ++p) {
      if (!p->needs_grad()) continue;
      if (filled >= bucket_bytes || p->device() != buckets_.back().parameters.back().device()) {
        buckets_.emplace_back();
        filled = 0;
      }
      bucket_of_.emplace(p->node().get(), buckets_.size() - 1);
      buckets_.back().parameters.push_back(*p);
      filled += Index(p->value().bytes());
    }
  }

  /// backward(loss), and the gradients are the mean over the ranks. Gradients must be clear before.
  void backward(const Var<T>& loss) {
    start();
    {
      const WatchLeaves watch(*this);
      m3i::backward(loss);
    }
    finish();
  }
  /// Averages gradients that are there already.
  void average() {
    start();
    finish();
  }
  Communicator& ranks() const { return communicator_; }
  std::size_t buckets() const { return buckets_.size(); }
  /// How many buckets of the last backward left before its end.
  std::size_t early() const { return early_; }

 private:
  struct Bucket {
    std::vector<Var<T>> parameters;
    std::size_t ready = 0;
  };

  void start() {
    next_ = early_ = 0;
    for (Bucket& bucket : buckets_) bucket.ready = 0;
  }
  void leaf_ready(const void* node) override {
    if (communicator_.size() == 1) return;
    const auto at = bucket_of_.find(node);
    if (at == bucket_of_.end()) return;
    ++buckets_[at->second].ready;
    for (; next_ < buckets_.size() && buckets_[next_].ready == buckets_[next_].parameters.size(); ++next_, ++early_)
      reduce(buckets_[next_].parameters);
  }
  /// What is left: a parameter with a gradient on one rank has one on all, zeros where there was none.
  void finish() {
    if (communicator_.size() == 1) return;
    std::vector<Var<T>> rest;
    for (; next_ < buckets_.size(); ++next_)
      rest.insert(rest.end(), buckets_[next_].parameters.begin(), buckets_[next_].parameters.end());
    const Tensor<std::int64_t> present(Shape{Index(rest.size())});
    for (std::size_t i = 0; i < rest.size(); ++i) present.data()[i] = rest[i].has_grad() ? 1 : 0;
    communicator_.all_reduce_sum(present);
    std::vector<Var<T>> group;
    for (std::size_t i = 0; i < rest.size(); ++i) {
      if (present.data()[i] == 0) continue;
      if (!group.empty() && group.back().device() != rest[i].device()) reduce(std::exchange(group, {}));
      group.push_back(rest[i]);
    }
    reduce(group);
  }
  /// One message for many gradients.
  void reduce(const std::vector<Var<T>>& parameters) {
    if (parameters.empty()) return;
    Index total = 0;
    for (const Var<T>& p : parameters) total += p.size();
    const Tensor<T> message(Shape{total}, parameters[0].device());
    Index at = 0;
    for (const Var<T>& p : parameters)
      message.slice(at, at + p.size()).reshape(p.shape()).copy_from(p.grad()), at += p.size();
    communicator_.all_reduce_sum(message);
    for_each(message.device(), total,
             detail::MeanOf<T>{message.data(), accumulate_t<T>(1) / accumulate_t<T>(communicator_.size())});
    at = 0;
    for (const Var<T>& p : parameters)
      p.grad().copy_from(message.slice(at, at + p.size()).reshape(p.shape())), at += p.size();
  }

  Communicator& communicator_;
  std::vector<Bucket> buckets_;
  std::unordered_map<const void*, std::size_t> bucket_of_;
  std::size_t next_ = 0, early_ = 0;
};

}  // namespace M3I_ABI
}  // namespace m3i
