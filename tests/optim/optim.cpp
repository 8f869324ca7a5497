#include "m3i/optim.hpp"
#include "../catch.hpp"
#include "../devices.hpp"
#include "m3i/autodiff/checkpoint.hpp"
#include "m3i/core/cuda_graph.hpp"
#include "m3i/ops/arithmetic.hpp"
#include "m3i/ops/dropout.hpp"
#include "m3i/ops/pointwise.hpp"
#include "m3i/ops/reduce.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {
/// Minimises sum (x - 3)^2 and returns the largest distance left.
template <class T, class Optimizer>
double minimise(Optimizer& optimizer, const Var<T>& x, int steps) {
  for (int i = 0; i < steps; ++i) {
    x.clear_grad();
    backward(sum(square(x - 3)));
    optimizer.step();
  }
  double worst = 0;
  for (const T v : x.value().to_vector()) worst = std::max(worst, std::abs(double(accumulate_t<T>(v)) - 3));
  return worst;
}
}  // namespace

TEST_CASE("optimisers find the minimum of a quadratic", "[optim]") {
  const Var<double> a(testing::wave<double>({7}), true), b(testing::wave<double>({7}), true);
  Sgd<double> sgd({a}, {.lr = 0.05, .momentum = 0.9});
  CHECK(minimise(sgd, a, 300) < 1e-4);
  Adam<double> adam({b}, {.lr = 0.1});
  CHECK(minimise(adam, b, 600) < 1e-3);
}

TEST_CASE("half and bf16 parameters train through float master weights", "[optim]") {
  // Steps of 1e-4 are far below half a unit in the last place at 2 (bf16: 2^-8): only a master copy adds them up.
  const Var<bf16> x(Tensor<bf16>::full({4}, bf16(2.0f)), true);
  Adam<bf16> adam({x}, {.lr = 1e-3});
  CHECK(minimise(adam, x, 2000) < 0.05);
}

TEST_CASE("optimisers give the same on every device and, rounded, in every type", "[optim]") {
  const auto good = [](const testing::OpReport& report) {
    INFO(report.text());
    CHECK(report.emulated < 1e-13);
    CHECK(report.cuda < 1e-12);
    CHECK(report.single < 1e-5);
    CHECK(report.f16 < 3e-3);
    CHECK(report.bf16 < 2e-2);
  };
  const auto parameter = [](auto type, Device device) {
    using T = decltype(type);
    return Var<T>(cast<T>(testing::wave<float>({300})).clone().to(device), true);
  };
  for (const bool amsgrad : {false, true})
    good(testing::check_devices("Adam", [&](auto type, Device device) {
      const auto x = parameter(type, device);
      Adam<decltype(type)> adam({x}, {.lr = 0.1, .weight_decay = 0.1, .decoupled = amsgrad, .amsgrad = amsgrad});
      minimise(adam, x, 5);
      return std::vector{x.value()};
    }));
  for (const auto& [momentum, nesterov] : {std::pair{0.0, false}, {0.9, false}, {0.9, true}})
    good(testing::check_devices("Sgd", [&, m = momentum, n = nesterov](auto type, Device device) {
      const auto x = parameter(type, device);
      Sgd<decltype(type)> sgd({x}, {.lr = 0.02, .momentum = m, .weight_decay = 0.1, .nesterov = n});
      minimise(sgd, x, 5);
      return std::vector{x.value()};
    }));
  good(testing::check_devices("Ema", [&](auto type, Device device) {
    const auto x = parameter(type, device);
    Ema<decltype(type)> ema({x}, 0.9);
    x.value().copy_from(cast<decltype(type)>(testing::wave<float>({300}, 1)).to(device));
    ema.update();
    ema.swap();
    return std::vector{x.value()};
  }));
  const auto clipped = [&](auto type, Device device, const auto& result) {
    const auto x = parameter(type, device), y = parameter(type, device);
    x.grad().copy_from(x.value()), y.grad().copy_from(y.value());
    const double norm = clip_gradients<decltype(type)>({x, y}, 2.0);
    return result(x, norm);
  };
  good(testing::check_devices("clip_gradients", [&](auto type, Device device) {
    return clipped(type, device, [](const auto& x, double) { return std::vector{x.grad()}; });
  }));
  good(testing::check_devices("gradient_norm", [&](auto type, Device device) {
    return clipped(type, device, [&](const auto& x, double norm) {
      return std::vector{Tensor<double>::scalar(norm), Tensor<double>::scalar(gradient_norm<decltype(type)>({x}))};
    });
  }));
}

