#pragma once
/// Losses: scalars, averaged over the batch unless said otherwise.

#include <limits>

#include "m3i/ops/linear.hpp"
#include "m3i/ops/reduce.hpp"
#include "m3i/ops/shape.hpp"
#include "m3i/ops/softmax.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// Cross-entropy of one row against (1 - s) onehot + s / K.
template <class T>
struct CrossEntropyRow {
  using A = accumulate_t<T>;
  const T* x;
  const std::int64_t* labels;
  A *loss, *lse;
  Index n;
  A smoothing;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const T* in = x + row * n;
    const A top = team.max(n, [=](Index k) { return A(in[k]); });
    const A mass = team.sum(n, [=](Index k) { return math::exp(A(in[k]) - top); });
    const A total = smoothing > 0 ? team.sum(n, [=](Index k) { return A(in[k]); }) : A(0);
    const A log_mass = top + math::log(mass);
    const bool there = labels[row] >= 0 && labels[row] < n;  // known, unless the labels are on a device
    const A picked = there ? A(in[labels[row]]) : std::numeric_limits<A>::quiet_NaN(), s = smoothing,
            mean = total / A(n);
    A *out = loss + row, *keep = lse + row;
    team.each(1, [=](Index) {
      *out = log_mass - (1 - s) * picked - s * mean;
      *keep = log_mass;
    });
  }
};
template <class T>
struct CrossEntropyGrad {
  using A = accumulate_t<T>;
  const T* x;
  const std::int64_t* labels;
  const A* lse;
  const T* dy;
  T* dx;
  Index n;
  A smoothing, scale;
  M3I_HD void operator()(Index i) const {
    const Index row = i / n;
    const A target = (i % n == labels[row] ? 1 - smoothing : A(0)) + smoothing / A(n);
    dx[i] = T(A(dx[i]) + A(*dy) * scale * (math::exp(A(x[i]) - lse[row]) - target));
  }
};

inline void check_labels(const char* name, const Shape& logits, const Tensor<std::int64_t>& labels) {
  require(logits.rank() > 0 && labels.shape() == logits.slice(0, logits.rank() - 1), name, ": labels ", labels.shape(),
          " do not fit logits ", logits, "; expected ", logits.rank() ? logits.slice(0, logits.rank() - 1) : Shape{});
  if (ids_are_seen(labels)) checked_ids(name, labels, logits[-1]);
}

}  // namespace detail

/// Cross-entropy of softmax(logits) against class labels, mean over all rows.
///
///   logits           [..., K]
///   labels           [...], integers in [0, K)
///   label_smoothing  share of the target that is spread evenly over the K classes
///   ->               scalar
///
/// Gradient: logits. Keeps one value a row until backward. Throws ShapeError for labels of another shape or outside
/// [0, K) (labels that lie on a device are not looked at: one outside makes the loss NaN), ConfigError for smoothing
/// outside [0, 1]. Szegedy et al. 2016, arXiv:1512.00567 (smoothing).
template <class T>
Var<T> cross_entropy(const Var<T>& logits, const Tensor<std::int64_t>& labels, double label_smoothing = 0) {
  const Operation operation("cross_entropy", logits, labels);
  using A = accumulate_t<T>;
  detail::check_labels("cross_entropy", logits.shape(), labels);
  require<ConfigError>(label_smoothing >= 0 && label_smoothing <= 1, "cross_entropy: label smoothing ", label_smoothing,
                       " is outside [0, 1]");
  const Index n = logits.shape()[-1], rows = labels.size();
  require(rows > 0, "cross_entropy: no rows in logits ", logits.shape());
  const Tensor<std::int64_t> where = labels.to(logits.device());
  const Tensor<A> loss({rows}, logits.device()), lse({rows}, logits.device());
  const A smoothing = A(label_smoothing);
  for_rows(logits.device(), rows,
           detail::CrossEntropyRow<T>{logits.data(), where.data(), loss.data(), lse.data(), n, smoothing}, n);
  const Tensor<double> y = detail::sum_of_all(loss, 1.0 / double(rows));
  return record<T>("cross_entropy", cast<T>(y), {logits}, [=](const Tensor<T>& dy) {
    for_each(dy.device(), logits.size(),
             detail::CrossEntropyGrad<T>{logits.data(), where.data(), lse.data(), dy.data(), logits.grad().data(), n,
                                         smoothing, A(1.0 / double(rows))});
  });
}

namespace detail {
template <class T>
void require_same_shape(const char* name, const Var<T>& x, const Var<T>& target) {  // broadcasting would hide a mistake
  require(x.shape() == target.shape(), name, ": prediction ", x.shape(), " and target ", target.shape(),
          " differ; reshape one of them");
}
}  // namespace detail

/// Binary cross-entropy of sigmoid(x) against targets in [0, 1], the mean of softplus(x) - x target over all elements.
///
///   x, target  of one shape
///   ->         scalar
///
/// Gradients: x, target. Finite for any finite x. Throws ShapeError unless the shapes are equal.
template <class T>
Var<T> bce_with_logits(const Var<T>& x, const Var<T>& target) {
  const Operation operation("bce_with_logits", x, target);
  detail::require_same_shape("bce_with_logits", x, target);
  return mean(softplus(x) - x * target);
}

/// Mean of (x - y)^2 over all elements, a scalar. Gradients: x, y. Throws ShapeError unless the shapes are equal.
template <class T>
Var<T> mse_loss(const Var<T>& x, const Var<T>& y) {
  const Operation operation("mse_loss", x, y);
  detail::require_same_shape("mse_loss", x, y);
  return mean(square(x - y));
}

struct DiceOptions {
  bool include_background = true;  ///< class 0 counts
  bool squared = false;            ///< sums of squares in the denominator
  double smooth = 1e-5;            ///< added to numerator and denominator
};

