#include <cmath>
#include <limits>
#include <vector>

#include "catch.hpp"
#include "devices.hpp"
#include "m3i/kernels/block.hpp"
#include "m3i/kernels/for_columns.hpp"
#include "m3i/kernels/reduce.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {

std::vector<Device> all_devices() {
  auto devices = other_devices();
  devices.insert(devices.begin(), Device::cpu());
  return devices;
}

struct Twice {
  double* x;
  M3I_HD void operator()(Index i) const { x[i] *= 2; }
};

/// Wrong on purpose: element i reads element i + 1 in the phase that writes it.
struct ShiftInPlace {
  double* x;
  Index n;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    double* own = x + row * n;
    const Index last = n - 1;
    team.each(last, [=](Index i) { own[i] = own[i + 1]; });
  }
};
/// The same with what is read in a phase before what is written.
struct ShiftInPhases {
  double *x, *copy;
  Index n;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    double *own = x + row * n, *kept = copy + row * n;
    const Index last = n - 1;
    team.each(last, [=](Index i) { kept[i] = own[i + 1]; });
    team.each(last, [=](Index i) { own[i] = kept[i]; });
  }
};

struct RowFacts {
  const double* x;
  double* out;
  Index n;
  template <class Team>
  M3I_HD void operator()(Team team, Index row) const {
    const double* in = x + row * n;
    const double total = team.sum(n, [=](Index i) { return in[i]; }), top = team.max(n, [=](Index i) { return in[i]; });
    double* to = out + 2 * row;
    team.each(1, [=](Index) { to[0] = total, to[1] = top; });
  }
};

template <class T>
struct Cell {
  const T* x;
  Index cols;
  M3I_HD T operator()(Index r, Index c) const { return x[r * cols + c]; }
};
struct At {
  const float* x;
  M3I_HD double operator()(Index i) const { return double(x[i]); }
};

struct Product {
  Index rows, cols, inner;
  const double *a, *b;
  double* c;
  bool transposed;
  template <class Team>
  M3I_HD void operator()(Team team, Index, double* scratch) const {
    double *p = scratch, *q = p + block_extent<double>(rows) * block_extent<double>(inner),
           *r = q + inner * block_extent<double>(cols);
    const Index p_step = block_extent<double>(transposed ? rows : inner), step = block_extent<double>(cols), m = rows,
                n = cols, k = inner;
    const double *from_a = a, *from_b = b;
    double* to = c;
    const bool turned = transposed;
    each_cell(team, m, k, [=](Index i, Index j) { p[turned ? j * p_step + i : i * p_step + j] = from_a[i * k + j]; });
    each_cell(team, k, n, [=](Index i, Index j) { q[i * step + j] = from_b[i * n + j]; });
    multiply(team, m, n, k, p, turned ? 1 : p_step, turned ? p_step : 1, q, step, r, step, false);
    multiply(team, m, n, k, p, turned ? 1 : p_step, turned ? p_step : 1, q, step, r, step, true);
    each_cell(team, m, n, [=](Index i, Index j) { to[i * n + j] = r[i * step + j]; });
  }
};

template <class F>
void for_thread_counts(const F& f) {
  const int before = thread_count();
  for (const int threads : {1, 2, 3}) {
    set_thread_count(threads);
    f();
  }
  set_thread_count(before);
}

}  // namespace

TEST_CASE("for_each: every index once, on every device, for sizes around a block and a chunk", "[kernels]") {
  for (const Device device : all_devices())
    for (const Index n : {0, 1, 255, 256, 257, 16384, 16385, 40000}) {
      const auto x = Tensor<double>::full({n}, 1.5, device);
      for_each(device, n, Twice{x.data()});
      CHECK(x.to_vector() == std::vector<double>(std::size_t(n), 3.0));
    }
}

TEST_CASE("for_rows: a missing barrier gives another result on the emulated device", "[kernels]") {
  const Index n = 300;
  const auto start = testing::wave<double>({2, n});
  const auto run = [&](Device device, bool right) {
    const auto x = start.to(device).clone(), copy = Tensor<double>::zeros(x.shape(), device);
    if (right) for_rows(device, 2, ShiftInPhases{x.data(), copy.data(), n});
    else for_rows(device, 2, ShiftInPlace{x.data(), n});
    return x.to_vector();
  };
  std::vector<double> expected = start.to_vector();
  for (std::size_t r = 0; r < 2; ++r)
    for (std::size_t i = 0; i + 1 < std::size_t(n); ++i)
      expected[r * std::size_t(n) + i] = start.data()[r * std::size_t(n) + i + 1];

  for (const Device device : all_devices()) CHECK(run(device, true) == expected);
  CHECK(run(Device::cpu(), false) == expected);             // one thread walks upwards: the mistake stays hidden
  CHECK_FALSE(run(Device::emulated(), false) == expected);  // a block does not, and shows it
}

