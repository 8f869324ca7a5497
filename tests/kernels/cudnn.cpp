#include "../devices.hpp"
#include "catch.hpp"

#include "m3i/kernels/attention_cudnn.hpp"
#include "m3i/kernels/conv3d_cudnn.hpp"
#include "m3i/testing.hpp"

#if M3I_CUDA && M3I_CUDNN
using namespace m3i;
using namespace m3i::detail;

namespace {

/// What is asked of cuDNN: batches, heads, queries, keys, depth, depth of values.
struct Named {
  const char* name;
  AttentionCase c;
};
const std::vector<Named> networks = {{"CLIP's text, ViT-B/32", {4, 8, 77, 77, 64, 64, true, 0.125f}},
                                     {"CLIP's image, ViT-B/32", {4, 12, 50, 50, 64, 64, false, 0.125f}},
                                     {"UNETR at 96", {2, 12, 216, 216, 64, 64, false, 0.125f}},
                                     {"queries of another number than keys", {2, 2, 33, 100, 64, 32, false, 1}}};

using Part = CudnnGraph::Part;

std::vector<std::int64_t> read(Part part, cudnnBackendAttributeName_t name, std::int64_t most) {
  std::vector<std::int64_t> values(static_cast<std::size_t>(most));
  std::int64_t count = 0;
  check_cudnn(cudnnBackendGetAttribute(part, name, CUDNN_TYPE_INT64, most, &count, values.data()), "reading");
  REQUIRE(count == most);
  return values;
}

using Place = std::array<std::int64_t, 4>;

/// A tensor as cuDNN holds it.
struct Held {
  std::int64_t id;
  std::vector<std::int64_t> extents, strides;

  explicit Held(Part part)
      : id(read(part, CUDNN_ATTR_TENSOR_UNIQUE_ID, 1)[0]),
        extents(read(part, CUDNN_ATTR_TENSOR_DIMENSIONS, 4)),
        strides(read(part, CUDNN_ATTR_TENSOR_STRIDES, 4)) {}
  std::int64_t offset(const Place& place) const {  // an extent of 1 is the same for all
    std::int64_t sum = 0;
    for (std::size_t a = 0; a < 4; ++a) sum += std::min(place[a], extents[a] - 1) * strides[a];
    return sum;
  }
  std::int64_t size() const { return offset({extents[0], extents[1], extents[2], extents[3]}) + 1; }
  template <class Visit>
  void each(const Visit& visit) const {
    for (Place p{}; p[0] < extents[0]; ++p[0])
      for (p[1] = 0; p[1] < extents[1]; ++p[1])
        for (p[2] = 0; p[2] < extents[2]; ++p[2])
          for (p[3] = 0; p[3] < extents[3]; ++p[3]) visit(p);
  }
};

/// Does in double what the steps of a graph and the descriptors of its tensors say, each step by its definition.
class Interpreter {
 public:
  /// `data` as for CudnnPlan::run, but of double.
  Interpreter(const CudnnGraph& graph, const std::vector<double*>& data) {
    REQUIRE(graph.supported());
    for (const auto& [id, pointer] : graph.bound({data.begin(), data.end()}))
      if (memory_.size() < data.size()) memory_[id] = data[memory_.size()];
      else scratch_[id] = {double(*static_cast<const float*>(pointer))};  // a number
    for (const CudnnGraph::Step& step : graph.steps()) run(step);
  }

 private:
  double* at(const Held& t) {
    if (const auto known = memory_.find(t.id); known != memory_.end()) return known->second;
    auto& values = scratch_[t.id];
    if (values.empty()) values.resize(std::size_t(t.size()), std::numeric_limits<double>::quiet_NaN());
    return values.data();
  }
  double& at(const Held& t, const Place& place) { return at(t)[t.offset(place)]; }

  void run(const CudnnGraph::Step& step) {
    const Held x(step.x), y(step.y);
    const auto b = step.b ? std::optional<Held>(step.b) : std::nullopt;
    const auto t = step.t ? std::optional<Held>(step.t) : std::nullopt;
    switch (step.type) {
      case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
        y.each([&](Place p) {
          double sum = 0;
          for (std::int64_t i = 0; i < x.extents[3]; ++i)
            sum += at(x, {p[0], p[1], p[2], i}) * at(*b, {p[0], p[1], i, p[3]});
          at(y, p) = sum;
        });
        return;
      case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR: {
        const bool largest = step.mode == CUDNN_REDUCE_TENSOR_MAX;
        REQUIRE((largest || step.mode == CUDNN_REDUCE_TENSOR_ADD));
        y.each([&](Place p) { at(y, p) = largest ? -std::numeric_limits<double>::infinity() : 0; });
        x.each([&](Place p) { at(y, p) = largest ? std::max(at(y, p), at(x, p)) : at(y, p) + at(x, p); });
        return;
      }
      case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
        REQUIRE(x.size() == y.size());
        std::copy(at(x), at(x) + x.size(), at(y));
        return;
      case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
        y.each([&](Place p) {
          const bool chosen = t && at(*t, p) != 0;
          at(y, p) = step.mode == CUDNN_POINTWISE_GEN_INDEX ? double(p[std::size_t(step.axis)])
                                                            : pointwise(step.mode, at(x, p), b ? at(*b, p) : 0, chosen);
        });
        return;
      default: FAIL("an operation that is not used: " << step.type);
    }
  }
  static double pointwise(int mode, double x, double b, bool t) {
    switch (mode) {
      case CUDNN_POINTWISE_ADD: return x + b;
      case CUDNN_POINTWISE_SUB: return x - b;
      case CUDNN_POINTWISE_MUL: return x * b;
      case CUDNN_POINTWISE_DIV: return x / b;
      case CUDNN_POINTWISE_EXP: return std::exp(x);
      case CUDNN_POINTWISE_LOG: return std::log(x);
      case CUDNN_POINTWISE_CMP_GE: return x >= b;
      case CUDNN_POINTWISE_BINARY_SELECT: return t ? x : b;
      default: FAIL("a pointwise operation that is not used: " << mode); return 0;
    }
  }

