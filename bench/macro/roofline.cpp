// Where the time of a training step goes, against what the machine allows: for each kind of operation and shape the
// time forward and backward, its arithmetic, the memory it must move, and the floor that these set.
//
//     roofline nnformer|unetr SIZE [embedding = 96]
//
// The floor of a row is the larger of FLOP / measured GEMM peak and bytes / measured copy bandwidth; a gradient counts
// twice the arithmetic and three times the bytes of its forward pass (read inputs and dy, write gradients).

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "networks.hpp"
#include "step.hpp"

#include "m3i/ops/loss.hpp"
#include "m3i/optim/adam.hpp"
#include "m3i/testing.hpp"

namespace {
using namespace m3i;
using Clock = std::chrono::steady_clock;
using bench::seconds_since;

/// Best of some runs.
template <class F>
double fastest(int runs, const F& work) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < runs; ++i) {
    const auto start = Clock::now();
    work();
    best = std::min(best, seconds_since(start));
  }
  return best;
}

/// FLOP/s of a square product, all threads.
double gemm_peak() {
  const Index n = 1536;
  const auto a = testing::wave<float>({n, n}), b = testing::wave<float>({n, n});
  const Tensor<float> c({n, n});
  const double s = fastest(
      5, [&] { gemm<float>(Device::cpu(), false, false, n, n, n, 1, a.data(), n, b.data(), n, 0, c.data(), n); });
  return 2 * double(n * n * n) / s;
}

struct Copy {
  const float* from;
  float* to;
  M3I_HD void operator()(Index i) const { to[i] = from[i]; }
};
/// Bytes/s read and written by a copy far larger than the caches.
double copy_bandwidth() {
  const Tensor<float> a = Tensor<float>::zeros({64 << 20}), b = Tensor<float>::zeros({64 << 20});
  const double s = fastest(3, [&] { for_each(Device::cpu(), a.size(), Copy{a.data(), b.data()}); });
  return 2 * double(a.bytes()) / s;
}

struct Row {
  Index calls = 0;
  double forward = 0, backward = 0, flop = 0, bytes = 0;
};

/// Adds up times by operation and shapes.
struct Profile : TapeObserver {
  std::map<std::string, Row> rows;
  std::map<const void*, std::string> of_node;
  Clock::time_point last = Clock::now();

  void forward(const char* name, const std::vector<Shape>& in, const Shape& out, const void* node) override {
    std::string key = name;
    for (std::size_t i = 0; i < std::min<std::size_t>(in.size(), 2); ++i) key += text(" ", in[i]);
    Row& row = rows[key];
    ++row.calls;
    row.forward += seconds_since(last);
    row.flop += bench::flop_of(name, in, out);
    row.bytes += double(out.size()) * 4;
    for (const Shape& s : in) row.bytes += double(s.size()) * 4;
    of_node[node] = key;
    last = Clock::now();
  }
  void before_backward(const void*) override { last = Clock::now(); }
  void after_backward(const void* node) override {
    rows[of_node[node]].backward += seconds_since(last);
    last = Clock::now();
  }
};

void print(const Profile& profile, double adam, Index parameter_count, double peak, double bandwidth) {
  std::vector<std::pair<std::string, Row>> rows(profile.rows.begin(), profile.rows.end());
  rows.emplace_back("adam", Row{1, adam, 0, 0, double(parameter_count) * 28});  // reads w, g, m, v; writes w, m, v
  const auto floor_of = [&](const std::string& name, const Row& r) {
    const double forward = std::max(r.flop / peak, r.bytes / bandwidth);
    const double back = std::max(2 * r.flop / peak, 3 * r.bytes / bandwidth);
    return name == "adam" ? forward : forward + (r.backward > 0 ? back : 0);
  };
  const auto gap = [&](const auto& row) {
    return row.second.forward + row.second.backward - floor_of(row.first, row.second);
  };
  std::sort(rows.begin(), rows.end(), [&](const auto& a, const auto& b) { return gap(a) > gap(b); });
  std::printf("GEMM %.0f GFLOP/s, copy %.1f GB/s; rows by the time above the floor\n", peak * 1e-9, bandwidth * 1e-9);
  std::printf("%5s %10s %10s %10s %9s %9s %6s  %s\n", "calls", "forward ms", "back ms", "floor ms", "GFLOP", "MB",
              "floor%", "operation");
  Row total;
  double floors = 0;
  for (const auto& [name, r] : rows) {
    const double floor = floor_of(name, r), time = r.forward + r.backward;
    std::printf("%5ld %10.2f %10.2f %10.2f %9.2f %9.1f %6.0f  %s\n", long(r.calls), 1e3 * r.forward, 1e3 * r.backward,
                1e3 * floor, r.flop * 1e-9, r.bytes * 1e-6, 100 * floor / time, name.c_str());
    total.forward += r.forward, total.backward += r.backward, total.flop += r.flop, total.bytes += r.bytes;
    floors += floor;
  }
  std::printf("      %10.2f %10.2f %10.2f %9.2f %9.1f %6.0f  all\n", 1e3 * total.forward, 1e3 * total.backward,
              1e3 * floors, total.flop * 1e-9, total.bytes * 1e-6, 100 * floors / (total.forward + total.backward));
}
}  // namespace

int main(int argc, char** argv) {
  const std::string name = argc > 1 ? argv[1] : "";
  const Index size = argc > 2 ? std::atol(argv[2]) : 0, embedding = argc > 3 ? std::atol(argv[3]) : 96;
  if ((name != "nnformer" && name != "unetr") || size < 16) {
    std::fputs("roofline nnformer|unetr SIZE [embedding = 96]\n", stderr);
    return 2;
  }
  const double peak = gemm_peak(), bandwidth = copy_bandwidth();
  bench::with_network(name, size, embedding, false, [&](const auto& net) {
    const auto learned = parameters<float>(net);
    Adam<float> adam(learned, {.lr = 1e-4});
    const Var<float> x(testing::wave<float>({1, size, size, size, 1}));
    for (int step = 0;; ++step) {  // the first steps fill the memory pool
      Profile profile;
      clear_gradients(learned);
      {
        const WatchTape watch(profile);
        profile.last = Clock::now();
        backward(mse_loss(net(x), x));
      }
      const double update = fastest(1, [&] { adam.step(); });
      if (step == 2) return print(profile, update, count_parameters(net), peak, bandwidth);
    }
  });
}
