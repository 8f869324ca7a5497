#include <csignal>
#include <numeric>

#include "catch.hpp"
#include "m3i/dist/ranks.hpp"

using namespace m3i;

namespace {

/// Runs in a rank: a failed check becomes the rank's error, which fork_ranks throws in the test.
template <class... Parts>
void expect(bool ok, const Parts&... parts) {
  require<Error>(ok, parts...);
}

}  // namespace

TEST_CASE("dist: sums, gathered rows and broadcasts are right for 1 to 4 ranks", "[dist]") {
  const int ranks = GENERATE(1, 2, 3, 4);
  CHECK(fork_ranks(ranks, [ranks](Communicator& c) {
          expect(c.size() == ranks, "size");
          for (const Index n : {Index(0), Index(1), Index(5), Index(1000003)}) {
            const Tensor<float> x(Shape{n});
            for (Index i = 0; i < n; ++i) x.data()[i] = float(i % 97) + float(c.rank());
            c.all_reduce_sum(x);
            for (Index i = 0; i < n; ++i)
              expect(x.data()[i] == float(ranks) * float(i % 97) + float(ranks * (ranks - 1) / 2), "sum at ", i);
          }
          const auto rows = Tensor<double>::full({2, 3}, double(c.rank()));
          const auto all = c.all_gather(rows);
          expect(all.shape() == Shape{2 * ranks, 3}, "gathered ", all.shape());
          for (Index i = 0; i < all.size(); ++i) expect(all.data()[i] == double(i / 6), "row of element ", i);
          const auto value = Tensor<bf16>::full({3000000}, bf16(float(c.rank())));
          c.broadcast(value, ranks - 1);
          expect(float(value.data()[2999999]) == float(ranks - 1), "broadcast");
          c.barrier();
          expect(c.any(c.rank() == ranks - 1) && !c.any(false), "any");
          return 7;
        }) == 7);
}

TEST_CASE("dist: sums are taken in the order of the ranks, the same bits on each", "[dist]") {
  CHECK(fork_ranks(3, [](Communicator& c) {
          const float parts[] = {1e8f, -1e8f, 1.25f};
          const auto x = Tensor<float>::scalar(parts[c.rank()]);
          c.all_reduce_sum(x);
          expect(x.item() == 1.25f, "got ", x.item());
          return 0;
        }) == 0);
}

TEST_CASE("dist: threads of the caller do not survive into ranks, and come back after them", "[dist]") {
  set_thread_count(2);
  std::vector<int> seen(100);
  parallel_for(100, [&](Index i) { seen[std::size_t(i)] = 1; });
  CHECK(fork_ranks(2, [](Communicator&) {
          std::vector<int> own(100);
          parallel_for(100, [&](Index i) { own[std::size_t(i)] = 1; });
          return std::accumulate(own.begin(), own.end(), 0);
        }) == 100);
  CHECK(thread_count() == 2);
}

TEST_CASE("dist: a rank that throws ends the others, and its reason is thrown", "[dist][errors]") {
  CHECK_THROWS_WITH(fork_ranks(3,
                               [](Communicator& c) {
                                 if (c.rank() == 1) fail<FileError>("volume.nii: no such file");
                                 for (;;) c.barrier();
                                 return 0;
                               }),
                    "rank 1: volume.nii: no such file");
}

TEST_CASE("dist: the other ranks get an error that names the rank and the reason", "[dist][errors]") {
  CHECK(fork_ranks(2, [](Communicator& c) {
          if (c.rank() == 1) {
            c.barrier();
            return 3;  // ends while rank 0 still waits for it
          }
          c.barrier();
          try {
            c.barrier();
          } catch (const RankError& error) {
            return std::string(error.what()).find("rank 1 has ended") != std::string::npos ? 0 : 1;
          }
          return 2;
        }) == 0);
}

TEST_CASE("dist: a killed rank is named, and nobody hangs", "[dist][errors]") {
  const auto begin = std::chrono::steady_clock::now();
  CHECK_THROWS_WITH(fork_ranks(4,
                               [](Communicator& c) {
                                 c.barrier();
                                 if (c.rank() == 2) raise(SIGKILL);
                                 c.barrier();
                                 return 0;
                               }),
                    Catch::Contains("rank 2: ended by signal 9"));
  CHECK_THROWS_WITH(fork_ranks(
                        2,
                        [](Communicator& c) {
                          if (c.rank() == 0) raise(SIGKILL);
                          for (;;) pause();  // does not notice anything
                          return 0;
                        },
                        0.1),
                    Catch::Contains("rank 0: ended by signal 9"));
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(4));
}

TEST_CASE("dist: sizes, types and calls that differ are named", "[dist][errors]") {
  CHECK_THROWS_WITH(fork_ranks(2,
                               [](Communicator& c) {
                                 c.all_reduce_sum(Tensor<float>::zeros({3 + c.rank()}));
                                 return 0;
                               }),
                    Catch::Contains("ranks differ") && Catch::Contains("all_reduce_sum of 3 f32") &&
                        Catch::Contains("rank 1 calls all_reduce_sum of 4 f32"));
  CHECK_THROWS_WITH(fork_ranks(2,
                               [](Communicator& c) {
                                 if (c.rank() == 0) c.barrier();
                                 else c.broadcast(Tensor<double>::zeros({2}));
                                 return 0;
                               }),
                    Catch::Contains("barrier") && Catch::Contains("broadcast of 2 f64"));
  CHECK_THROWS_AS(fork_ranks(0, [](Communicator&) { return 0; }), ConfigError);
  CHECK_THROWS_WITH(run_ranks(0, [](Communicator&) { return 0; }), "--ranks 0: expected 1 or more");
}

TEST_CASE("dist: a rank takes the GPU of its number on its machine", "[dist]") {
  const auto of_second_rank = [](const char* variable, Device first) {
    return [=](Communicator& c) {
      if (variable) setenv("PMI_SIZE", "2", 1), setenv(variable, "70", 1);
      if (c.rank() == 1) device_of_rank(c, first);
      c.barrier();
      return 0;
    };
  };
  CHECK(fork_ranks(2, of_second_rank("SLURM_LOCALID", Device::cpu())) == 0);
  CHECK_THROWS_WITH(fork_ranks(2, of_second_rank(nullptr, Device::cuda(70))), Catch::Contains("would take cuda:71"));
  for (const char* const variable : {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"})
    CHECK_THROWS_WITH(fork_ranks(2, of_second_rank(variable, Device::cuda(2))), Catch::Contains("would take cuda:72"));
}

TEST_CASE("dist: a rank that skips a step takes the others along, and all go on", "[dist][errors]") {
  CHECK(fork_ranks(3, [](Communicator& c) {
          int skipped = 0;
          for (int step = 0; step < 3; ++step) {
            try {
              if (c.rank() == 1 && step == 1) c.skip_step("no plan exists");
              c.all_reduce_sum(Tensor<float>::zeros({5}));
              expect(step != 1, "rank ", c.rank(), " has not noticed");
            } catch (const SkippedStep& why) {
              expect(std::string(why.what()) == "rank 1: no plan exists", why.what());
              ++skipped;
            }
          }
          c.barrier();
          return skipped;
        }) == 1);
  OneProcess alone;
  CHECK_THROWS_WITH(alone.skip_step("no plan exists"), "no plan exists");
}
