// Gradients: the tape, a new operation in nine lines, and how a wrong gradient is found.

#include <cstdio>

#include "m3i/autodiff.hpp"
#include "m3i/ops/arithmetic.hpp"
#include "m3i/ops/reduce.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

// [operation]
/// softsign(x) = x / (1 + |x|)
struct Softsign {
  static constexpr const char* name = "softsign";
  M3I_HD auto value(auto x) const { return x / (1 + math::abs(x)); }
  M3I_HD auto slope(auto x) const { return 1 / ((1 + math::abs(x)) * (1 + math::abs(x))); }
};
template <class T>
Var<T> softsign(const Var<T>& x) {
  return pointwise<Softsign>(x);
}
// [operation]

/// The same with a slope that looks right and is not.
struct WrongSoftsign : Softsign {
  M3I_HD auto slope(auto x) const { return 1 / (1 + math::abs(x)); }
};

int main() {
  // [backward]
  const Var<double> a(Tensor<double>::from({1, 2, 3}, {3}), true);  // true: a gradient is wanted
  const Var<double> b(Tensor<double>::from({4, 5, 6}, {3}), true);
  const Var<double> y = sum(a * b + square(a));  // recorded as it is computed
  backward(y);                                   // dy/da = b + 2 a, dy/db = a
  // [backward]
  std::printf("y = %g\n", y.value().item());
  for (Index i = 0; i < 3; ++i)
    std::printf("dy/da[%d] = %g   dy/db[%d] = %g\n", int(i), a.grad().data()[i], int(i), b.grad().data()[i]);

  // [gradcheck]
  const std::vector<Tensor<double>> inputs{testing::wave<double>({4, 5})};
  const GradReport right = gradcheck([](const auto& v) { return softsign(v[0]); }, inputs);
  const GradReport wrong = gradcheck([](const auto& v) { return pointwise<WrongSoftsign>(v[0]); }, inputs);
  // [gradcheck]
  std::printf("softsign: %s\n",
              right.worst < 1e-6 ? "agrees with differences to better than 1e-6" : right.text().c_str());
  std::printf("wrong softsign: off by %.0f %%: %.3f instead of %.3f at element %d\n", 100 * wrong.worst, wrong.analytic,
              wrong.numeric, int(wrong.element));

  // [no_grad]
  {
    const NoGrad guard;  // evaluation: nothing is recorded, no buffer is kept
    const Var<double> z = softsign(a);
    std::printf("under NoGrad a result needs a gradient: %s\n", z.needs_grad() ? "yes" : "no");
  }
  // [no_grad]
}
