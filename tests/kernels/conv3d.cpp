#include "../devices.hpp"
#include "catch.hpp"

#include "m3i/kernels/conv3d.hpp"
#include "m3i/kernels/conv3d_host.hpp"
#include "m3i/testing.hpp"

using namespace m3i;
using testing::relative_difference;
using testing::wave;

namespace {

struct Case {
  const char* name;
  Shape x, w;
  Conv3dSpec spec;
};

const std::vector<Case> cases = {
    {"one voxel", {1, 1, 1, 1, 1}, {1, 1, 1, 1, 1}, {}},
    {"1x1x1", {2, 3, 4, 5, 6}, {7, 1, 1, 1, 6}, {}},
    {"3x3x3 same", {2, 5, 4, 7, 3}, {5, 3, 3, 3, 3}, {.padding = {1, 1, 1}}},
    {"one input channel", {1, 9, 8, 7, 1}, {4, 3, 3, 3, 1}, {.padding = {1, 1, 1}}},
    {"stride = kernel", {2, 8, 4, 6, 3}, {5, 4, 2, 3, 3}, {.stride = {4, 2, 3}}},
    {"stride = kernel, voxels left over", {1, 9, 5, 8, 3}, {5, 4, 2, 3, 3}, {.stride = {4, 2, 3}}},
    {"stride > kernel", {1, 9, 7, 8, 2}, {3, 2, 1, 2, 2}, {.stride = {3, 2, 4}}},
    {"strided, padded, uneven", {2, 7, 9, 6, 2}, {3, 3, 2, 3, 2}, {.stride = {2, 3, 1}, .padding = {1, 0, 2}}},
    {"dilated", {1, 9, 8, 11, 2}, {3, 3, 2, 3, 2}, {.stride = {1, 2, 3}, .padding = {2, 1, 0}, .dilation = {2, 3, 2}}},
    {"padding beyond the kernel", {1, 3, 2, 2, 2}, {3, 2, 2, 2, 2}, {.padding = {3, 2, 4}}},
    {"groups", {2, 5, 4, 3, 6}, {9, 3, 2, 1, 2}, {.stride = {1, 2, 1}, .padding = {1, 0, 0}, .groups = 3}},
    {"depthwise", {2, 6, 5, 7, 9}, {9, 3, 3, 3, 1}, {.stride = {2, 1, 1}, .padding = {1, 1, 1}, .groups = 9}},
    {"depthwise with two outputs a channel", {1, 4, 5, 3, 4}, {8, 3, 3, 3, 1}, {.padding = {1, 1, 1}, .groups = 4}},
    {"groups of whole chunks",
     {2, 5, 6, 7, 16},
     {144, 3, 3, 3, 8},
     {.stride = {2, 1, 2}, .padding = {1, 1, 1}, .groups = 2}},
    {"several tiles and tap parts", {1, 12, 11, 13, 40}, {20, 3, 3, 3, 40}, {.padding = {1, 1, 1}}},
    {"transformed tiles", {2, 9, 16, 17, 16}, {32, 3, 3, 3, 16}, {.padding = {1, 1, 1}}},
    {"transformed tiles, no padding", {1, 9, 27, 24, 32}, {16, 2, 3, 3, 32}, {}},
    {"transformed tiles, one slice, wide padding", {1, 1, 47, 50, 16}, {48, 3, 3, 3, 16}, {.padding = {2, 3, 2}}},
    {"transformed tiles, one tap along D", {2, 5, 22, 23, 16}, {20, 1, 3, 3, 16}, {.padding = {0, 1, 1}}},
    {"transformed tiles, channels left over", {1, 4, 33, 32, 33}, {18, 3, 3, 3, 33}, {.padding = {1, 1, 1}}},
    {"transformed tiles, several runs", {1, 17, 16, 17, 16}, {16, 3, 3, 3, 16}, {.padding = {1, 1, 1}}},
};

template <class T>
struct Results {
  Tensor<T> y, dx, dw;
};

template <class T>
struct Inputs {
  Tensor<T> x, w, bias, dy;
  Results<T> r;  // gradients are added to what is there already
  Conv3dGeometry g;
  Inputs(const Case& c, Device device) : g(conv3d_geometry("test", c.x, c.w, c.spec)) {
    const auto values = [&](const Shape& shape, int which) { return cast<T>(wave<float>(shape, which)).to(device); };
    x = values(c.x, 0);
    w = values(c.w, 1);
    bias = values({c.w[0]}, 2);
    dy = values(conv3d_output_shape(g), 3);
    r = {Tensor<T>(conv3d_output_shape(g), device), values(c.x, 4).clone(), values(c.w, 5).clone()};
  }
};

/// Result and both gradients as a device computes them.
template <class T>
Results<T> run(const Case& c, Device device) {
  Inputs<T> in(c, device);
  in.r.y = conv3d_forward(in.x, in.w, in.bias, c.spec);
  conv3d_input_grad(in.dy, in.w, in.r.dx, c.spec);
  conv3d_weight_grad(in.x, in.dy, in.r.dw, c.spec);
  return in.r;
}
/// By the definition.
template <class T>
Results<T> direct(const Case& c) {
  const Device device = Device::cpu();
  const Inputs<T> in(c, device);
  const auto& r = in.r;
  for_each(device, r.y.size(), detail::Conv3dForward<T>{in.x.data(), in.w.data(), in.bias.data(), r.y.data(), in.g});
  for_each(device, r.dx.size(), detail::Conv3dInputGrad<T>{in.dy.data(), in.w.data(), r.dx.data(), in.g});
  for_each(device, r.dw.size(), detail::Conv3dWeightGrad<T>{in.x.data(), in.dy.data(), r.dw.data(), in.g});
  return r;
}
/// As a device does without cuDNN.
template <class T>
Results<T> implicit(const Case& c, Device device) {
  const Inputs<T> in(c, device);
  const auto& r = in.r;
  detail::conv3d_implicit_forward(device, in.g, in.x.data(), in.w.data(), in.bias.data(), r.y.data());
  detail::conv3d_implicit_input_grad(device, in.g, in.dy.data(), in.w.data(), r.dx.data());
  detail::conv3d_implicit_weight_grad(device, in.g, in.x.data(), in.dy.data(), r.dw.data());
  return r;
}

template <class A, class B>
double worst(const Results<A>& a, const Results<B>& b) {
  return std::max({relative_difference(a.y, b.y), relative_difference(a.dx, b.dx), relative_difference(a.dw, b.dw)});
}

/// Whether the host multiplies transformed tiles.
bool transformed(const Case& c) {
  const Conv3dGeometry g = conv3d_geometry("test", c.x, c.w, c.spec);
  return detail::winograd_fits(detail::GatherSum<float>::forward(g, nullptr, nullptr));
}

}  // namespace

