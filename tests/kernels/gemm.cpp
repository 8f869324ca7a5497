#include "../devices.hpp"
#include "catch.hpp"

#include "m3i/kernels/gemm.hpp"
#include "m3i/testing.hpp"

using namespace m3i;
using testing::relative_difference;
using testing::wave;

namespace {

struct Case {
  Index batch, m, n, k;
  bool trans_a, trans_b;
  Index gap;  // elements between the used part of a row and the next row
};

template <class T>
struct Operands {
  Tensor<T> a, b, c, bias;
  Index lda, ldb, ldc;
  explicit Operands(const Case& s, Device device = Device::cpu())
      : lda((s.trans_a ? s.m : s.k) + s.gap), ldb((s.trans_b ? s.k : s.n) + s.gap), ldc(s.n + s.gap) {
    a = cast<T>(wave<double>({s.batch, s.trans_a ? s.k : s.m, lda})).to(device);
    b = cast<T>(wave<double>({s.batch, s.trans_b ? s.n : s.k, ldb}, 1)).to(device);
    c = cast<T>(wave<double>({s.batch, s.m, ldc}, 2)).to(device);
    bias = cast<T>(wave<double>({s.gap + s.n}, 3)).to(device).slice(s.gap, s.gap + s.n);  // on an odd address, too
  }
};

/// The definition, in double, on the values that the product really gets.
template <class T>
Tensor<double> by_definition(const Case& s, const Operands<T>& o, double alpha, double beta, bool with_bias) {
  const Tensor<double> a = cast<double>(o.a), b = cast<double>(o.b), bias = cast<double>(o.bias);
  const Tensor<double> c = cast<double>(o.c).clone();
  for (Index i = 0; i < s.batch; ++i)
    for (Index r = 0; r < s.m; ++r)
      for (Index col = 0; col < s.n; ++col) {
        double sum = 0;
        for (Index k = 0; k < s.k; ++k)
          sum += a[i].data()[s.trans_a ? k * o.lda + r : r * o.lda + k] *
                 b[i].data()[s.trans_b ? col * o.ldb + k : k * o.ldb + col];
        double& out = c[i].data()[r * o.ldc + col];
        out = alpha * sum + (beta == 0 ? 0 : beta * out) + (with_bias ? bias.data()[col] : 0);
      }
  return c;
}

template <class T>
double worst(const Case& s, double alpha, double beta, bool with_bias, Device device = Device::cpu()) {
  using A = accumulate_t<T>;
  const Operands<T> o(s, device);
  const Tensor<double> expected = by_definition(s, Operands<T>(s), alpha, beta, with_bias);
  gemm_batched<T>(device, s.batch, s.trans_a, s.trans_b, s.m, s.n, s.k, A(alpha), o.a.data(), o.lda, o.b.data(), o.ldb,
                  A(beta), o.c.data(), o.ldc, o.a[0].size(), o.b[0].size(), o.c[0].size(),
                  with_bias ? o.bias.data() : nullptr);
  return relative_difference(cast<double>(o.c), expected);
}

const std::vector<Case> cases = {{1, 1, 1, 1, false, false, 0},      {1, 7, 5, 3, false, true, 2},
                                 {3, 17, 33, 9, true, false, 0},     {2, 100, 30, 64, true, true, 1},
                                 {1, 130, 500, 20, false, false, 3}, {1, 5, 9, 2100, true, false, 0},
                                 {5, 1, 40, 30, false, true, 0},     {2, 300, 1, 30, false, false, 0}};

}  // namespace

TEST_CASE("gemm: every transpose, leading dimension, batch and scale follows the definition", "[kernels]") {
  for (Case s : cases)
    for (const int flags : {0, 1, 2, 3}) {
      s.trans_a = flags & 1;
      s.trans_b = flags & 2;
      CAPTURE(s.batch, s.m, s.n, s.k, s.trans_a, s.trans_b, s.gap);
      CHECK(worst<double>(s, 1, 0, false) < 1e-13);
      CHECK(worst<double>(s, -0.5, 1, false) < 1e-13);
      CHECK(worst<float>(s, 2, 0.25, true) < 1e-5);
    }
}

TEST_CASE("gemm: bias rows start the product", "[kernels]") {
  for (const Case& s : cases)
    for (const double beta : {0.0, 1.0, 0.5}) CHECK(worst<double>(s, 1.5, beta, true) < 1e-13);
}

TEST_CASE("gemm: half and bf16 are multiplied in float and rounded once", "[kernels]") {
  for (const Case& s : cases) {
    CHECK(worst<m3i::half>(s, 1, 1, true) < 1e-3);
    CHECK(worst<bf16>(s, 1, 0, false) < 8e-3);
  }
}

TEST_CASE("gemm: the emulated device runs the host body", "[kernels]") {
  CHECK(worst<double>(cases[3], 1, 1, true, Device::emulated()) < 1e-13);
}

