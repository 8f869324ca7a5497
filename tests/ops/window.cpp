#include "m3i/ops/window.hpp"

#include <atomic>
#include <thread>

#include "catch.hpp"
#include "devices.hpp"
#include "m3i/kernels/reduce.hpp"
#include "m3i/ops/cast.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {

struct Case {
  std::array<Index, 3> size, window, shift;
  Index n, channels, heads;
  RelativeIndex index = RelativeIndex::swin;
  std::array<Index, 3> table_window{0, 0, 0};
  WindowSpec spec() const { return {heads, window, shift, 0, index, table_window}; }
};
const std::vector<Case> cases = {
    {{2, 2, 2}, {2, 2, 2}, {0, 0, 0}, 1, 2, 1},
    {{4, 4, 6}, {2, 2, 2}, {1, 1, 1}, 2, 4, 2, RelativeIndex::nnformer},
    {{3, 5, 4}, {2, 2, 2}, {1, 1, 1}, 1, 4, 2, RelativeIndex::nnformer},  // filled up on two axes, shifted
    {{5, 3, 4}, {3, 2, 4}, {1, 0, 0}, 2, 3, 3},                           // windows of any form, shifted on one axis
    {{5, 4, 4}, {5, 4, 4}, {2, 2, 2}, 1, 2, 1},                           // 80 tokens: more than a block
    {{2, 2, 3}, {2, 2, 3}, {0, 0, 0}, 1, 2, 2, RelativeIndex::swin, {3, 3, 3}},
    {{2, 3, 2}, {2, 2, 2}, {0, 1, 0}, 1, 16, 2},  // heads as wide as what a GPU's thread reads at once
};

using Grid = std::vector<double>;  // [Dp, Hp, Wp, channels]

/// The steps as written in the reference networks: pad, roll, cut, attend, put together, roll back, crop.
struct Plain {
  const Case& s;
  std::array<Index, 3> padded{};
  explicit Plain(const Case& c) : s(c) {
    for (std::size_t a = 0; a < 3; ++a) padded[a] = (s.size[a] + s.window[a] - 1) / s.window[a] * s.window[a];
  }
  Index at(Index x, Index y, Index z) const { return (x * padded[1] + y) * padded[2] + z; }

  Grid pad_and_roll(const double* volume, const double* fill, Index channels) const {
    Grid out(std::size_t(padded[0] * padded[1] * padded[2] * channels));
    for (Index x = 0; x < padded[0]; ++x)
      for (Index y = 0; y < padded[1]; ++y)
        for (Index z = 0; z < padded[2]; ++z) {
          const Index to = at((x + padded[0] - s.shift[0]) % padded[0], (y + padded[1] - s.shift[1]) % padded[1],
                              (z + padded[2] - s.shift[2]) % padded[2]);
          const bool inside = x < s.size[0] && y < s.size[1] && z < s.size[2];
          for (Index c = 0; c < channels; ++c)
            out[std::size_t(to * channels + c)] = inside ? volume[((x * s.size[1] + y) * s.size[2] + z) * channels + c]
                                                  : fill ? fill[c]
                                                         : 0;
        }
    return out;
  }

  /// Labels of the rolled volume, painted slice by slice; later slices win.
  std::vector<int> labels() const {
    std::vector<int> out(std::size_t(padded[0] * padded[1] * padded[2]), 0);
    int label = 0;
    const auto slices = [&](std::size_t a) {
      const Index e = padded[a], w = s.window[a], k = s.shift[a];
      return std::vector<std::array<Index, 2>>{{0, e - w}, {e - w, k ? e - k : 0}, {k ? e - k : 0, e}};
    };
    for (const auto& i : slices(0))
      for (const auto& j : slices(1))
        for (const auto& k : slices(2)) {
          for (Index x = i[0]; x < i[1]; ++x)
            for (Index y = j[0]; y < j[1]; ++y)
              for (Index z = k[0]; z < k[1]; ++z) out[std::size_t(at(x, y, z))] = label;
          ++label;
        }
    return out;
  }