TEST_CASE("conv3d: the host's products agree with the definition", "[kernels]") {
  for (const Case& c : cases) {
    CAPTURE(c.name);
    const auto expected = direct<double>(c);
    CHECK(worst(run<double>(c, Device::cpu()), expected) < 1e-13);
    const double bound = transformed(c) ? 3e-5 : 1e-5;  // sums and differences of inputs are rounded too
    CHECK(worst(run<float>(c, Device::cpu()), expected) < bound);
  }
}

TEST_CASE("conv3d: transformed tiles are what many channels get, in the same bits for any threads", "[kernels]") {
  const int before = thread_count();
  int fitting = 0;
  for (const Case& c : cases) {
    if (!transformed(c)) continue;
    CAPTURE(c.name);
    ++fitting;
    set_thread_count(1);
    const auto one = run<float>(c, Device::cpu());
    set_thread_count(3);
    const auto three = run<float>(c, Device::cpu());
    set_thread_count(before);
    CHECK(one.y.to_vector() == three.y.to_vector());
    CHECK(one.dx.to_vector() == three.dx.to_vector());
    CHECK(one.dw.to_vector() == three.dw.to_vector());
  }
  CHECK(fitting >= 6);
}

TEST_CASE("conv3d: what a GPU without cuDNN runs agrees with the definition", "[kernels]") {
  for (const Case& c : cases) {
    if (transformed(c)) continue;  // larger cases, of the host alone
    CAPTURE(c.name);
    const auto expected = direct<double>(c);
    CHECK(worst(run<double>(c, Device::emulated()), expected) < 1e-13);
    CHECK(worst(run<float>(c, Device::emulated()), expected) < 1e-5);
    CHECK(worst(run<m3i::half>(c, Device::emulated()), run<m3i::half>(c, Device::cpu())) < 2e-3);
    CHECK(worst(run<bf16>(c, Device::emulated()), run<bf16>(c, Device::cpu())) < 2e-2);
  }
}

TEST_CASE("conv3d: a GPU agrees with the definition, by cuDNN and without", "[kernels]") {
  if (!has_gpu()) return;
  const Device gpu = Device::cuda();
  for (const Case& c : cases) {
    CAPTURE(c.name);
    const auto expected = direct<double>(c);
    CHECK(worst(implicit<double>(c, gpu), expected) < 1e-12);
    CHECK(worst(implicit<float>(c, gpu), expected) < 1e-5);
    CHECK(worst(implicit<m3i::half>(c, gpu), expected) < 1e-2);
    CHECK(worst(implicit<bf16>(c, gpu), expected) < 8e-2);
    CHECK(worst(run<double>(c, gpu), expected) < 1e-12);
    CHECK(worst(run<float>(c, gpu), expected) < 1e-4);  // cuDNN may choose a transform
    CHECK(worst(run<m3i::half>(c, gpu), expected) < 1e-2);
    CHECK(worst(run<bf16>(c, gpu), expected) < 8e-2);
  }
}

