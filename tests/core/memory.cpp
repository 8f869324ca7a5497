#include "m3i/core/memory.hpp"

#include <cstdint>
#include <set>
#include <thread>
#include <vector>

#include "../devices.hpp"
#include "catch.hpp"
#include "m3i/core/cuda_graph.hpp"
#include "m3i/core/operation.hpp"
#include "m3i/core/tensor.hpp"
#include "m3i/core/upload.hpp"
#include "m3i/kernels/for_each.hpp"

using namespace m3i;

namespace {
struct TwiceOf {
  const float* x;
  float* y;
  M3I_HD void operator()(Index i) const { y[i] = 2 * x[i]; }
};
}  // namespace

TEST_CASE("memory: live and peak bytes follow the tensors", "[core]") {
  memory_release_cached();
  const MemoryStats before = memory_stats();
  memory_reset_peak();
  {
    const Tensor<float> a({1 << 18}), b({1 << 18});
    const Tensor<float> view = a.reshape({1 << 9, 1 << 9});  // views cost nothing
    CHECK(memory_stats().live == before.live + (2 << 20));
    CHECK(memory_stats().reserved >= before.reserved + (2 << 20));
  }
  CHECK(memory_stats().live == before.live);
  CHECK(memory_stats().peak == before.live + (2 << 20));
  CHECK(memory_stats().reserved >= before.reserved + (2 << 20));  // kept for the next tensors
  memory_release_cached();
  CHECK(memory_stats().reserved <= before.live + Index(detail::Arena::page));
  memory_reset_peak();
  CHECK(memory_stats().peak == before.live);
}

TEST_CASE("memory: a warm loop asks the system for nothing", "[core]") {
  const auto step = [] {
    for (Index n = 1000; n < 200000; n += 7777) {
      const Tensor<float> a({n}), b({n, 2});
    }
  };
  step();
  const Index asked = memory_stats().system_allocations;
  for (int i = 0; i < 10; ++i) step();
  CHECK(memory_stats().system_allocations == asked);
}

TEST_CASE("memory: blocks are aligned and size classes waste at most an eighth", "[core]") {
  for (const Index n : {1, 3, 17, 1000, 100003}) CHECK(std::uintptr_t(Tensor<std::uint8_t>({n}).data()) % 64 == 0);
  for (std::size_t bytes = 1; bytes < (1u << 20); bytes += bytes / 7 + 1) {
    const std::size_t rounded = detail::size_class(bytes);
    CHECK((rounded >= bytes && rounded % 64 == 0 && rounded <= bytes + std::max<std::size_t>(bytes / 8, 64)));
  }
}

TEST_CASE("memory: over the limit an allocation fails with the figures, and leaves everything as it was",
          "[core][errors]") {
  const Index before = memory_stats().live;
  memory_set_limit(before + (8 << 20));
  CHECK_NOTHROW(Tensor<float>({1 << 20}));
  CHECK_THROWS_WITH(Tensor<float>({4 << 20}), Catch::Contains("memory: 16 MiB more on cpu") &&
                                                  Catch::Contains("limit") && Catch::Contains("smaller batch"));
  CHECK_THROWS_AS(Tensor<float>({4 << 20}), DeviceError);
  CHECK(memory_stats().live == before);
  memory_set_limit(0);
  CHECK_NOTHROW(Tensor<float>({4 << 20}));
  CHECK(memory_stats().limit == 0);
}

TEST_CASE("memory: cached blocks make room before a limit is called reached", "[core]") {
  { const Tensor<float> cached({4 << 20}); }
  const Index before = memory_stats().live;
  memory_set_limit(before + (12 << 20));
  CHECK_NOTHROW(Tensor<float>({2 << 20}));
  CHECK(memory_stats().reserved <= before + (12 << 20));
  memory_set_limit(0);
}

TEST_CASE("memory: many threads take and give back at once", "[core]") {
  const Index before = memory_stats().live;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([t] {
      for (Index i = 1; i < 300; ++i) {
        const Tensor<Index> x = Tensor<Index>::full({i * (t + 1)}, i);
        if (x.data()[x.size() - 1] != i) std::abort();
      }
    });
  for (auto& thread : threads) thread.join();
  CHECK(memory_stats().live == before);
}

#if M3I_CUDA
TEST_CASE("an error of CUDA says the operation, its shapes, the call and CUDA's words", "[core][errors]") {
  const Tensor<float> x({2, 3});
  const Operation operation("scale", x);
  CHECK_THROWS_WITH(
      check_cuda(cudaErrorInvalidValue, "for_each"),
      Catch::StartsWith("scale of [2, 3]: for_each") && Catch::EndsWith(": CUDA says \"invalid argument\""));
}
#else
TEST_CASE("memory: a GPU tensor in a build without CUDA is refused", "[core][errors]") {
  CHECK_THROWS_WITH(Tensor<float>({2}, Device::cuda()), Catch::Contains("cuda:0") && Catch::Contains("M3I_CUDA=ON"));
  CHECK_THROWS_AS(Tensor<float>({0}, Device::cuda()), DeviceError);
  CHECK_THROWS_AS(Tensor<float>({2}).to(Device::cuda()), DeviceError);
}
#endif