  Index table_row(Index query, Index key) const {
    const auto w = s.spec().tabled();
    const auto place = [&](Index t) { return std::array<Index, 3>{t / (w[1] * w[2]), t / w[2] % w[1], t % w[2]}; };
    std::array<Index, 3> r{};
    for (std::size_t a = 0; a < 3; ++a) r[a] = place(query)[a] - place(key)[a] + w[a] - 1;
    if (s.index == RelativeIndex::nnformer) return r[0] * (3 * w[1] - 1) + r[1] * (2 * w[1] - 1) + r[2];
    return (r[0] * (2 * w[1] - 1) + r[1]) * (2 * w[2] - 1) + r[2];
  }

  /// One sample: q [D, H, W, C], kv [D, H, W, 2 C] with fills -> [D, H, W, C]
  std::vector<double> run(const Grid& q, const Grid& kv, const double* table) const {
    const Index c = s.channels, d = c / s.heads;
    const auto label = labels();
    const bool shifted = s.shift[0] || s.shift[1] || s.shift[2];
    std::vector<double> out(std::size_t(s.size[0] * s.size[1] * s.size[2] * c));
    for (Index x = 0; x < padded[0]; x += s.window[0])
      for (Index y = 0; y < padded[1]; y += s.window[1])
        for (Index z = 0; z < padded[2]; z += s.window[2]) {
          std::vector<std::array<Index, 3>> cell;
          for (Index a = 0; a < s.window[0]; ++a)
            for (Index b = 0; b < s.window[1]; ++b)
              for (Index e = 0; e < s.window[2]; ++e) cell.push_back({x + a, y + b, z + e});
          for (Index h = 0; h < s.heads; ++h)
            for (std::size_t i = 0; i < cell.size(); ++i) {
              const Index qi = at(cell[i][0], cell[i][1], cell[i][2]);
              std::vector<double> p(cell.size());
              double mass = 0;
              for (std::size_t j = 0; j < cell.size(); ++j) {
                const Index kj = at(cell[j][0], cell[j][1], cell[j][2]);
                double score = 0;
                for (Index e = 0; e < d; ++e)
                  score += q[std::size_t(qi * c + h * d + e)] * kv[std::size_t(kj * 2 * c + h * d + e)];
                score /= std::sqrt(double(d));
                score += table[table_row(Index(i), Index(j)) * s.heads + h];
                if (shifted && label[std::size_t(qi)] != label[std::size_t(kj)]) score -= 100;
                mass += p[j] = std::exp(score);
              }
              const Index px = (cell[i][0] + s.shift[0]) % padded[0], py = (cell[i][1] + s.shift[1]) % padded[1],
                          pz = (cell[i][2] + s.shift[2]) % padded[2];
              if (px >= s.size[0] || py >= s.size[1] || pz >= s.size[2]) continue;
              for (Index e = 0; e < d; ++e) {
                double total = 0;
                for (std::size_t j = 0; j < cell.size(); ++j) {
                  const Index kj = at(cell[j][0], cell[j][1], cell[j][2]);
                  total += p[j] * kv[std::size_t(kj * 2 * c + c + h * d + e)];
                }
                out[std::size_t(((px * s.size[1] + py) * s.size[2] + pz) * c + h * d + e)] = total / mass;
              }
            }
        }
    return out;
  }
};

Shape volume(const Case& s, Index channels) { return {s.n, s.size[0], s.size[1], s.size[2], channels}; }
Shape table_shape(const Case& s) { return {s.spec().table_rows(), s.heads}; }

/// A table that says to be large.
struct Counted {
  static inline std::atomic<int> made{0};
  std::size_t size;
  Counted(Index mebibytes, Device) : size(std::size_t(mebibytes) << 20) { ++made; }
  std::size_t bytes() const { return size; }
};

}  // namespace

TEST_CASE("window_attention: gradient, precisions and devices agree", "[ops]") {
  for (const Case& s : cases) {
    const auto report =
        testing::check_shapes([&](const auto& v) { return window_attention(v[0], v[1], s.spec(), v[2]); },
                              {{volume(s, 3 * s.channels), table_shape(s), {3 * s.channels}}});
    INFO(text("size ", s.size[0], " ", s.size[1], " ", s.size[2], ": ", report.text()));
    CHECK(report.gradient < 1e-6);
    CHECK(report.single < 1e-5);
    CHECK(report.emulated < 1e-12);
    CHECK(report.cuda < 1e-12);
    CHECK(report.f16 < 3e-3);
    CHECK(report.bf16 < 2e-2);
  }
}

