#pragma once
/// shared_rows(): work on many rows that the ranks divide among themselves.

#include "m3i/dist/communicator.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Rows [n, width] in host memory, of which f(first, last) computes [last - first, width] on any device. f is called
/// for batches of `batch` rows, which the ranks take in turn; the batches, and so the bits, are the same on any number
/// of ranks. Each rank gets all rows.
template <class T, class F>
Tensor<T> shared_rows(Communicator& ranks, Index n, Index width, Index batch, const F& f) {
  const Index all = (n + batch - 1) / batch, size = ranks.size(), each = (all + size - 1) / size;
  const auto own = Tensor<T>::zeros({each * batch, width});  // gathered parts must be equally long
  const auto for_batches = [&](const auto& visit) {
    for (Index b = 0; b < all; ++b) visit(int(b % size), b / size * batch, b * batch, std::min(n, (b + 1) * batch));
  };
  for_batches([&](int rank, Index at, Index first, Index last) {
    if (rank == ranks.rank()) own.slice(at, at + last - first).copy_from(f(first, last));
  });
  const Tensor<T> gathered = ranks.all_gather(own), out({n, width});
  for_batches([&](int rank, Index at, Index first, Index last) {
    const Index from = rank * each * batch + at;
    out.slice(first, last).copy_from(gathered.slice(from, from + last - first));
  });
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