TEST_CASE("memory: blocks of a set are given to nobody else while the set lives", "[core]") {
  const Shape shape{1000};
  float* own = nullptr;
  Tensor<float> kept;
  {
    const MemorySet set(Device::cpu());
    {
      const MemorySet::Use use(set);
      kept = Tensor<float>(shape);
      own = Tensor<float>(shape).data();          // given back at once
      CHECK(Tensor<float>(shape).data() == own);  // to the set
    }
    std::vector<Tensor<float>> others;
    for (int i = 0; i < 20; ++i) others.emplace_back(shape);
    for (const auto& other : others) CHECK(other.data() != own);
    float* const outlived = kept.data();
    kept = Tensor<float>();  // given back outside of a Use, and still the set's
    CHECK(Tensor<float>(shape).data() != outlived);
    const MemorySet::Use use(set);
    const Tensor<float> again(shape), both(shape);
    CHECK(std::set<float*>{again.data(), both.data()} == std::set<float*>{own, outlived});
  }
  memory_release_cached();  // the set has ended: its blocks are free like others
}

TEST_CASE("memory: an error of the limit names who holds most", "[core][errors]") {
  detail::Pool pool(Device::cpu());
  std::vector<void*> blocks{pool.take(240 << 10)};
  {
    const Operation operation("widen");
    blocks.push_back(pool.take(200 << 10));
    blocks.push_back(pool.take(16 << 20));  // from the arena, where there is one
    const Operation inner = Operation::gradient("narrow", Shape{3});
    blocks.push_back(pool.take(100 << 10));
  }
  pool.set_limit(17 << 20);
  const Tensor<float> x({2, 3}), none;
  const Operation operation("double", x, none);
  CHECK_THROWS_WITH(pool.take(2 << 20),
                    Catch::StartsWith("double of [2, 3]: memory: 2 MiB more on cpu exceed the limit") &&
                        Catch::Contains("peak 16 MiB") &&
                        Catch::Contains("; most is held by widen (2 blocks, 16 MiB), values outside of operations "
                                        "(1 block, 240 KiB), gradient of narrow (1 block, 100 KiB);"));
  for (void* const block : blocks) pool.give_back(block);
}

TEST_CASE("a recorded step on the host is the step", "[core]") {
  int runs = 0;
  CudaGraph graph(
      Device::emulated(), [&] { ++runs; }, 2);
  CHECK(runs == 0);
  graph.replay();
  CHECK(runs == 1);
  CHECK_THROWS_WITH(CudaGraph(
                        Device::cpu(), [] {}, 0),
                    Catch::Contains("warm up"));
}

TEST_CASE("a step recorded on a GPU does again what it did, on new input", "[core]") {
  if (!has_gpu()) return;
  const Device gpu = Device::cuda();
  const Tensor<float> x = Tensor<float>::full({1000}, 1, gpu), y = Tensor<float>::zeros({1000}, gpu);
  const Tensor<float> five({3}, gpu);
  Index runs = 0;
  CudaGraph graph(gpu, [&] {
    const Tensor<float> twice({1000 * ++runs}, gpu);  // more than before, also while it is recorded
    for_each(gpu, x.size(), TwiceOf{x.data(), twice.data()});
    for_each(gpu, x.size(), TwiceOf{twice.data(), y.data()});
    five.copy_from(Tensor<float>::full({3}, 5));  // from the host, again at every replay
  });
  five.zero();
  x.copy_from(Tensor<float>::full({1000}, 3));
  const Tensor<float> other = Tensor<float>::full({1000}, 7, gpu);  // not in the graph's memory
  graph.replay();
  CHECK(y.to_vector() == std::vector<float>(1000, 12));
  CHECK(five.to_vector() == std::vector<float>(3, 5));
  CHECK(other.to_vector() == std::vector<float>(1000, 7));
  CHECK_THROWS_AS(CudaGraph(gpu, [&] { y.to_vector(); }), DeviceError);
}

TEST_CASE("uploads come one after the other, on every device", "[core]") {
  std::vector<Device> devices{Device::cpu(), Device::emulated()};
  if (has_gpu()) devices.push_back(Device::cuda());
  for (const Device device : devices) {
    Uploader<float> upload;
    for (const Index n : {5, 5, 5, 9, 9, 0, 5}) {
      const Tensor<float> x = Tensor<float>::full({n}, float(n));
      const Tensor<float> there = upload(x, device);
      CHECK(there.device() == device);
      CHECK(there.to_vector() == x.to_vector());
    }
  }
}
