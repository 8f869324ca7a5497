/// Code of docs/2-autodiff.md.

#include "../catch.hpp"

#include "m3i/autodiff.hpp"
#include "m3i/ops/arithmetic.hpp"
#include "m3i/ops/reduce.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

// [record]
/// dx_i += 3 x_i^2 dy_i
template <class T>
struct CubeGrad {
  using A = accumulate_t<T>;  // float for half and bf16, which only store
  const T *x, *dy;
  T* dx;
  M3I_HD void operator()(Index i) const {  // add, never assign
    dx[i] = T(A(dx[i]) + 3 * A(x[i]) * A(x[i]) * A(dy[i]));
  }
};
template <class T>
struct CubeValue {
  using A = accumulate_t<T>;
  const T* x;
  T* y;
  M3I_HD void operator()(Index i) const { y[i] = T(A(x[i]) * A(x[i]) * A(x[i])); }
};

/// x^3, for each element. Gradient: x.
template <class T>
Var<T> cube(const Var<T>& x) {
  const Operation operation("cube", x);  // errors name it, with the shapes of its inputs
  const Tensor<T> y(x.shape(), x.device());
  for_each(x.device(), x.size(), CubeValue<T>{x.data(), y.data()});
  return record<T>("cube", y, {x}, [x](const Tensor<T>& dy) {  // capture inputs or tensors, never the result
    for_each(x.device(), x.size(), CubeGrad<T>{x.data(), dy.data(), x.grad().data()});
  });
}
// [record]

TEST_CASE("docs: an operation by hand passes the checks of every operation", "[docs]") {
  // [check_op]
  const auto report = testing::check_op([](const auto& x) { return cube(x); }, {{1}, {3, 5}, {2, 129}});
  CHECK(report.gradient < 1e-6);   // against central differences, in double
  CHECK(report.single < 1e-6);     // float against double, on the same inputs
  CHECK(report.emulated < 1e-14);  // the GPU's order, walked in host memory, against the host's
  CHECK(report.bf16 < 2e-2);       // bf16 against float, on inputs that both can hold; f16 likewise
  // [check_op]
}

TEST_CASE("docs: gradients accumulate until they are cleared", "[docs]") {
  // [accumulate]
  const Var<double> w(Tensor<double>::scalar(2), true);
  for (const double x : {1.0, 10.0}) backward(w * x);  // two small batches, one gradient
  const double both = w.grad().item();                 // 11
  w.clear_grad();
  backward(square(w));
  const double fresh = w.grad().item();  // 4
  // [accumulate]
  CHECK(both == 11);
  CHECK(fresh == 4);
}

TEST_CASE("docs: a second backward through the same values is an error", "[docs]") {
  // [twice]
  const Var<double> x(Tensor<double>::scalar(2), true);
  const Var<double> y = square(x);
  backward(y);
  CHECK_THROWS_AS(backward(y), Error);  // the buffers of y's tape are gone; compute the forward pass again
  // [twice]
}

TEST_CASE("docs: checkpointing keeps less and gives the same gradient", "[docs]") {
  const auto block = [](const Var<double>& x) { return square(exp(x) + x); };
  // [checkpoint]
  const Var<double> x(testing::wave<double>({8}), true);
  backward(sum(block(x)));
  const auto kept = x.grad().to_vector();
  x.clear_grad();
  backward(sum(checkpoint(block, x)));  // only x is kept; block runs again inside backward
  // [checkpoint]
  CHECK(x.grad().to_vector() == kept);
}
