#include "m3i/ops/attention.hpp"
#include "../devices.hpp"
#include "catch.hpp"
#include "m3i/kernels/reduce.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {

/// The textbook's formula with every score in memory, for one head after the other.
std::vector<double> plain_attention(const Tensor<double>& q,
                                    const Tensor<double>& k,
                                    const Tensor<double>& v,
                                    const AttentionOptions<double>& o) {
  const Index n = q.shape()[0], lq = q.shape()[1], lk = k.shape()[1], c = q.shape()[2], cv = v.shape()[2];
  const Index d = c / o.heads, dv = cv / o.heads;
  std::vector<double> y(std::size_t(n * lq * cv));
  for (Index b = 0; b < n; ++b)
    for (Index h = 0; h < o.heads; ++h)
      for (Index i = 0; i < lq; ++i) {
        std::vector<double> p(std::size_t(lk), 0.0);
        double mass = 0;
        for (Index j = 0; j < lk; ++j) {
          double s = 0;
          for (Index e = 0; e < d; ++e)
            s += q.data()[(b * lq + i) * c + h * d + e] * k.data()[(b * lk + j) * c + h * d + e];
          s *= o.scale == 0 ? 1 / std::sqrt(double(d)) : o.scale;
          if (o.bias.defined()) s += o.bias.data()[(h % o.bias.shape()[0] * lq + i) * lk + j];
          if ((o.causal && j > i) || (o.key_mask.defined() && !o.key_mask.data()[b * lk + j])) continue;
          mass += p[std::size_t(j)] = std::exp(s);
        }
        for (Index e = 0; e < dv; ++e) {
          double total = 0;
          for (Index j = 0; j < lk; ++j) total += p[std::size_t(j)] * v.data()[(b * lk + j) * cv + h * dv + e];
          y[std::size_t((b * lq + i) * cv + h * dv + e)] = mass > 0 ? total / mass : 0;
        }
      }
  return y;
}

struct Case {
  Index n, lq, lk, c, cv, heads;
  bool causal = false;
  Index bias_heads = 0;
  bool masked = false;
  double bf16 = 2e-2;  ///< bound of the error
};
// One of everything, one more than a block, several blocks, values of another width than keys. The gradients of the
// last are sums of 130 terms that nearly cancel, of which tensor cores round each factor.
const std::vector<Case> cases = {{1, 1, 1, 1, 1, 1},
                                 {2, 5, 7, 6, 4, 2},
                                 {1, 65, 65, 8, 8, 2, true},
                                 {3, 4, 6, 4, 4, 2, false, 2},
                                 {2, 70, 66, 4, 6, 2, false, 1},
                                 {2, 6, 130, 4, 4, 1, false, 0, true},
                                 {2, 9, 5, 3, 3, 3, true, 3, true},
                                 {1, 130, 3, 2, 2, 1, false, 0, false, 6e-2}};

Tensor<std::uint8_t> mask_for(const Case& s) {
  std::vector<std::uint8_t> keep(std::size_t(s.n * s.lk), 1);
  for (std::size_t i = 0; i < keep.size(); ++i) keep[i] = i % 3 != 1;
  return Tensor<std::uint8_t>::from(keep, {s.n, s.lk});
}
std::vector<Shape> shapes_of(const Case& s) {
  std::vector<Shape> shapes{{s.n, s.lq, s.c}, {s.n, s.lk, s.c}, {s.n, s.lk, s.cv}};
  if (s.bias_heads) shapes.push_back({s.bias_heads, s.lq, s.lk});
  return shapes;
}
template <class T>
AttentionOptions<T> options_for(const Case& s, const std::vector<Var<T>>& v) {
  AttentionOptions<T> o{.heads = s.heads, .causal = s.causal};
  if (s.bias_heads) o.bias = v[3];
  if (s.masked) o.key_mask = mask_for(s);
  return o;
}
}  // namespace

TEST_CASE("attention: gradient, precisions and devices agree", "[ops]") {
  for (const Case& s : cases) {
    const auto report = testing::check_shapes(
        [&](const auto& v) { return attention(v[0], v[1], v[2], options_for(s, v)); }, {shapes_of(s)});
    INFO(text("N ", s.n, " Lq ", s.lq, " Lk ", s.lk, " heads ", s.heads, ": ", report.text()));
    CHECK(report.gradient < 1e-6);
    CHECK(report.single < 1e-5);
    CHECK(report.emulated < 1e-12);
    CHECK(report.cuda < 1e-12);
    CHECK(report.f16 < 3e-3);
    CHECK(report.bf16 < s.bf16);
  }
}

TEST_CASE("attention: blocks give what the whole matrix of scores gives", "[ops]") {
  for (const Case& s : cases) {
    std::vector<Var<double>> v;
    const auto shapes = shapes_of(s);
    for (std::size_t i = 0; i < shapes.size(); ++i) v.emplace_back(testing::wave<double>(shapes[i], int(i)));
    const auto o = options_for(s, v);
    const auto y = attention(v[0], v[1], v[2], o).value();
    const auto expected = Tensor<double>::from(plain_attention(v[0].value(), v[1].value(), v[2].value(), o), y.shape());
    CHECK(testing::relative_difference(y, expected) < 1e-13);
  }
}

TEST_CASE("attention: one tensor may be query, key and value", "[ops]") {
  const auto report = testing::check_op([](const auto& x) { return attention(x, x, x, {.heads = 2, .scale = 0.7}); },
                                        {{2, 9, 4}, {1, 66, 4}});
  INFO(report.text());
  CHECK(report.gradient < 1e-6);
  CHECK(report.emulated < 1e-12);
}