TEST_CASE("window_attention: with queries of another volume, gradient, precisions and devices agree", "[ops]") {
  for (const Case& s : cases) {
    const auto report = testing::check_shapes(
        [&](const auto& v) { return window_attention(v[0], v[1], v[2], s.spec(), v[3], v[4]); },
        {{volume(s, s.channels), volume(s, 2 * s.channels), table_shape(s), {2 * s.channels}, {s.channels}}});
    INFO(text("size ", s.size[0], " ", s.size[1], " ", s.size[2], ": ", report.text()));
    CHECK(report.gradient < 1e-6);
    CHECK(report.single < 1e-5);
    CHECK(report.emulated < 1e-12);
    CHECK(report.cuda < 1e-12);
    CHECK(report.f16 < 3e-3);
    CHECK(report.bf16 < 2e-2);
  }
}

TEST_CASE("window_attention: gives what pad, roll, cut, attend, roll back and crop give", "[ops]") {
  for (const Case& s : cases) {
    const auto q = testing::wave<double>(volume(s, s.channels)),
               kv = testing::wave<double>(volume(s, 2 * s.channels), 1);
    const auto table = testing::wave<double>(table_shape(s), 2), fill = testing::wave<double>({2 * s.channels}, 3);
    const auto y =
        window_attention(Var<double>(q), Var<double>(kv), Var<double>(table), s.spec(), Var<double>(fill)).value();
    const Plain plain(s);
    for (Index b = 0; b < s.n; ++b) {
      const auto expected = plain.run(plain.pad_and_roll(q[b].data(), nullptr, s.channels),
                                      plain.pad_and_roll(kv[b].data(), fill.data(), 2 * s.channels), table.data());
      CHECK(testing::relative_difference(y[b], Tensor<double>::from(expected, y[b].shape())) < 1e-13);
    }
  }
}

TEST_CASE("window_attention: one volume of queries, keys and values is the same as two volumes", "[ops]") {
  const Case& s = cases[2];
  const auto q = testing::wave<double>(volume(s, s.channels)), kv = testing::wave<double>(volume(s, 2 * s.channels), 1);
  const auto table = Var<double>(testing::wave<double>(table_shape(s), 2));
  std::vector<double> together;
  for (Index t = 0; t < q.size() / s.channels; ++t) {
    together.insert(together.end(), q.data() + t * s.channels, q.data() + (t + 1) * s.channels);
    together.insert(together.end(), kv.data() + t * 2 * s.channels, kv.data() + (t + 1) * 2 * s.channels);
  }
  const Var<double> qkv(Tensor<double>::from(together, volume(s, 3 * s.channels)));
  CHECK(testing::relative_difference(window_attention(qkv, table, s.spec()).value(),
                                     window_attention(Var<double>(q), Var<double>(kv), table, s.spec()).value()) == 0);
}

TEST_CASE("window_attention: large windows, whose sums do not fit shared memory, agree on all devices", "[ops]") {
  const Case s{{8, 8, 8}, {8, 8, 8}, {0, 0, 0}, 1, 8, 1};  // 512 tokens
  const auto run = [&](auto zero, Device device) {
    using T = decltype(zero);
    const Var<T> x(cast<T>(Var<double>(testing::wave<double>(volume(s, 24)))).value().to(device), true);
    const Var<T> table(cast<T>(Var<double>(testing::wave<double>(table_shape(s), 1))).value().to(device), true);
    const auto y = window_attention(x, table, s.spec());
    backward(y, y.value());
    std::vector<Tensor<double>> out;
    for (const auto& found : {y.value(), x.grad(), table.grad()})
      out.push_back(cast<double>(Var<T>(found.to(Device::cpu()))).value());
    return out;
  };
  const auto expected = run(0.0, Device::cpu());
  for (const Device device : other_devices()) {
    const auto in_double = run(0.0, device), in_bf16 = run(bf16(), device);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      CHECK(testing::relative_difference(in_double[i], expected[i]) < 1e-12);
      CHECK(testing::relative_difference(in_bf16[i], expected[i]) < 2e-2);
    }
  }
}