TEST_CASE("teams: sums and maxima agree on every device", "[kernels]") {
  for (const Index n : {1, 31, 32, 33, 255, 256, 257, 1000}) {
    const auto x = testing::wave<double>({3, n});
    std::vector<std::vector<double>> found;
    for (const Device device : all_devices()) {
      const auto in = x.to(device);
      const Tensor<double> out({3, 2}, device);
      for_rows(device, 3, RowFacts{in.data(), out.data(), n});
      found.push_back(out.to_vector());
    }
    for (std::size_t r = 0; r < 3; ++r) {
      double total = 0, top = -std::numeric_limits<double>::infinity();
      for (Index i = 0; i < n; ++i) {
        const double v = x.data()[Index(r) * n + i];
        total += v, top = std::max(top, v);
      }
      for (const auto& f : found) {
        CHECK(f[2 * r] == Approx(total).margin(1e-12));
        CHECK(f[2 * r + 1] == top);
      }
    }
  }
}

TEST_CASE("for_columns: the same bits for any number of threads, and the right sums on every device", "[kernels]") {
  for (const Index rows : {1, 31, 33, 5000}) {
    const Index cols = 37;
    const auto x = testing::wave<float>({rows, cols});
    std::vector<float> first;
    for_thread_counts([&] {
      const auto out = Tensor<float>::full({cols}, 2.0f);
      for_columns(Device::cpu(), rows, cols, Cell<float>{x.data(), cols}, out.data());
      if (first.empty()) first = out.to_vector();
      CHECK(out.to_vector() == first);
    });
    std::vector<std::vector<float>> found{first};
    for (const Device device : other_devices()) {
      const auto moved = x.to(device), out = Tensor<float>::full({cols}, 2.0f, device);
      for_columns(device, rows, cols, Cell<float>{moved.data(), cols}, out.data());
      found.push_back(out.to_vector());
    }
    for (Index c = 0; c < cols; ++c) {
      double expected = 2;  // for_columns adds to what is there
      for (Index r = 0; r < rows; ++r) expected += double(x.data()[r * cols + c]);
      for (const auto& f : found) CHECK(f[std::size_t(c)] == Approx(expected).margin(1e-3));
    }
  }
}

TEST_CASE("reduce_sum: the same bits for any number of threads, and the right sum on every device", "[kernels]") {
  for (const Index n : {1, 4096, 4097, 100001}) {
    const auto x = testing::wave<float>({n});
    double expected = 0;
    for (const float v : x.to_vector()) expected += double(v);
    double first = std::numeric_limits<double>::quiet_NaN();
    for_thread_counts([&] {
      const double found = reduce_sum(Device::cpu(), n, At{x.data()});
      if (std::isnan(first)) first = found;
      CHECK(found == first);
      CHECK(found == Approx(expected).margin(1e-9));
    });
    for (const Device device : other_devices()) {
      const auto moved = x.to(device);
      CHECK(reduce_sum(device, n, At{moved.data()}) == Approx(expected).margin(1e-9));
    }
  }
  CHECK(reduce_sum(Device::cpu(), 0, At{nullptr}) == 0);
}

TEST_CASE("multiply: products of small blocks, also of transposed ones, for any extents", "[kernels]") {
  for (const Device device : all_devices())
    for (const bool transposed : {false, true})
      for (const auto& [m, n, k] :
           std::vector<std::array<Index, 3>>{{1, 1, 1}, {5, 3, 7}, {64, 32, 64}, {13, 17, 2}, {4, 40, 5}}) {
        const auto a = testing::wave<double>({m, k}), b = testing::wave<double>({k, n}, 1);
        const auto there_a = a.to(device), there_b = b.to(device);
        const Tensor<double> c({m, n}, device);
        const Index size = block_extent<double>(m) * (block_extent<double>(k) + block_extent<double>(n)) +
                           block_extent<double>(k) * block_extent<double>(n);
        for_rows_with_scratch<double>(device, 1, size,
                                      Product{m, n, k, there_a.data(), there_b.data(), c.data(), transposed}, 1);
        const auto found = c.to_vector();
        double worst = 0;
        for (Index i = 0; i < m; ++i)
          for (Index j = 0; j < n; ++j) {
            double expected = 0;
            for (Index e = 0; e < k; ++e) expected += 2 * a.data()[i * k + e] * b.data()[e * n + j];
            worst = std::max(worst, std::abs(found[std::size_t(i * n + j)] - expected));
          }
        CHECK(worst < 1e-12);
      }
}