TEST_CASE("attention: a query without any key gives zeros and no gradient", "[ops]") {
  const Var<double> q(testing::wave<double>({1, 2, 4}), true), k(testing::wave<double>({1, 3, 4}, 1), true),
      v(testing::wave<double>({1, 3, 4}, 2), true);
  AttentionOptions<double> o;
  o.key_mask = Tensor<std::uint8_t>::zeros({1, 3});
  const auto y = attention(q, k, v, o);
  CHECK(sum_of_squares(y.value()) == 0);
  backward(y, Tensor<double>::full(y.shape(), 1.0));
  CHECK(sum_of_squares(q.grad()) + sum_of_squares(k.grad()) + sum_of_squares(v.grad()) == 0);
}

TEST_CASE("attention: an empty batch and no queries give empty results and gradients of zero", "[ops]") {
  for (const Shape& shape : {Shape{0, 3, 4}, Shape{2, 0, 4}})
    for (const bool with_bias : {false, true}) {
      const Var<double> q(Tensor<double>(shape), true), k(testing::wave<double>({shape[0], 5, 4}), true),
          bias(testing::wave<double>({2, shape[1], 5}), true);
      AttentionOptions<double> o{.heads = 2};
      if (with_bias) o.bias = bias;
      const auto y = attention(q, k, k, o);
      CHECK(y.shape() == shape);
      backward(y, Tensor<double>(shape));
      CHECK(sum_of_squares(k.grad()) == 0);
    }
}

TEST_CASE("attention: huge scores do not overflow, also when the largest comes last", "[ops]") {
  std::vector<float> keys(130, -1e4f);
  keys[129] = 1e4f;
  const Var<float> q(Tensor<float>::full({1, 1, 1}, 1e4f)), k(Tensor<float>::from(keys, {1, 130, 1}));
  std::vector<float> values(130, 1);
  values[129] = 7;
  CHECK(attention(q, k, Var<float>(Tensor<float>::from(values, {1, 130, 1}))).value().item() == 7);
}

TEST_CASE("attention: the same bits for any number of threads", "[ops]") {
  const auto run = [] {
    const Var<float> q(testing::wave<float>({5, 70, 8}), true), b(testing::wave<float>({2, 70, 70}), true);
    const auto y = attention(q, q, q, {.heads = 2, .bias = b});
    backward(y, testing::wave<float>(y.shape(), 3));
    return std::vector{y.value().to_vector(), q.grad().to_vector(), b.grad().to_vector()};
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

TEST_CASE("attention: small types are computed in float", "[ops]") {
  const auto x = cast<m3i::half>(testing::wave<float>({2, 70, 8}));
  const auto y = attention(Var<m3i::half>(x), Var<m3i::half>(x), Var<m3i::half>(x), {.heads = 2});
  const Var<float> f(cast<float>(x));
  CHECK(testing::relative_difference(y.value(), attention(f, f, f, {.heads = 2}).value()) < 1e-3);
}

namespace {

struct Sequences {
  Index n, length, channels, heads;
  bool causal;
};

/// y and the gradients of q, k and v, from inputs that T can hold.
template <class T, class Rounded>
std::vector<Tensor<float>> attend(const Sequences& s, Device device) {
  const auto wave = [&](int which) {
    return cast<T>(cast<Rounded>(testing::wave<float>({s.n, s.length, s.channels}, which))).to(device);
  };
  const Var<T> q(wave(0), true), k(wave(1), true), v(wave(2), true);
  const auto y = attention(q, k, v, {.heads = s.heads, .causal = s.causal});
  backward(y, wave(3));
  std::vector<Tensor<float>> results;
  for (const Tensor<T>& x : {y.value(), q.grad(), k.grad(), v.grad()})
    results.push_back(cast<float>(x.to(Device::cpu())));
  return results;
}
template <class T>
double worst_on(Device device, const Sequences& s) {
  const auto got = attend<T, T>(s, device), expected = attend<float, T>(s, Device::cpu());
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i)
    worst = std::max(worst, testing::relative_difference(got[i], expected[i]));
  return worst;
}
}  // namespace

TEST_CASE("attention: a GPU agrees with the host on the sequences of CLIP and UNETR", "[ops]") {
  if (!has_gpu()) return;
  for (const Sequences& s : {Sequences{2, 77, 512, 8, true}, {2, 50, 768, 12, false}, {2, 216, 768, 12, false}}) {
    CAPTURE(s.length, s.channels);
    CHECK(worst_on<m3i::half>(Device::cuda(), s) < 4e-3);
    CHECK(worst_on<bf16>(Device::cuda(), s) < 3e-2);
    CHECK(attend<bf16, bf16>(s, Device::cuda())[1].to_vector() == attend<bf16, bf16>(s, Device::cuda())[1].to_vector());
  }
}

TEST_CASE("attention: shapes that do not fit are refused", "[ops][errors]") {
  const Var<float> q(testing::wave<float>({2, 3, 8})), k(testing::wave<float>({2, 5, 8})),
      bias(testing::wave<float>({2, 3, 4}));
  using Catch::Contains;
  CHECK_THROWS_WITH(attention(q, k, k, {.heads = 3}), Contains("3 heads") && Contains("[2, 3, 8]"));
  CHECK_THROWS_WITH(attention(q, k, q), Contains("do not fit"));
  CHECK_THROWS_WITH(attention(q, k, k, {.heads = 2, .bias = bias}),
                    Contains("bias [2, 3, 4]") && Contains("[2, 3, 5]"));
  CHECK_THROWS_WITH(attention(q, k, k, {.key_mask = Tensor<std::uint8_t>::zeros({2, 3})}), Contains("key mask [2, 3]"));
}
