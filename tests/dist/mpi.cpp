// Hidden: run by ctest as `mpirun -n N test_dist [mpi]`, and [mpi_failure], in which every rank ends with an error.

#include "m3i/dist/mpi.hpp"
#include "catch.hpp"
#include "dist/small_training.hpp"

#if M3I_MPI
using namespace m3i;

TEST_CASE("dist: ranks of mpirun sum, gather, broadcast and train as one process", "[.][mpi]") {
  MpiCommunicator c;
  const Index n = 1000003;
  const Tensor<float> x(Shape{n});
  for (Index i = 0; i < n; ++i) x.data()[i] = float(i % 97) + float(c.rank());
  c.all_reduce_sum(x);
  Index wrong = 0;
  for (Index i = 0; i < n; ++i)
    wrong += x.data()[i] != float(c.size()) * float(i % 97) + float(c.size() * (c.size() - 1) / 2);
  CHECK(wrong == 0);
  const auto large = Tensor<float>::full({5000000}, float(c.rank()));  // more than one piece
  const auto all = c.all_gather(large);
  for (Index r = 0; r < c.size(); ++r) CHECK(all.data()[(r + 1) * large.size() - 1] == float(r));
  c.broadcast(large, c.size() - 1);
  CHECK(large.data()[4999999] == float(c.size() - 1));
  CHECK_THROWS_WITH(c.all_reduce_sum(Tensor<float>::zeros({3 + c.rank() % 2})),
                    Catch::Contains("rank 1 calls all_reduce_sum of 4 f32"));
  if (testing::batch % c.size() != 0) return;
  OneProcess one;
  const auto expected = testing::train<double>(one, false), trace = testing::train<double>(c, false);
  CHECK_NOTHROW(testing::require_close(trace.losses, expected.losses, 1e-12, "loss of step"));
  CHECK_NOTHROW(testing::require_close(trace.weights, expected.weights, 1e-12, "weight"));
}

TEST_CASE("dist: ranks of mpirun skip a step together", "[.][mpi]") {
  MpiCommunicator c;
  std::string why;
  try {
    if (c.rank() == c.size() - 1) c.skip_step("no plan exists");
    c.all_reduce_sum(Tensor<float>::zeros({5}));
  } catch (const SkippedStep& skipped) {
    why = skipped.what();
  }
  CHECK(why == text("rank ", c.size() - 1, ": no plan exists"));
  c.barrier();
}

TEST_CASE("dist: a rank of mpirun that throws ends all with its reason", "[.][mpi_failure]") {
  mpi_ranks([](Communicator& c) {
    c.barrier();
    if (c.rank() == 1) fail<FileError>("volume.nii: no such file");
    for (;;) c.barrier();
    return 0;
  });
}
#endif
