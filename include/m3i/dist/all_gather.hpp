#pragma once
/// all_gather() on the tape: embeddings of the global batch, for losses that compare every pair of it.

#include "m3i/autodiff/record.hpp"
#include "m3i/dist/communicator.hpp"
#include "m3i/kernels/gather.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// The rows of all ranks, in their order.
///
///   x  [n, ...] on each rank, the same n
///   -> [size n, ...] on each rank
///
/// Gradient: a rank's rows get the sum over the ranks of the gradients for these rows. Where every rank computes the
/// same loss of all rows, that is `size` times the gradient, which the average of DataParallel divides by `size`.
/// All ranks must call backward. The communicator must outlive it.
template <class T>
Var<T> all_gather(Communicator& communicator, const Var<T>& x) {
  if (communicator.size() == 1) return x;
  require(x.rank() > 0, "all_gather: needs rows, got a scalar");
  const Index rows = x.shape()[0], first = communicator.rank() * rows;
  return record<T>("all_gather", communicator.all_gather(x.value()), {x},
                   [&communicator, dx = x.gradient(), rows, first](const Tensor<T>& dy) {
                     const Tensor<T> sum = dy.clone();
                     communicator.all_reduce_sum(sum);
                     gather_add(sum.slice(first, first + rows), dx.grad(), SameIndex{});
                   });
}

}  // namespace M3I_ABI
}  // namespace m3i
