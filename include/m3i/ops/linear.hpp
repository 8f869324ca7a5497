#pragma once
/// Matrix products: matmul with broadcast leading axes, and the linear layer.

#include "m3i/autodiff/record.hpp"
#include "m3i/kernels/for_columns.hpp"
#include "m3i/kernels/gemm.hpp"
#include "m3i/ops/arithmetic.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// A run of products: product i of the run takes matrix a + i * step_a and b + i * step_b (steps are 0 or 1).
struct MatmulRun {
  Index first, count, a, step_a, b, step_b;
};

/// The leading axes `a` and `b`, broadcast to `y`, as runs that one batched product can do.
inline std::vector<MatmulRun> matmul_runs(const Shape& a, const Shape& b, const Shape& y) {
  const BroadcastMap at_a = broadcast_map(a, y), at_b = broadcast_map(b, y);
  // The whole batch is one run unless an operand is broadcast along some axes only; then runs are along the last axis.
  const bool whole = at_a.rank == 1 && at_b.rank == 1;
  const Index total = y.size(), count = whole ? total : y[-1];
  std::vector<MatmulRun> runs;
  for (Index first = 0; first < total; first += count) {
    const Index pa = at_a(first), pb = at_b(first);
    runs.push_back({first, count, pa, count > 1 ? at_a(first + 1) - pa : 0, pb, count > 1 ? at_b(first + 1) - pb : 0});
  }
  return runs;
}

/// The sizes of a matmul, and how its batch is walked.
struct MatmulPlan {
  Index m, n, k;
  Shape y;
  std::vector<MatmulRun> runs;

  MatmulPlan(const Shape& a, const Shape& b, bool trans_a, bool trans_b) {
    require(a.rank() >= 2 && b.rank() >= 2, "matmul: needs matrices [..., M, K] and [..., K, N], got ", a, " and ", b);
    m = a[trans_a ? -1 : -2];
    k = a[trans_a ? -2 : -1];
    n = b[trans_b ? -2 : -1];
    require(b[trans_b ? -1 : -2] == k, "matmul: ", a, trans_a ? " transposed" : "", " times ", b,
            trans_b ? " transposed" : "", " sums over ", k, " and ", b[trans_b ? -1 : -2], " elements");
    Shape lead_a = a.slice(0, a.rank() - 2), lead_b = b.slice(0, b.rank() - 2);
    y = broadcast("matmul", lead_a, lead_b);
    if (!trans_a && lead_b.size() == 1 &&
        lead_a == y) {  // one matrix for all: the rows of all products are one product
      runs = {{0, 1, 0, 0, 0, 0}};
      y.push_back(m);
      m *= lead_a.size();
    } else {
      runs = matmul_runs(lead_a, lead_b, y);
      y.push_back(m);
    }
    y.push_back(n);
  }
};

/// dx_i += op(p_i) op(q_i) for the products of a run, where dx advances by step_x matrices; a step of 0 adds them one
/// after the other.
template <class T>
void matmul_grad(Device device,
                 Index count,
                 bool trans_p,
                 bool trans_q,
                 Index m,
                 Index n,
                 Index k,
                 const T* p,
                 Index step_p,
                 const T* q,
                 Index step_q,
                 T* dx,
                 Index step_x) {
  const Index ldp = trans_p ? m : k, ldq = trans_q ? k : n;
  const Index at_once = step_x ? count : 1;
  for (Index i = 0; i < count; i += at_once)
    gemm_batched<T>(device, at_once, trans_p, trans_q, m, n, k, 1, p + i * step_p * m * k, ldp, q + i * step_q * k * n,
                    ldq, 1, dx, n, step_p * m * k, step_q * k * n, step_x * m * n);
}

}  // namespace detail

