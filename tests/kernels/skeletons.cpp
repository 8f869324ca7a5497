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

/// c = 2 A B with operands E, the second time added to the first.
template <class E, class A>
struct Product {
  Index rows, cols, inner;
  const A *a, *b;
  A* c;
  bool turned_a, turned_b;

  struct Work {
    E *p, *q;
    A* r;
    Index bytes;
    M3I_HD Work(const Product& own, std::byte* base) {
      BlockCutter cut{base};
      p = own.turned_a ? cut.take<E>(own.inner, own.rows) : cut.take<E>(own.rows, own.inner);
      q = own.turned_b ? cut.take<E>(own.cols, own.inner) : cut.take<E>(own.inner, own.cols);
      r = cut.take<A>(own.rows, own.cols);
      bytes = cut.bytes;
    }
  };
  template <class Team>
  M3I_HD void operator()(Team team, Index, std::byte* scratch) const {
    const Work w(*this, scratch);
    const Index m = rows, n = cols, k = inner, step = block_step<A>(n);
    const Index p_step = block_step<E>(turned_a ? m : k), q_step = block_step<E>(turned_b ? k : n);
    const Index p_row = turned_a ? 1 : p_step, p_col = turned_a ? p_step : 1;
    const Index q_row = turned_b ? 1 : q_step, q_col = turned_b ? q_step : 1;
    const A *from_a = a, *from_b = b, *r = w.r;
    E *p = w.p, *q = w.q;
    A* to = c;
    each_cell(team, m, inner_extent<E>(k),
              [=](Index i, Index j) { p[i * p_row + j * p_col] = E(j < k ? from_a[i * k + j] : A(0)); });
    each_cell(team, inner_extent<E>(k), n,
              [=](Index i, Index j) { q[i * q_row + j * q_col] = E(i < k ? from_b[i * n + j] : A(0)); });
    for (const bool add : {false, true})
      multiply(team, BlockGemm<E, A>{m, n, k, p, p_row, p_col, q, q_row, q_col, w.r, step, add});
    each_cell(team, m, n, [=](Index i, Index j) { to[i * n + j] = r[i * step + j]; });
  }
};

/// The largest error of Product against sums in double of the same rounded operands.
template <class E, class A>
double product_error(Device device, Index m, Index n, Index k, bool turned_a, bool turned_b) {
  const auto a = testing::wave<A>({m, k}), b = testing::wave<A>({k, n}, 1);
  const auto there_a = a.to(device), there_b = b.to(device);
  const Tensor<A> c({m, n}, device);
  const Product<E, A> product{m, n, k, there_a.data(), there_b.data(), c.data(), turned_a, turned_b};
  const Index bytes = typename Product<E, A>::Work(product, nullptr).bytes;
  if constexpr (std::is_same_v<E, A>) for_rows_with_scratch(device, 1, bytes, product, 1);
  else device_rows_with_scratch(device, 1, bytes, product);  // the host multiplies what it computes in
  const auto found = c.to_vector();
  double worst = 0;
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j) {
      double expected = 0;
      for (Index e = 0; e < k; ++e)
        expected += 2 * double(A(E(a.data()[i * k + e]))) * double(A(E(b.data()[e * n + j])));
      worst = std::max(worst, std::abs(double(found[std::size_t(i * n + j)]) - expected));
      if (!(worst >= 0)) return worst;  // NaN
    }
  return worst;
}

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
  for (const Index rows : {2, 4100}) {  // teams of a block, and of a warp
    const Index n = rows == 2 ? 300 : 40;
    const auto start = testing::wave<double>({rows, n});
    const auto run = [&](Device device, bool right) {
      const auto x = start.to(device).clone(), copy = Tensor<double>::zeros(x.shape(), device);
      if (right) for_rows(device, rows, ShiftInPhases{x.data(), copy.data(), n}, n);
      else for_rows(device, rows, ShiftInPlace{x.data(), n}, n);
      return x.to_vector();
    };
    std::vector<double> expected = start.to_vector();
    for (Index i = 0; i + 1 < rows * n; ++i)
      if ((i + 1) % n != 0) expected[std::size_t(i)] = start.data()[i + 1];

    for (const Device device : all_devices()) CHECK(run(device, true) == expected);
    CHECK(run(Device::cpu(), false) == expected);             // one thread walks upwards: the mistake stays hidden
    CHECK_FALSE(run(Device::emulated(), false) == expected);  // a block does not, and shows it
  }
}