  std::map<std::int64_t, double*> memory_;
  std::map<std::int64_t, std::vector<double>> scratch_;
};

}  // namespace

#if CUDNN_VERSION >= 91100
TEST_CASE("conv3d: cuDNN has engines that keep m3i's promises, with the bias and for both gradients", "[kernels]") {
  // An H100 that need not be there, in the words in which cuDNN describes one to itself.
  const std::string h100 =
      R"({"maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],"regsPerBlock":65536,)"
      R"("multiProcessorCount":132,"warpSize":32,"maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":232448,)"
      R"("reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,"maxCtasPerSM":32,"maxThreadsPerBlock":1024,)"
      R"("maxThreadsPerSM":2048,"pciDeviceId":0,"isTccDriver":0,"supportCoopLaunch":1,"totalGlobalMem":85000000000,)"
      R"("smClockRateKHz":1980000,"memClockRateKHz":2619000,"l2CacheSize":52428800,"cudaDeviceId":0,"deviceVer":900,)"
      R"("driverVer":13000,"deviceName":"NVIDIA H100 80GB HBM3"})";
  CudnnDescriptor device(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  device.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, h100.size(), h100.data());
  if (!device.finalize()) {
    WARN("skipped: this version of cuDNN describes devices in other words");
    return;
  }
  const CudnnTarget target{nullptr, device.get()};
  const Conv3dGeometry g{2, 16, 24, 1, {5, 6, 7}, {5, 6, 7}, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}};
  for (const auto result : {ConvResult::y, ConvResult::x, ConvResult::w}) {
    const Conv3dTask task{result, 0, result == ConvResult::y, {16, 16, 16, 16}};
    CHECK(conv3d_plan<float>(target, task, g));
    CHECK(conv3d_plan<double>(target, task, g));
    CHECK(conv3d_plan<m3i::half>(target, task, g));
    CHECK(conv3d_plan<bf16>(target, task, g));
  }
  // Upsampling in float: cuDNN's first list names no other engine that may be taken.
  const Conv3dGeometry up{2, 32, 64, 1, {96, 96, 96}, {48, 48, 48}, {2, 2, 2}, {2, 2, 2}, {0, 0, 0}, {1, 1, 1}};
  const auto plan = conv3d_plan<float>(target, {ConvResult::x, 1, false, {16, 16, 16, 16}}, up);
  REQUIRE(plan);
  CHECK(cudnn_engine_number(cudnn_engine(plan->config)) != 0);
}
#endif