#if M3I_CUDA && M3I_CUDNN
TEST_CASE("conv3d: cuDNN accepts every case and gradient as a graph, the result also with a bias", "[kernels]") {
  for (const Case& c : cases) {  // needs no GPU
    CAPTURE(c.name);
    const Conv3dGeometry g = conv3d_geometry("test", c.x, c.w, c.spec);
    using detail::Conv3dTask, detail::ConvResult, detail::conv3d_graph;
    for (const auto result : {ConvResult::y, ConvResult::x, ConvResult::w})
      for (const double scale : {0.0, 1.0})
        for (const bool bias : {false, true}) {
          if (bias && (result != ConvResult::y || scale != 0)) continue;
          CHECK(conv3d_graph<float>(Conv3dTask{result, scale, bias, {16, 16, 16, 16}}, g).supported());
          CHECK(conv3d_graph<double>(Conv3dTask{result, scale, bias, {8, 8, 8, 8}}, g).supported());
          CHECK(conv3d_graph<m3i::half>(Conv3dTask{result, scale, bias, {16, 2, 2, 2}}, g).supported());
          CHECK(conv3d_graph<bf16>(Conv3dTask{result, scale, bias, {16, 16, 2, 16}}, g).supported());
        }
    Conv3dGeometry wrong = g;  // so cuDNN does look at the extents, and its axes are ours
    ++wrong.out[1];
    CHECK_FALSE(conv3d_graph<float>(Conv3dTask{ConvResult::y, 0, false, {16, 16, 16, 16}}, wrong).supported());
  }
}

TEST_CASE("conv3d: cuDNN passes its self-check on a GPU", "[kernels]") {
  if (!has_gpu()) return;
  CHECK(detail::cudnn_objection<detail::conv3d_self_check<float>>(Device::cuda()) == "");
  CHECK(detail::cudnn_objection<detail::conv3d_self_check<double>>(Device::cuda()) == "");
  CHECK(detail::cudnn_objection<detail::conv3d_self_check<m3i::half>>(Device::cuda()) == "");
  CHECK(detail::cudnn_objection<detail::conv3d_self_check<bf16>>(Device::cuda()) == "");
}
#endif

TEST_CASE("conv3d: half and bf16 are summed in float", "[kernels]") {
  for (const Case& c : {cases[2], cases[7], cases[11]}) {
    CAPTURE(c.name);
    CHECK(worst(run<m3i::half>(c, Device::cpu()), direct<m3i::half>(c)) < 1e-3);
    CHECK(worst(run<bf16>(c, Device::cpu()), direct<bf16>(c)) < 8e-3);
  }
}

TEST_CASE("conv3d: a hand-computed sum", "[kernels]") {
  // x = 1 2 3 along W, w = 10 1: y = x0 * 10 + x1
  const auto x = Tensor<double>::from({1, 2, 3}, {1, 1, 1, 3, 1}), w = Tensor<double>::from({10, 1}, {1, 1, 1, 2, 1});
  CHECK(conv3d_forward(x, w, Tensor<double>::from({0.5}, {1}), {}).to_vector() == std::vector<double>{12.5, 23.5});
}

TEST_CASE("conv3d: the same bits for any number of threads", "[kernels]") {
  const int before = thread_count();
  for (const Case& c : cases) {
    set_thread_count(1);
    const auto one = run<float>(c, Device::cpu());
    set_thread_count(3);
    const auto three = run<float>(c, Device::cpu());
    CAPTURE(c.name);
    CHECK(one.y.to_vector() == three.y.to_vector());
    CHECK(one.dx.to_vector() == three.dx.to_vector());
    CHECK(one.dw.to_vector() == three.dw.to_vector());
  }
  set_thread_count(before);
}

TEST_CASE("conv3d: an empty batch gives an empty result", "[kernels]") {
  const Tensor<float> y = conv3d_forward(Tensor<float>({0, 4, 4, 4, 2}), wave<float>({3, 3, 3, 3, 2}), {}, {});
  CHECK(y.shape() == Shape{0, 2, 2, 2, 3});
}

TEST_CASE("conv3d: refuses shapes that do not fit, with both sides", "[kernels][errors]") {
  const Tensor<float> x({1, 4, 4, 4, 3}), w({2, 3, 3, 3, 3}), none;
  CHECK_THROWS_WITH(conv3d_forward(x, Tensor<float>({2, 3, 3, 3, 2}), none, {}),
                    Catch::Contains("conv3d") && Catch::Contains("3 channels") && Catch::Contains("[2, 3, 3, 3, 2]"));
  CHECK_THROWS_WITH(conv3d_forward(x, w, none, {.dilation = {1, 2, 1}}), Catch::Contains("does not fit"));
  CHECK_THROWS_WITH(conv3d_forward(x, w, none, {.stride = {1, 1, 0}}), Catch::Contains("stride 0"));
  CHECK_THROWS_WITH(conv3d_forward(x, w, Tensor<float>({3}), {}), Catch::Contains("bias [3]"));
  CHECK_THROWS_WITH(conv3d_forward(x.reshape({4, 4, 4, 3}), w, none, {}), Catch::Contains("[4, 4, 4, 3]"));
  CHECK_THROWS_AS(conv3d_input_grad(x, w, x, {}), ShapeError);
}