TEST_CASE("all parameters in one launch: the bits of one parameter at a time, on every device", "[optim]") {
  const std::vector<Shape> shapes = {{1}, {300}, {16384}, {0}, {16385}, {7, 5001}};
  const auto make = [&](Device device) {
    std::vector<Var<float>> parameters;
    for (std::size_t i = 0; i < shapes.size(); ++i)
      parameters.emplace_back(testing::wave<float>(shapes[i], int(i), device), true);
    return parameters;
  };
  const auto train = [&](const std::vector<Var<float>>& group, auto& optimizer) {
    for (int step = 0; step < 3; ++step) {
      for (const auto& p : group) p.clear_grad(), p.grad().copy_from(p.value());
      group[0].clear_grad();  // one without a gradient stays as it is
      optimizer.step();
    }
  };
  std::vector<Device> devices = other_devices();
  devices.push_back(Device::cpu());
  for (const Device device : devices) {
    const auto together = make(device), apart = make(Device::cpu());
    Adam<float> adam(together, {.weight_decay = 0.1, .decoupled = true, .amsgrad = true});
    train(together, adam);
    for (const auto& p : apart) {
      Adam<float> one({p}, adam.options);
      if (p.shape() != shapes[0]) train({Var<float>(Tensor<float>::zeros({1}), true), p}, one);
    }
    for (std::size_t i = 0; i < shapes.size(); ++i)
      if (device.on_host()) CHECK(together[i].value().to_vector() == apart[i].value().to_vector());
      else CHECK(testing::relative_difference(together[i].value(), apart[i].value()) < 1e-6);
  }
}

TEST_CASE("a recorded training step gives the bits of a plain one", "[optim]") {
  std::vector<Device> devices = other_devices();
  devices.push_back(Device::cpu());
  for (const Device device : devices) {
    const auto train = [device](bool record) {
      const Var<float> w(testing::wave<float>({300}, 0, device), true);
      const Tensor<float> batch({300}, device);
      const std::vector<Var<float>> learned{w};
      Adam<float> adam(learned, {.lr = 0.1});
      Var<float> loss;
      const auto step = [&] {
        clear_gradients(learned);
        loss = mean(square(w * Var<float>(batch) - 1));
        backward(loss);
      };
      batch.copy_from(testing::wave<float>({300}, 1));
      // [record]
      std::optional<CudaGraph> recorded;
      if (record) recorded.emplace(device, step);
      for (int i = 1; i <= 4; ++i) {
        batch.copy_from(testing::wave<float>({300}, i));  // new input, where the step reads it
        if (recorded) recorded->replay();
        else step();
        adam.step();
      }
      // [record]
      auto values = w.value().to_vector();
      values.push_back(loss.value().item());
      return values;
    };
    CHECK(train(true) == train(false));
  }
}

TEST_CASE("CudaGraph: dropout and drop path draw new numbers at each replay, those of an ordinary step", "[optim]") {
  std::vector<Device> devices = other_devices();
  devices.push_back(Device::cpu());
  for (const Device device : devices) {
    const Var<float> x(testing::wave<float>({6, 50}, 0, device), true), own(x.value(), true);
    const auto forward = [](const Var<float>& v, Random& random) {
      return dropout(drop_path(v, 0.4, random), 0.3, random);
    };
    ReplayedRandom numbers(device);
    Var<float> y;
    const auto step = [&] {
      Random random = numbers.random();
      y = checkpoint([&](const Var<float>& v) { return forward(v, random); }, x, &random);
      x.clear_grad();
      backward(sum(y));
    };
    const Random seed(5, 2);
    numbers.set(seed.split(0));
    CudaGraph recorded(device, step);
    std::vector<std::vector<float>> seen;
    for (std::uint64_t i = 0; i < 3; ++i) {
      numbers.set(seed.split(i));
      recorded.replay();
      const auto values = y.value().to_vector(), slopes = x.grad().to_vector();
      Random plain = seed.split(i);
      own.clear_grad();  // not x's, which is the graph's
      const Var<float> expected = forward(own, plain);
      backward(sum(expected));
      CHECK(values == expected.value().to_vector());
      CHECK(slopes == own.grad().to_vector());
      for (const auto& earlier : seen) CHECK(values != earlier);
      seen.push_back(values);
    }
  }
}