TEST_CASE("teams: sums and maxima agree on every device", "[kernels]") {
  for (const auto& [n, rows] : std::vector<std::pair<Index, Index>>{{1, 3},
                                                                    {31, 3},
                                                                    {32, 3},
                                                                    {33, 3},
                                                                    {255, 3},
                                                                    {256, 3},
                                                                    {257, 3},
                                                                    {1000, 3},
                                                                    {1, 4097},
                                                                    {14, 5000},
                                                                    {65, 4096}}) {
    const auto x = testing::wave<double>({rows, n});
    std::vector<std::vector<double>> found;
    for (const Device device : all_devices()) {
      const auto in = x.to(device);
      const Tensor<double> out({rows, 2}, device);
      for_rows(device, rows, RowFacts{in.data(), out.data(), n}, n);  // many short ones are for warps
      found.push_back(out.to_vector());
    }
    bool right = true;
    for (std::size_t r = 0; r < std::size_t(rows); ++r) {
      double total = 0, top = -std::numeric_limits<double>::infinity();
      for (Index i = 0; i < n; ++i) {
        const double v = x.data()[Index(r) * n + i];
        total += v, top = std::max(top, v);
      }
      for (const auto& f : found) right &= std::abs(f[2 * r] - total) < 1e-11 && f[2 * r + 1] == top;
    }
    INFO(rows << " rows of " << n);
    CHECK(right);
  }
}

TEST_CASE("for_columns: the same bits for any number of threads, and the right sums on every device", "[kernels]") {
  for (const Index rows : {1, 31, 33, 5000, 70000}) {
    const Index cols = rows == 70000 ? 3 : 37;
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

TEST_CASE("multiply: products of small blocks of any type, also of transposed ones, for any extents", "[kernels]") {
  for (const Device device : all_devices())
    for (const auto& [turned_a, turned_b] :
         std::vector<std::array<bool, 2>>{{false, false}, {true, false}, {false, true}, {true, true}})
      for (const auto& [m, n, k] : std::vector<std::array<Index, 3>>{
               {1, 1, 1}, {5, 3, 7}, {64, 32, 64}, {13, 17, 2}, {4, 40, 5}, {33, 65, 31}, {64, 64, 77}}) {
        if (device.kind == Device::Kind::cpu && turned_b) continue;
        INFO(device.text() << ": " << m << " x " << n << " x " << k << ", transposed " << turned_a << turned_b);
        CHECK(product_error<double, double>(device, m, n, k, turned_a, turned_b) < 1e-12);
        CHECK(product_error<float, float>(device, m, n, k, turned_a, turned_b) < 2e-5);
        if (device.kind == Device::Kind::cpu) continue;
        CHECK(product_error<m3i::half, float>(device, m, n, k, turned_a, turned_b) < 2e-5);
        CHECK(product_error<bf16, float>(device, m, n, k, turned_a, turned_b) < 2e-5);
      }
}

/// Its inner extent is no multiple of 16, and nobody has filled it up.
struct ForgetsZeros {
  float* c;
  template <class Team>
  M3I_HD void operator()(Team team, Index, std::byte* scratch) const {
    BlockCutter cut{scratch};
    bf16 *p = cut.take<bf16>(16, 5), *q = cut.take<bf16>(5, 16);
    float *r = cut.take<float>(16, 16), *to = c;
    each_cell(team, 16, 5, [=](Index i, Index j) { p[i * block_step<bf16>(5) + j] = bf16(1.0f); });
    each_cell(team, 5, 16, [=](Index i, Index j) { q[i * block_step<bf16>(16) + j] = bf16(1.0f); });
    multiply(team, BlockGemm<bf16, float>{16, 16, 5, p, block_step<bf16>(5), 1, q, block_step<bf16>(16), 1, r,
                                          block_step<float>(16), false});
    team.each(1, [=](Index) { to[0] = r[0]; });
  }
};
TEST_CASE("multiply: what tensor cores read beyond the inner extent is seen on the emulated device", "[kernels]") {
  const Tensor<float> c({1}, Device::emulated());
  BlockCutter cut{nullptr};
  cut.take<bf16>(16, 5), cut.take<bf16>(5, 16), cut.take<float>(16, 16);
  device_rows_with_scratch(Device::emulated(), 1, cut.bytes, ForgetsZeros{c.data()});
  CHECK(std::isnan(c.item()));
}