TEST_CASE("window_attention: the same bits for any number of threads", "[ops]") {
  const Case s{{7, 6, 8}, {4, 4, 4}, {2, 2, 2}, 2, 8, 2, RelativeIndex::nnformer};
  const auto run = [&] {
    const Var<float> x(testing::wave<float>(volume(s, 24)), true), table(testing::wave<float>(table_shape(s)), true),
        pad(testing::wave<float>({24}), true);
    const auto y = window_attention(x, table, s.spec(), pad);
    backward(y, testing::wave<float>(y.shape(), 3));
    return std::vector{y.value().to_vector(), x.grad().to_vector(), table.grad().to_vector(), pad.grad().to_vector()};
  };
  const int before = thread_count();
  set_thread_count(1);
  const auto one = run();
  for (const int threads : {2, 3}) {
    set_thread_count(threads);
    CHECK(run() == one);
  }
  set_thread_count(before);
}

TEST_CASE("window_attention: layers with the same windows share their tables", "[ops]") {
  const std::array<Index, 3> size{5, 6, 7};
  const auto layout = [&](const WindowSpec& spec, Device device = Device::cpu()) {
    return detail::window_table<detail::WindowLayout>(device, size, spec.cut());
  };
  const auto lists = [](const WindowSpec& spec) {
    return detail::window_table<detail::PairLists>(Device::cpu(), spec.positions());
  };
  const WindowSpec plain{.heads = 2, .window = {2, 3, 4}}, other{.heads = 3, .window = {2, 3, 4}, .scale = 1},
      shifted{.heads = 2, .window = {2, 3, 4}, .shift = {1, 0, 0}},
      inner{.heads = 2, .window = {2, 3, 4}, .table_window = {4, 4, 4}};
  CHECK(layout(plain) == layout(other));
  CHECK(layout(plain) == layout(inner));
  CHECK(layout(plain) != layout(shifted));
  CHECK(layout(plain) != layout(plain, Device::emulated()));
  CHECK(lists(plain) == lists(shifted));
  CHECK(lists(plain) != lists(inner));
}

TEST_CASE("window_attention: tables are kept up to a bound, one for all threads", "[ops]") {
  const auto table = [](Index mebibytes) { return detail::window_table<Counted>(Device::cpu(), mebibytes); };
  const auto first = table(40);
  CHECK(table(40) == first);
  CHECK(Counted::made == 1);
  CHECK(table(30) != table(30));  // 70 MiB are too many
  CHECK(Counted::made == 3);
  CHECK(table(24) == table(24));
  CHECK(table(40) == first);
  CHECK(Counted::made == 4);

  std::array<std::shared_ptr<const Counted>, 4> seen;
  {
    std::array<std::jthread, 4> threads;
    for (std::size_t i = 0; i < 4; ++i) threads[i] = std::jthread([&, i] { seen[i] = table(0); });
  }
  for (const auto& one : seen) CHECK(one == table(0));
}

TEST_CASE("window_attention: sizes that do not fit are refused", "[ops][errors]") {
  const Var<float> x(testing::wave<float>({1, 4, 4, 4, 12})), table(testing::wave<float>({27, 2}));
  using Catch::Contains;
  CHECK_THROWS_WITH(window_attention(x, table, {.heads = 3, .window = {2, 2, 2}}), Contains("3 heads"));
  CHECK_THROWS_WITH(window_attention(x, table, {.heads = 2, .window = {3, 2, 2}}),
                    Contains("bias table [27, 2]") && Contains("[45, 2]"));
  CHECK_THROWS_WITH(window_attention(x, table, {.heads = 2, .window = {2, 2, 2}, .shift = {2, 0, 0}}),
                    Contains("shift 2 of axis 0"));
  CHECK_THROWS_WITH(window_attention(x, x, table, {.heads = 2, .window = {2, 2, 2}}), Contains("[N, D, H, W, 2 C]"));
  CHECK_THROWS_WITH(window_attention(x, Var<float>(), {.heads = 1, .window = {2, 2, 2}}, table),
                    Contains("padding value [27, 2]"));
  const Var<float> flat(testing::wave<float>({7, 1}));
  CHECK_THROWS_WITH(window_attention(x, flat, {.heads = 1, .window = {1, 4, 1}, .index = RelativeIndex::nnformer}),
                    Contains("cubic"));
}