TEST_CASE("attention: cuDNN's descriptors, read back, define the same attention and gradients", "[kernels]") {
  for (const AttentionCase& c :
       {AttentionCase{2, 3, 7, 5, 8, 16, false, 0.7f}, AttentionCase{1, 2, 6, 6, 8, 8, true, 1},
        AttentionCase{2, 1, 4, 9, 16, 8, true, 0.25f}}) {
    const auto wave = [&](Index tokens, Index depth, int which) {
      return testing::wave<double>({c.batches, tokens, c.heads * depth}, which);
    };
    const auto q = wave(c.queries, c.depth, 0), k = wave(c.keys, c.depth, 1), v = wave(c.keys, c.value_depth, 2);
    const auto dy = wave(c.queries, c.value_depth, 3), y = dy.clone(), y2 = dy.clone();
    const Tensor<double> lse({c.batches, c.heads, c.queries}), lse2(lse.shape()), dot(lse.shape());
    const auto rows = [&](const Tensor<double>& x, Index depth) {
      return HeadRows<double>{x.data(), c.heads * depth, depth};
    };
    const auto constant = [&](const Tensor<double>& x, Index depth) {
      return HeadRows<const double>{x.data(), c.heads * depth, depth};
    };
    AttentionProblem<double> p;
    p.batches = c.batches, p.heads = c.heads, p.queries = c.queries, p.keys = c.keys;
    p.scale = double(c.scale), p.causal = c.causal;
    p.q = constant(q, c.depth), p.k = constant(k, c.depth), p.v = constant(v, c.value_depth);
    attention_forward(Device::cpu(), p, rows(y, c.value_depth), lse.data());
    Interpreter(AttentionGraphs<bf16>{c}.forward(), {q.data(), k.data(), v.data(), y2.data(), lse2.data()});
    CHECK(testing::relative_difference(y2, y) < 1e-13);
    CHECK(testing::relative_difference(lse2, lse) < 1e-13);

    const auto zeros = [](const Tensor<double>& x) { return Tensor<double>::zeros(x.shape()); };
    const auto dq = zeros(q), dk = zeros(k), dv = zeros(v), dq2 = zeros(q), dk2 = zeros(k), dv2 = zeros(v);
    AttentionGradients<double> d;
    d.groups = attention_groups(p.batches, p.heads, p.queries, p.keys, false, Device::cpu());
    d.q = rows(dq, c.depth), d.k = rows(dk, c.depth), d.v = rows(dv, c.value_depth);
    attention_backward(Device::cpu(), p, d, constant(y, c.value_depth), constant(dy, c.value_depth), lse.data());
    Interpreter(AttentionGraphs<bf16>{c}.gradients(), {q.data(), k.data(), v.data(), y.data(), lse.data(), dy.data(),
                                                       dot.data(), dq2.data(), dk2.data(), dv2.data()});
    CHECK(testing::relative_difference(dq2, dq) < 1e-12);
    CHECK(testing::relative_difference(dk2, dk) < 1e-12);
    CHECK(testing::relative_difference(dv2, dv) < 1e-12);
  }
}

TEST_CASE("attention: cuDNN accepts what the networks ask for, and refuses extents that do not fit", "[kernels]") {
  for (const auto& [name, c] : networks) {
    CAPTURE(name);
    CHECK(AttentionGraphs<m3i::half>{c}.forward().supported());
    CHECK(AttentionGraphs<m3i::half>{c}.gradients().supported());
    CHECK(AttentionGraphs<bf16>{c}.forward().supported());
    CHECK(AttentionGraphs<bf16>{c}.gradients().supported());
  }
  CudnnGraph wrong;
  const auto tensor = [&](Index rows, Index cols) {
    return wrong.between(CUDNN_DATA_FLOAT, {{1, 1, rows, cols}, {rows * cols, rows * cols, cols, 1}});
  };
  wrong.matmul(tensor(4, 5), tensor(4, 6), tensor(7, 5));
  CHECK_FALSE(wrong.supported());
}

TEST_CASE("attention: what cuDNN is not asked", "[kernels]") {
  std::vector<m3i::half> data(64 * 16 + 1);
  m3i::half* const aligned = data.data() + (aligned_for_cudnn(data.data()) ? 0 : 1);
  AttentionProblem<m3i::half> p;
  p.batches = 1, p.heads = 2, p.queries = 8, p.keys = 8;
  p.q = p.k = p.v = {aligned, 16, 8};
  const auto takes = [&](const auto& change) {
    AttentionProblem<m3i::half> changed = p;
    change(changed);
    return attention_cudnn_takes(changed);
  };
  using P = AttentionProblem<m3i::half>;
  const float bias = 0;
  const std::uint8_t mask = 1;
  const Index token = 0;
  CHECK(takes([](P&) {}));
  CHECK(takes([](P& x) { x.causal = true; }));
  CHECK_FALSE(takes([&](P& x) { x.bias = &bias; }));
  CHECK_FALSE(takes([&](P& x) { x.key_mask = &mask; }));
  CHECK_FALSE(takes([&](P& x) { x.regions = &mask; }));
  CHECK_FALSE(takes([&](P& x) { x.tokens = &token; }));
  CHECK_FALSE(takes([](P& x) { x.q.data += 1; }));
  CHECK_FALSE(takes([](P& x) { x.v.depth = 4, x.v.stride = 8; }));
  CHECK_FALSE(takes([](P& x) { x.k.stride = 24; }));
  CHECK_FALSE(takes([](P& x) { x.batches = 0; }));
  CHECK_FALSE(takes([](P& x) { x.batches = Index(1) << 30; }));
}

TEST_CASE("attention: cuDNN passes its self-check on a GPU", "[kernels]") {
  if (!has_gpu()) return;
  const Device gpu = Device::cuda();
  int major = 0;
  REQUIRE(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, gpu.number) == cudaSuccess);
  if (major != 9) return;
  CHECK(cudnn_objection<attention_self_check<m3i::half, false>>(gpu) == "");
  CHECK(cudnn_objection<attention_self_check<m3i::half, true>>(gpu) == "");
  CHECK(cudnn_objection<attention_self_check<bf16, false>>(gpu) == "");
  CHECK(cudnn_objection<attention_self_check<bf16, true>>(gpu) == "");
}
#endif
