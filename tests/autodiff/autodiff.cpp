#include "m3i/autodiff.hpp"
#include "../catch.hpp"
#include "m3i/ops/arithmetic.hpp"
#include "m3i/ops/dropout.hpp"
#include "m3i/ops/pointwise.hpp"
#include "m3i/ops/reduce.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {
/// A square whose slope is wrong by 1 %: gradcheck must say so.
struct WrongSquare {
  static constexpr const char* name = "wrong_square";
  template <class A>
  M3I_HD A value(A x) const {
    return x * x;
  }
  template <class A>
  M3I_HD A slope(A x) const {
    return A(2.02) * x;
  }
};
struct NanSlope {
  static constexpr const char* name = "nan_slope";
  template <class A>
  M3I_HD A value(A x) const {
    return x;
  }
  template <class A>
  M3I_HD A slope(A) const {
    return std::numeric_limits<A>::quiet_NaN();
  }
};
/// The right slope, but for one element in the middle.
struct NanOnce {
  static constexpr const char* name = "nan_once";
  template <class A>
  M3I_HD A value(A x) const {
    return x;
  }
  template <class A>
  M3I_HD A slope(A x) const {
    return x == A(0.5) ? std::numeric_limits<A>::quiet_NaN() : A(1);
  }
};
}  // namespace

TEST_CASE("gradcheck catches a deliberately wrong gradient", "[autodiff]") {
  const auto x = testing::wave<double>({5, 7});
  const auto wrong = gradcheck([](const auto& v) { return pointwise<WrongSquare>(v[0]); }, {x});
  INFO(wrong.text());
  CHECK(wrong.worst > 5e-3);
  CHECK(gradcheck([](const auto& v) { return square(v[0]); }, {x}).worst < 1e-6);
}

TEST_CASE("gradcheck catches a gradient that is forgotten or not a number", "[autodiff]") {
  const auto x = testing::wave<double>({4});
  CHECK(gradcheck([](const auto& v) { return v[0] + detach(square(v[0])); }, {x}).worst > 0.1);
  CHECK_FALSE(gradcheck([](const auto& v) { return pointwise<NanSlope>(v[0]); }, {x}).worst < 1e-6);
}

TEST_CASE("one element that is not a number fails every check, wherever it stands", "[autodiff]") {
  for (std::size_t bad = 0; bad < 4; ++bad) {
    std::vector<float> values{0.1f, 0.2f, 0.3f, 0.4f};
    const auto good = Tensor<float>::from(values, {4});
    values[bad] = std::numeric_limits<float>::quiet_NaN();
    CHECK(testing::relative_difference(Tensor<float>::from(values, {4}), good) > 1);
    CHECK(testing::relative_difference(good, Tensor<float>::from(values, {4})) > 1);
    values[bad] = 0.5f;
    const auto report = testing::check_inputs([](const auto& v) { return pointwise<NanOnce>(v[0]); },
                                              {{Tensor<float>::from(values, {4})}, {good}});
    CHECK(report.gradient > 1);
  }
}

TEST_CASE("a value used twice collects both gradients", "[autodiff]") {
  const Var<double> x(Tensor<double>::from({3.0}, {1}), true);
  backward(sum(x * x + 2.0 * x));
  CHECK(x.grad().item() == Approx(8.0));
}

TEST_CASE("a second backward through the same values is refused", "[autodiff]") {
  const Var<double> x(Tensor<double>::from({3.0}, {1}), true);
  const auto y = sum(x * x);
  backward(y);
  CHECK_THROWS_WITH(backward(y), Catch::Contains("backward") && Catch::Contains("again"));
  CHECK_THROWS_WITH(backward(x * x * Var<double>(Tensor<double>::zeros({3}))), Catch::Contains("one element"));
}

TEST_CASE("backward frees what it has used", "[autodiff]") {
  const Var<double> x(testing::wave<double>({1000}), true);
  const Index before = memory_stats().live;
  {
    const auto y = sum(exp(exp(exp(x) * 1e-3)));
    backward(y);
    CHECK(memory_stats().live <= before + 8192 + 64 * 4);  // the gradient of x, and scalars
  }
  x.clear_grad();
  CHECK(memory_stats().live == before);
}

TEST_CASE("an operation keeps only the values that its gradient reads", "[autodiff]") {
  const Index bytes = 8 * 1024;
  memory_release_cached();  // a cached block may be a little larger than what is asked for
  const Var<double> x(testing::wave<double>({1024}), true);
  const Index before = memory_stats().live;
  const auto y = (exp(x) + x) * 2.0 - x;  // of four results: exp(x), for its slope, and y
  CHECK(memory_stats().live == before + 2 * bytes);
  backward(y, Tensor<double>::full(y.shape(), 1.0));
  CHECK(x.grad().to_vector()[3] == Approx(2 * std::exp(x.value().to_vector()[3]) + 1));
}

TEST_CASE("a long tape that never sees backward is given up without overflowing the stack", "[autodiff]") {
  const Index before = memory_stats().live;
  const Var<double> x(testing::wave<double>({1}), true);
  {
    Var<double> y = x;
    for (int i = 0; i < 200000; ++i) y = i % 2 ? y + y : y * 0.5;
    CHECK(y.value().item() == Approx(x.value().item()));
  }
  CHECK(memory_stats().live == before + 64);
}

TEST_CASE("nothing is recorded under NoGrad or without a parameter", "[autodiff]") {
  const Var<double> x(testing::wave<double>({10}), true);
  {
    NoGrad guard;
    CHECK_FALSE(exp(x).needs_grad());
  }
  CHECK(exp(x).needs_grad());
  CHECK_FALSE(exp(Var<double>(testing::wave<double>({10}))).needs_grad());
}

TEST_CASE("checkpointing gives the same values and gradients with less memory", "[autodiff]") {
  const auto deep = [](const Var<double>& v) {
    Var<double> y = v;
    for (int i = 0; i < 10; ++i) y = silu(y * 1.1);
    return y;
  };
  const Var<double> a(testing::wave<double>({10000}), true), b(testing::wave<double>({10000}), true);
  const auto plain = sum(deep(a));
  const Index kept = memory_stats().live;
  const auto saved = sum(checkpoint(deep, b));
  CHECK(memory_stats().live - kept < 10000 * 8 * 3);
  CHECK(plain.value().item() == saved.value().item());
  backward(plain);
  backward(saved);
  CHECK(a.grad().to_vector() == b.grad().to_vector());
}

TEST_CASE("checkpointing replays dropout", "[autodiff]") {
  const auto run = [](bool checkpointed) {
    Random random(5);
    const Var<double> x(testing::wave<double>({1000}), true);
    const auto f = [&random](const Var<double>& v) { return square(dropout(v, 0.5, random)); };
    const auto y = checkpointed ? checkpoint(f, x, &random) : f(x);
    backward(sum(y));
    return std::pair(x.grad().to_vector(), random.next);
  };
  CHECK(run(true) == run(false));
}

TEST_CASE("a parameter inside a checkpoint is trained though its input needs no gradient", "[autodiff]") {
  const Var<double> x(testing::wave<double>({10})), w(Tensor<double>::full({1}, 2.0), true);
  backward(sum(checkpoint([w](const Var<double>& v) { return v * w; }, x)));
  double total = 0;
  for (const double v : x.value().to_vector()) total += v;
  CHECK(w.grad().item() == Approx(total));
}