TEST_CASE("random: a key for operations is no generator for the host", "[optim]") {
  Random random = ReplayedRandom(Device::cpu()).random();
  CHECK_THROWS_WITH(random.uniform(), Catch::Contains("ReplayedRandom"));
  CHECK_THROWS_WITH(random.split(1), Catch::Contains("ReplayedRandom"));
  const Var<float> x(Tensor<float>::full({2}, 1, Device::emulated()));
  CHECK_THROWS_AS(dropout(x, 0.5, random), DeviceError);
}

TEST_CASE("the norm of all gradients has the bits of their norms one by one", "[optim]") {
  std::vector<Tensor<float>> tensors;
  double expected = 0;
  for (const Shape& shape : {Shape{3}, Shape{0}, Shape{4096}, Shape{4097}, Shape{9, 10001}}) {
    tensors.push_back(testing::wave<float>(shape, int(tensors.size())));
    expected += sum_of_squares(tensors.back());
  }
  CHECK(sum_of_squares(tensors) == expected);
  CHECK(sum_of_squares(std::vector<Tensor<float>>{}) == 0);
}

TEST_CASE("parameters on two devices need two optimisers", "[optim][errors]") {
  const Var<float> a(Tensor<float>::zeros({2}), true), b(Tensor<float>::zeros({2}, Device::emulated()), true);
  a.grad(), b.grad();
  Adam<float> adam({a, b}, {});
  CHECK_THROWS_WITH(adam.step(), Catch::Contains("cpu") && Catch::Contains("emulated"));
}

TEST_CASE("clipping scales the global norm and reports the norm before", "[optim]") {
  const Var<double> a(Tensor<double>::zeros({2}), true), b(Tensor<double>::zeros({1}), true);
  a.grad().copy_from(Tensor<double>::from({3.0, 0.0}, {2}));
  b.grad().copy_from(Tensor<double>::from({4.0}, {1}));
  CHECK(clip_gradients<double>({a, b}, 1.0) == Approx(5.0));
  CHECK(gradient_norm<double>({a, b}) == Approx(1.0).epsilon(1e-5));
  CHECK(clip_gradients<double>({a, b}, 10.0) == Approx(1.0).epsilon(1e-5));
  CHECK_THROWS_WITH(clip_gradients<double>({a}, 0.0), Catch::Contains("clip_gradients"));
}

TEST_CASE("schedules warm up, decay and stay at their floor", "[optim]") {
  const Schedule s{ScheduleKind::cosine, 1.0, 0.1, 10, 110};
  CHECK(s(0) == Approx(0.1));
  CHECK(s(9) == Approx(1.0));
  CHECK(s(60) == Approx(0.55));
  CHECK(s(110) == Approx(0.1));
  CHECK(s(100000) == Approx(0.1));
  CHECK(Schedule{}(12345) == Approx(1e-3));
}

TEST_CASE("an exponential moving average lags behind and can be exchanged with the weights", "[optim]") {
  const Var<double> w(Tensor<double>::zeros({1}), true);
  Ema<double> ema({w}, 0.5);
  w.value().copy_from(Tensor<double>::from({1.0}, {1}));
  ema.update();
  ema.swap();
  CHECK(w.value().item() == Approx(0.5));
  ema.swap();
  CHECK(w.value().item() == Approx(1.0));
}
