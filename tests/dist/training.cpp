#include "catch.hpp"
#include "dist/small_training.hpp"
#include "m3i/dist/fork.hpp"

using namespace m3i;

namespace {

template <class T>
void same_as_one_process(int ranks, double tolerance, bool recompute) {
  OneProcess one;
  const auto expected = testing::train<T>(one, recompute);
  fork_ranks(ranks, [&](Communicator& c) {
    const auto trace = testing::train<T>(c, recompute);
    testing::require_close(trace.losses, expected.losses, tolerance, "loss of step");
    testing::require_close(trace.weights, expected.weights, tolerance, "weight");
    return 0;
  });
}

}  // namespace

TEST_CASE("dist: training on 2 and 4 ranks gives one process's losses and weights", "[dist]") {
  const int ranks = GENERATE(2, 4);
  const bool recompute = GENERATE(false, true);
  CHECK_NOTHROW(same_as_one_process<double>(ranks, 1e-12, recompute));
  CHECK_NOTHROW(same_as_one_process<float>(ranks, 1e-5, recompute));
}

TEST_CASE("dist: all_gather has the gradient that central differences give", "[dist]") {
  CHECK_NOTHROW(fork_ranks(3, [](Communicator& c) {
    // Each rank has a function of its own of all rows; the gradient is that of their sum.
    const auto f = [&](const Var<double>& x) {
      return sum(exp((0.5 + 0.3 * c.rank()) * square(all_gather(c, x)))) + sum(all_gather(c, exp(x)));
    };
    const auto x = testing::wave<double>({2, 3}, c.rank());
    const Var<double> own(x, true);
    m3i::backward(f(own));
    const double h = 1e-5;
    for (int owner = 0; owner < c.size(); ++owner)
      for (Index i = 0; i < x.size(); ++i) {
        const auto at = [&](double step) {
          const Tensor<double> moved = x.clone();
          if (c.rank() == owner) moved.data()[i] += step;
          const NoGrad guard;
          const Tensor<double> total = f(Var<double>(moved)).value().clone();
          c.all_reduce_sum(total);
          return total.item();
        };
        const double numeric = (at(h) - at(-h)) / (2 * h);
        if (c.rank() != owner) continue;
        require<Error>(std::abs(own.grad().data()[i] - numeric) < 1e-7 * std::max(1.0, std::abs(numeric)), "element ",
                       i, ": gradient ", own.grad().data()[i], ", differences ", numeric);
      }
    return 0;
  }));
}

TEST_CASE("dist: a parameter without a gradient on one rank counts as zero there", "[dist]") {
  CHECK_NOTHROW(fork_ranks(2, [](Communicator& c) {
    const Var<double> a(Tensor<double>::full({3}, 1.0), true), b(Tensor<double>::full({2}, 1.0), true);
    DataParallel<double> parallel(c, {a, b});
    if (c.rank() == 0) gather_add(Tensor<double>::full({3}, 4.0), a.grad(), SameIndex{});
    parallel.average();
    require<Error>(a.grad().data()[2] == 2.0 && !b.has_grad(), "average");
    return 0;
  }));
}

TEST_CASE("dist: a batch that the ranks do not divide is refused", "[dist][errors]") {
  CHECK_THROWS_WITH(fork_ranks(2,
                               [](Communicator& c) {
                                 batch_shard(c, 5);
                                 return 0;
                               }),
                    Catch::Contains("batch size 5") && Catch::Contains("2 ranks"));
}