namespace detail {

/// Overlap, prediction and reference sums of one sample, as columns [3 K] over its voxels.
template <class T>
struct DiceTerm {
  using A = accumulate_t<T>;
  const T* p;
  const std::int64_t* labels;
  Index k;
  bool squared;
  M3I_HD A operator()(Index voxel, Index column) const {
    const Index c = column % k;
    const A value = A(p[voxel * k + c]), truth = labels[voxel] == c ? A(1) : A(0);
    const A prediction = squared ? value * value : value;
    return column < k ? value * truth : column < 2 * k ? prediction : truth;
  }
};
template <class A>
struct DiceValue {
  const A* sums;  // [N, 3, K]
  A* y;
  Index samples, k, first;
  A smooth;
  M3I_HD void operator()(Index) const {
    A total = 0;
    for (Index n = 0; n < samples; ++n)
      for (Index c = first; c < k; ++c) {
        const A* s = sums + n * 3 * k + c;
        total += (2 * s[0] + smooth) / (s[k] + s[2 * k] + smooth);
      }
    *y = 1 - total / A(samples * (k - first));
  }
};
template <class T>
struct DiceGrad {
  using A = accumulate_t<T>;
  const T* p;
  const std::int64_t* labels;
  const A* sums;
  const T* dy;
  T* dp;
  Index voxels, samples, k, first;
  A smooth;
  bool squared;
  M3I_HD void operator()(Index i) const {
    const Index c = i % k, voxel = i / k;
    if (c < first) return;
    const A* s = sums + voxel / voxels * 3 * k + c;
    const A below = s[k] + s[2 * k] + smooth, above = 2 * s[0] + smooth;
    const A truth = labels[voxel] == c ? A(1) : A(0), slope = squared ? 2 * A(p[i]) : A(1);
    const A d = (2 * truth * below - above * slope) / (below * below);
    dp[i] = T(A(dp[i]) - A(*dy) * d / A(samples * (k - first)));
  }
};

}  // namespace detail

/// Soft Dice loss: 1 - mean over samples and classes of (2 sum p t + smooth) / (sum p + sum t + smooth), p = softmax.
///
///   logits  [N, ..., K]   labels  [N, ...], integers in [0, K)   ->  scalar
///
/// The sums run over one sample's voxels (MONAI's DiceLoss with softmax and to_onehot_y). Gradient: logits; keeps p.
/// Throws ShapeError for labels of another shape or outside [0, K), and when no class is left.
/// Milletari et al. 2016, arXiv:1606.04797.
template <class T>
Var<T> dice_loss(const Var<T>& logits, const Tensor<std::int64_t>& labels, const DiceOptions& options = {}) {
  const Operation operation("dice_loss", logits, labels);
  using A = accumulate_t<T>;
  detail::check_labels("dice_loss", logits.shape(), labels);
  require(logits.rank() >= 2 && logits.size() > 0, "dice_loss: logits must be [N, ..., K], got ", logits.shape());
  const Index k = logits.shape()[-1], samples = logits.shape()[0], voxels = labels.size() / samples;
  const Index first = options.include_background ? 0 : 1;
  require(k > first, "dice_loss: one class only, and the background is left out");
  const Tensor<std::int64_t> where = labels.to(logits.device());
  const Var<T> p = softmax(logits);
  const Tensor<A> sums = Tensor<A>::zeros({samples, 3 * k}, logits.device());
  for (Index n = 0; n < samples; ++n)
    for_columns(p.device(), voxels, 3 * k,
                detail::DiceTerm<T>{p.data() + n * voxels * k, where.data() + n * voxels, k, options.squared},
                sums.data() + n * 3 * k);
  const Tensor<A> y({}, p.device());
  for_each(p.device(), 1, detail::DiceValue<A>{sums.data(), y.data(), samples, k, first, A(options.smooth)});
  return record<T>("dice_loss", cast<T>(y), {p}, [=](const Tensor<T>& dy) {
    for_each(dy.device(), p.size(),
             detail::DiceGrad<T>{p.data(), where.data(), sums.data(), dy.data(), p.grad().data(), voxels, samples, k,
                                 first, A(options.smooth), options.squared});
  });
}

/// Symmetric contrastive loss of matched rows (InfoNCE, CLIP): the mean of the two cross-entropies of
/// exp(log_scale) a b^T and its transpose against the diagonal.
///
///   a, b       [B, C], rows of unit length
///   log_scale  scalar, the logarithm of the inverse temperature
///
/// Gradients: a, b, log_scale. Throws ShapeError for shapes that do not match. van den Oord et al. 2018,
/// arXiv:1807.03748; Radford et al. 2021, arXiv:2103.00020.
template <class T>
Var<T> info_nce(const Var<T>& a, const Var<T>& b, const Var<T>& log_scale) {
  const Operation operation("info_nce", a, b, log_scale);
  require(a.rank() == 2 && a.shape() == b.shape(), "info_nce: needs two matching [B, C], got ", a.shape(), " and ",
          b.shape());
  require(log_scale.size() == 1, "info_nce: the logarithm of the scale must be one number, got ", log_scale.shape());
  const Var<T> logits = exp(log_scale) * matmul(a, b, false, true);
  std::vector<std::int64_t> diagonal(static_cast<std::size_t>(a.shape()[0]));
  for (std::size_t i = 0; i < diagonal.size(); ++i) diagonal[i] = std::int64_t(i);
  const auto labels = Tensor<std::int64_t>::from(diagonal, {a.shape()[0]}, a.device());
  return 0.5 * (cross_entropy(logits, labels) + cross_entropy(permute(logits, {1, 0}), labels));
}

}  // namespace M3I_ABI
}  // namespace m3i