TEST_CASE("gemm: a GPU follows the definition", "[kernels]") {
  if (!has_gpu()) return;
  const Device gpu = Device::cuda();
  for (Case s : cases)
    for (const int flags : {0, 1, 2, 3}) {
      s.trans_a = flags & 1;
      s.trans_b = flags & 2;
      CAPTURE(s.batch, s.m, s.n, s.k, s.trans_a, s.trans_b, s.gap);
      CHECK(worst<double>(s, -0.5, 1, false, gpu) < 1e-13);
      CHECK(worst<double>(s, 1, 0, true, gpu) < 1e-13);
      CHECK(worst<float>(s, 2, 0.25, true, gpu) < 1e-5);
      CHECK(worst<m3i::half>(s, 1, 1, true, gpu) < 4e-3);
      CHECK(worst<bf16>(s, 1, 0, true, gpu) < 3e-2);
    }
  CHECK(worst<double>({2, 3, 4, 0, false, false, 0}, 1, 0.5, true, gpu) < 1e-15);
  CHECK(worst<double>({2, 3, 4, 0, false, false, 0}, 1, 0, false, gpu) == 0);
}

#if M3I_CUDA
namespace {
/// What cuBLASLt would compute from its descriptors, by the definition of column-major matrices: op(A) op(B) + C + bias
/// of the first and of the last product, on operands in host memory.
Tensor<double> by_descriptors(detail::CublasLtCase<double>& product, const Case& s, const Operands<double>& o) {
  struct Matrix {
    std::uint64_t rows = 0, cols = 0;
    std::int64_t ld = 0, stride = 0;
    std::int32_t batch = 0;
  };
  const auto read = [](cublasLtMatrixLayoutOpaque_t& layout) {
    Matrix m;
    const auto get = [&](cublasLtMatrixLayoutAttribute_t name, auto& value) {
      REQUIRE(cublasLtMatrixLayoutGetAttribute(&layout, name, &value, sizeof(value), nullptr) == CUBLAS_STATUS_SUCCESS);
    };
    get(CUBLASLT_MATRIX_LAYOUT_ROWS, m.rows), get(CUBLASLT_MATRIX_LAYOUT_COLS, m.cols);
    get(CUBLASLT_MATRIX_LAYOUT_LD, m.ld), get(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, m.stride);
    get(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, m.batch);
    return m;
  };
  const auto flag = [&](cublasLtMatmulDescAttributes_t name) {
    std::int32_t value = -1;
    REQUIRE(cublasLtMatmulDescGetAttribute(&product.product, name, &value, sizeof(value), nullptr) ==
            CUBLAS_STATUS_SUCCESS);
    return value == CUBLAS_OP_T;
  };
  const Matrix a = read(product.a), b = read(product.b), c = read(product.c);
  const bool trans_a = flag(CUBLASLT_MATMUL_DESC_TRANSA), trans_b = flag(CUBLASLT_MATMUL_DESC_TRANSB);
  const double* bias = nullptr;
  REQUIRE(cublasLtMatmulDescGetAttribute(&product.product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof(bias),
                                         nullptr) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(bias == o.bias.data());
  REQUIRE((trans_a ? a.rows : a.cols) == (trans_b ? b.cols : b.rows));
  REQUIRE((trans_a ? a.cols : a.rows) == c.rows);
  REQUIRE((trans_b ? b.rows : b.cols) == c.cols);
  REQUIRE((a.batch == s.batch && b.batch == s.batch && c.batch == s.batch));
  const Tensor<double> y = o.c.clone();
  for (Index i = 0; i < s.batch; ++i)
    for (Index row = 0; row < Index(c.rows); ++row)
      for (Index col = 0; col < Index(c.cols); ++col) {
        double sum = bias[row];  // one value a row of cuBLASLt's result
        for (Index k = 0; k < s.k; ++k)
          sum += o.b.data()[i * a.stride + (trans_a ? k + row * a.ld : row + k * a.ld)] *
                 o.a.data()[i * b.stride + (trans_b ? col + k * b.ld : k + col * b.ld)];
        y.data()[i * c.stride + row + col * c.ld] += sum;
      }
  return y;
}
}  // namespace

TEST_CASE("gemm: cuBLASLt's descriptors, read back, define the same product", "[kernels]") {  // needs no GPU
  for (Case s : cases)
    for (const int flags : {0, 1, 2, 3}) {
      s.trans_a = flags & 1;
      s.trans_b = flags & 2;
      CAPTURE(s.batch, s.m, s.n, s.k, s.trans_a, s.trans_b, s.gap);
      const Operands<double> o(s);
      detail::CublasLtCase<double> product(s.batch,
                                           {s.trans_a, s.trans_b, s.m, s.n, s.k, 1, o.a.data(), o.lda, o.b.data(),
                                            o.ldb, 1, o.c.data(), o.ldc, o.bias.data()},
                                           o.a[0].size(), o.b[0].size(), o.c[0].size());
      CHECK(relative_difference(by_descriptors(product, s, o), by_definition(s, o, 1, 1, true)) < 1e-13);
    }
}
#endif

TEST_CASE("gemm: an empty sum leaves beta C + bias, and beta = 0 does not read C", "[kernels]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Tensor<double> c = Tensor<double>::full({2, 3}, nan), bias = wave<double>({3});
  gemm<double>(Device::cpu(), false, false, 2, 3, 0, 1, nullptr, 0, nullptr, 3, 0, c.data(), 3, bias.data());
  for (Index i = 0; i < 6; ++i) CHECK(c.data()[i] == bias.data()[i % 3]);
}

TEST_CASE("gemm: the same bits for any number of threads", "[kernels]") {
  // Panels of C, a long sum in parts, and a batch.
  const int before = thread_count();
  for (const Case& s : {Case{1, 700, 96, 64, false, true, 0}, Case{1, 24, 40, 5000, true, false, 0},
                        Case{40, 16, 24, 8, false, false, 0}}) {
    std::vector<std::vector<float>> results;
    for (const int threads : {1, 2, 3}) {
      set_thread_count(threads);
      const Operands<float> o(s);
      gemm_batched<float>(Device::cpu(), s.batch, s.trans_a, s.trans_b, s.m, s.n, s.k, 1, o.a.data(), o.lda, o.b.data(),
                          o.ldb, 0, o.c.data(), o.ldc, o.a[0].size(), o.b[0].size(), o.c[0].size());
      results.push_back(o.c.to_vector());
    }
    CHECK(results[0] == results[1]);
    CHECK(results[0] == results[2]);
  }
  set_thread_count(before);
}

TEST_CASE("gemm: refuses what cannot be a product, with the sizes", "[kernels][errors]") {
  double x[6] = {};
  CHECK_THROWS_WITH(gemm<double>(Device::cpu(), false, false, 2, 3, 1, 1, x, 1, x, 2, 0, x, 3),
                    Catch::Contains("gemm") && Catch::Contains("leading") && Catch::Contains("[2, 1] times [1, 3]"));
  CHECK_THROWS_AS(gemm<double>(Device::cpu(), false, false, -1, 3, 1, 1, x, 1, x, 3, 0, x, 3), ShapeError);
}

TEST_CASE("gemm: bf16 and half give the rounded product for every transpose, odd sums, edges and parts", "[kernels]") {
  const auto worst = [](auto small) {
    using T = decltype(small);
    double found = 0;
    for (const int flags : {0, 1, 2, 3})
      for (const Index m : {1, 13, 70})
        for (const Index n : {1, 17, 100})
          for (const Index k : {0, 1, 2, 7, 385, 1500}) {
            const bool trans_a = flags & 1, trans_b = flags & 2;
            const Index batch = k == 7 ? 3 : 1;
            const float alpha = k % 2 ? 1.0f : 0.5f, beta = m % 2 ? 0.0f : 0.25f;
            const auto a = cast<T>(testing::wave<float>({batch, m * k})), b = cast<T>(testing::wave<float>({k * n}, 1)),
                       c = cast<T>(testing::wave<float>({batch, m * n}, 2)),
                       bias = cast<T>(testing::wave<float>({n}, 3));
            const auto wide_a = cast<double>(a), wide_b = cast<double>(b), wide_c = cast<double>(c),
                       wide_bias = cast<double>(bias);
            const auto multiply = [&](const auto& x, const auto& y, const auto& z, const auto& start) {
              using U = std::remove_pointer_t<decltype(x.data())>;
              gemm_batched<U>(Device::cpu(), batch, trans_a, trans_b, m, n, k, alpha, x.data(), trans_a ? m : k,
                              y.data(), trans_b ? k : n, beta, z.data(), n, m * k, 0, m * n,
                              n % 2 ? start.data() : nullptr);
            };
            multiply(a, b, c, bias);
            multiply(wide_a, wide_b, wide_c, wide_bias);
            found = std::max(found, testing::relative_difference(c, wide_c));
          }
    return found;
  };
  CHECK(worst(bf16()) < 0x1.02p-8);  // half a unit in the last place, and what float adds to it
  CHECK(worst(m3i::half()) < 0x1.1p-11);
}

TEST_CASE("gemm: bf16 gives the same bits for any number of threads", "[kernels]") {
  const Index m = 300, n = 100, k = 3000;
  const auto a = cast<bf16>(testing::wave<float>({k, m})), b = cast<bf16>(testing::wave<float>({k, n}, 1));
  const auto run = [&](bool trans_a) {
    const Tensor<bf16> c({m, n});
    gemm<bf16>(Device::cpu(), trans_a, false, m, n, k, 1, a.data(), trans_a ? m : k, b.data(), n, 0, c.data(), n);
    return cast<float>(c).to_vector();
  };
  const int before = thread_count();
  set_thread_count(1);
  const auto plain = run(false), transposed = run(true);
  set_thread_count(3);
  CHECK(run(false) == plain);
  CHECK(run(true) == transposed);
  set_thread_count(before);
}
