#pragma once
/// Checks for tests, ours and yours: one call compares an operation's gradient with differences, float with double,
/// half and bf16 with float, the emulated GPU with the host, and a real GPU with the host when there is one.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "m3i/autodiff/gradcheck.hpp"
#include "m3i/kernels/gather.hpp"
#include "m3i/testing_record.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace testing {

/// Smooth values in (-1.3, 1.3), no two alike, the same everywhere; `which` gives different ones.
template <class T>
Tensor<T> wave(const Shape& shape, int which = 0, Device device = Device::cpu()) {
  std::vector<T> values(static_cast<std::size_t>(shape.size()));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = T(std::sin(0.37 * double(i) + 1.3 * which + 0.5) + 0.3 * std::cos(1.91 * double(i) - which));
  return Tensor<T>::from(values, shape, device);
}

/// Largest |a - b| relative to the largest |b| (or to 1e-12). Infinite where one is NaN, or infinite, and the other is
/// not.
template <class A, class B>
double relative_difference(const Tensor<A>& a, const Tensor<B>& b) {
  require(a.shape() == b.shape(), "compare: ", a.shape(), " against ", b.shape());
  const auto x = a.to_vector();
  const auto y = b.to_vector();
  double worst = 0, scale = 1e-12;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double p = double(accumulate_t<A>(x[i])), q = double(accumulate_t<B>(y[i]));
    if (std::isfinite(p) && std::isfinite(q)) worst = std::max(worst, std::abs(p - q));
    else if (p != q && !(std::isnan(p) && std::isnan(q))) return std::numeric_limits<double>::infinity();
    if (std::isfinite(q)) scale = std::max(scale, std::abs(q));
  }
  return worst / scale;
}

/// Worst relative error of each comparison, over all the cases given.
struct OpReport {
  double gradient = 0;  ///< against central differences, in double
  double single = 0;    ///< float, on every device, against double on the host: value and gradients
  double emulated = 0;  ///< GPU order in host memory against host order, double
  double cuda = 0;      ///< a GPU against the host, double; 0 when there is none
  double f16 = 0;       ///< half, on every device, against float on the host, for inputs rounded to half
  double bf16 = 0;      ///< the same for bf16
  std::string text() const {
    return m3i::text("gradient ", gradient, ", single ", single, ", emulated ", emulated, ", cuda ", cuda, ", f16 ",
                     f16, ", bf16 ", bf16);
  }
};

namespace detail {
/// Value and input gradients of f in type T on a device, of inputs that a Rounded can hold.
template <class T, class Rounded = T, class F>
std::vector<Tensor<T>> evaluate(const F& f, const std::vector<Tensor<float>>& inputs, Device device) {
  std::vector<Var<T>> vars;
  for (const auto& x : inputs) vars.emplace_back(cast<T>(cast<Rounded>(x)).clone().to(device), true);
  const Var<T> y = f(vars);
  std::vector<Tensor<T>> results{y.value()};
  backward(y, cast<T>(cast<Rounded>(m3i::detail::probe_weights(y.shape(), Device::cpu()))).to(device));
  for (const auto& v : vars) results.push_back(v.grad());
  return results;
}
template <class A, class B>
double worst_difference(const std::vector<Tensor<A>>& a, const std::vector<Tensor<B>>& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, relative_difference(a[i], b[i]));
  return worst;
}
/// Compares evaluate(T(), Rounded(), device), a list of tensors of T computed from inputs that a Rounded can hold, for
/// every floating-point type and device with the host in a wider type.
template <class F>
void compare_devices(const F& evaluate, OpReport& report, Record& record) {
  std::vector<Device> others{Device::emulated()};
  if (cuda_device_count() > 0) others.push_back(Device::cuda());
  const auto note = [&](double& worst, Device device, const char* type, double error) {
    worst = std::max(worst, record.add(device, type, error));
  };
  const auto exact = evaluate(double(), double(), Device::cpu());
  for (const Device device : others)
    note(device.on_host() ? report.emulated : report.cuda, device, "f64",
         worst_difference(evaluate(double(), double(), device), exact));
  others.insert(others.begin(), Device::cpu());
  const auto check_type = [&](auto small, const auto& expected, double& worst) {
    using T = decltype(small);
    for (const Device device : others)
      note(worst, device, dtype_name<T>(), worst_difference(evaluate(small, small, device), expected));
  };
  check_type(float(), exact, report.single);
  check_type(half(), evaluate(float(), half(), Device::cpu()), report.f16);
  check_type(m3i::bf16(), evaluate(float(), m3i::bf16(), Device::cpu()), report.bf16);
}
}  // namespace detail

/// Checks f: vector of Var -> Var (a generic lambda, called for every floating-point type) for each list of inputs.
template <class F>
OpReport check_inputs(const F& f, const std::vector<std::vector<Tensor<float>>>& cases) {
  OpReport report;
  Record record;
  for (const auto& inputs : cases) {
    std::vector<Tensor<double>> precise;
    for (const auto& x : inputs) precise.push_back(cast<double>(x));
    report.gradient = std::max(report.gradient, record.add(Device::cpu(), "f64", gradcheck(f, precise).worst));
    detail::compare_devices(
        [&](auto type, auto rounded, Device device) {
          return detail::evaluate<decltype(type), decltype(rounded)>(f, inputs, device);
        },
        report, record);
  }
  return report;
}

/// Checks work that is not on the tape: f(T(), device) -> vector of Tensor<T>, for every floating-point type and
/// device. f rounds its inputs to T itself, so that their rounding counts as an error of half and bf16.
template <class F>
OpReport check_devices(const char* operation, const F& f) {
  OpReport report;
  Record record(operation);
  detail::compare_devices([&](auto type, auto, Device device) { return f(type, device); }, report, record);
  return report;
}

/// As check_inputs, with wave() inputs of the given shapes.
template <class F>
OpReport check_shapes(const F& f, const std::vector<std::vector<Shape>>& cases) {
  std::vector<std::vector<Tensor<float>>> inputs;
  for (const auto& shapes : cases) {
    inputs.emplace_back();
    for (std::size_t k = 0; k < shapes.size(); ++k) inputs.back().push_back(wave<float>(shapes[k], int(k)));
  }
  return check_inputs(f, inputs);
}

/// As check_shapes, for a function of one variable.
template <class F>
OpReport check_op(const F& f, const std::vector<Shape>& shapes) {
  std::vector<std::vector<Shape>> cases;
  for (const auto& shape : shapes) cases.push_back({shape});
  return check_shapes([&](const auto& inputs) { return f(inputs[0]); }, cases);
}

}  // namespace testing
}  // namespace M3I_ABI
}  // namespace m3i
