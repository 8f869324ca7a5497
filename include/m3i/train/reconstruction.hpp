#pragma once
/// Restoring the volume (paper, 3.4.2): the loss and the corruption of the input.

#include "m3i/core/random.hpp"
#include "m3i/ops/loss.hpp"
#include "m3i/train/method_config.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Restoration loss between x_hat and x, both [N, D, H, W, C]. `mean` averages (x - x_hat)^2; `printed` is equation
/// (3), the sum over the batch of the L2 norm of x - x_hat, which grows with the volume.
/// The mean over `ranks` that share a batch is the loss of the batch.
template <class T>
Var<T> reconstruction_loss(const Var<T>& x_hat, const Var<T>& x, choice::Reconstruction kind, int ranks = 1) {
  if (kind == choice::Reconstruction::mean) return mse_loss(x_hat, x);
  const Index n = x.shape()[0];
  const Var<T> squares = sum(reshape(square(x_hat - x), {n, x.size() / n}), 1);
  return double(ranks) * sum(sqrt(squares + 1e-12));  // the norm has no slope at 0
}

/// A copy of x [N, D, H, W, C] in which a fraction of the cubic patches is 0. The same patches for the same generator.
/// `first` is the number of x's first volume in a batch that several processes share.
template <class T>
Tensor<T> mask_patches(const Tensor<T>& x, double ratio, Index patch, Random random, Index first = 0) {
  if (ratio <= 0) return x;
  const Tensor<T> out = x.to(Device::cpu()).clone();
  const Shape& s = x.shape();
  const Index gd = (s[1] + patch - 1) / patch, gh = (s[2] + patch - 1) / patch, gw = (s[3] + patch - 1) / patch;
  const Index masked = Index(ratio * double(gd * gh * gw) + 0.5);
  for (Index n = 0; n < s[0]; ++n) {
    const auto order = random.split(std::uint64_t(first + n)).permutation(gd * gh * gw);
    for (Index k = 0; k < masked; ++k) {
      const Index p = order[std::size_t(k)], d0 = p / (gh * gw) * patch, h0 = p / gw % gh * patch, w0 = p % gw * patch;
      const Index width = (std::min(w0 + patch, s[3]) - w0) * s[4];
      for (Index d = d0; d < std::min(d0 + patch, s[1]); ++d)
        for (Index h = h0; h < std::min(h0 + patch, s[2]); ++h)
          std::fill_n(out.data() + (((n * s[1] + d) * s[2] + h) * s[3] + w0) * s[4], width, T(0.0f));
    }
  }
  return out.to(x.device());
}

}  // namespace M3I_ABI
}  // namespace m3i