/// Matrix products y = op(a) op(b), op an optional transpose of the last two axes.
///
///   a   [..., M, K], or [..., K, M] when trans_a
///   b   [..., K, N], or [..., N, K] when trans_b
///   ->  [..., M, N]   leading axes broadcast as in NumPy
///
/// Gradients: a, b. Throws ShapeError for extents that do not fit, DeviceError for inputs on different devices.
template <class T>
Var<T> matmul(const Var<T>& a, const Var<T>& b, bool trans_a = false, bool trans_b = false) {
  const Operation operation("matmul", a, b);
  const detail::MatmulPlan plan(a.shape(), b.shape(), trans_a, trans_b);
  require_one_device("matmul", {a, b});
  const Index m = plan.m, n = plan.n, k = plan.k;
  const Tensor<T> y(plan.y, a.device());
  for (const auto& r : plan.runs)
    gemm_batched<T>(a.device(), r.count, trans_a, trans_b, m, n, k, 1, a.data() + r.a * m * k, trans_a ? m : k,
                    b.data() + r.b * k * n, trans_b ? k : n, 0, y.data() + r.first * m * n, n, r.step_a * m * k,
                    r.step_b * k * n, m * n);
  return record<T>("matmul", y, {a, b}, [=, a = a.kept(), b = b.kept()](const Tensor<T>& dy) {
    const Device device = dy.device();
    for (const auto& r : plan.runs) {
      const T *g = dy.data() + r.first * m * n, *pa = a.data() + r.a * m * k, *pb = b.data() + r.b * k * n;
      if (a.needs_grad()) {
        T* da = a.grad().data() + r.a * m * k;
        if (trans_a) detail::matmul_grad(device, r.count, trans_b, true, k, m, n, pb, r.step_b, g, 1, da, r.step_a);
        else detail::matmul_grad(device, r.count, false, !trans_b, m, k, n, g, 1, pb, r.step_b, da, r.step_a);
      }
      if (b.needs_grad()) {
        T* db = b.grad().data() + r.b * k * n;
        if (trans_b) detail::matmul_grad(device, r.count, true, trans_a, n, k, m, g, 1, pa, r.step_a, db, r.step_b);
        else detail::matmul_grad(device, r.count, !trans_a, false, k, n, m, pa, r.step_a, g, 1, db, r.step_b);
      }
    }
  });
}

/// y = x w^T + b for the last axis.
///
///   x   [..., in]
///   w   [out, in]
///   b   [out], or not defined
///   ->  [..., out]
///
/// Gradients: x, w, b. The bias is where the product starts, not a pass of its own. Throws ShapeError for extents that
/// do not fit, DeviceError for inputs on different devices.
template <class T>
Var<T> linear(const Var<T>& x, const Var<T>& w, const Var<T>& b = {}) {
  const Operation operation("linear", x, w, b);
  require(w.rank() == 2, "linear: needs a weight [out, in], got ", w.shape());
  require(x.rank() >= 1 && x.shape()[-1] == w.shape()[1], "linear: input ", x.shape(), " has ",
          x.rank() ? x.shape()[-1] : 0, " channels, weight ", w.shape(), " expects ", w.shape()[1],
          "; reshape the input or rebuild the layer");
  require(!b.defined() || b.shape() == Shape{w.shape()[0]}, "linear: weight ", w.shape(), " expects a bias [",
          w.shape()[0], "], got ", b.defined() ? b.shape() : Shape{});
  require_one_device("linear", {x, w, b});
  const Index out = w.shape()[0], in = w.shape()[1];
  Shape shape = x.shape();
  shape[-1] = out;
  const Index rows = shape.slice(0, shape.rank() - 1).size();
  const Tensor<T> y(shape, x.device());
  gemm<T>(x.device(), false, true, rows, out, in, 1, x.data(), in, w.data(), in, 0, y.data(), out,
          b.defined() ? b.data() : nullptr);
  std::vector<Var<T>> inputs{x, w};
  if (b.defined()) inputs.push_back(b);
  return record<T>("linear", y, inputs, [=, x = x.kept(), w = w.kept()](const Tensor<T>& dy) {
    const Device device = dy.device();
    if (x.needs_grad())
      gemm<T>(device, false, false, rows, in, out, 1, dy.data(), out, w.data(), in, 1, x.grad().data(), in);
    if (w.needs_grad())
      gemm<T>(device, true, false, out, in, rows, 1, dy.data(), out, x.data(), in, 1, w.grad().data(), in);
    if (b.needs_grad()) add_column_sums(dy, b.grad());
  });
}

}  // namespace M3I_ABI
}  // namespace m3i
