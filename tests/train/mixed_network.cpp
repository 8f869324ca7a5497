#include "m3i/train/mixed_network.hpp"

#include <filesystem>

#include <unistd.h>

#include "catch.hpp"
#include "m3i/testing.hpp"
#include "m3i/train/classification.hpp"
#include "m3i/train/segmentation.hpp"
#include "tiny_config.hpp"

using namespace m3i;
using choice::Dtype;

namespace {

MethodConfig learning_config() {
  MethodConfig c = tiny_config();
  c.segmentation.training.optimizer.learning_rate = 1e-3;
  return c;
}
Tensor<float> volume() { return testing::wave<float>({1, 32, 32, 32, 1}); }
Tensor<std::int64_t> labels() {
  std::vector<std::int64_t> all(32 * 32 * 32);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i % 32 < 16;
  return Tensor<std::int64_t>::from(all, {1, 32, 32, 32});
}

struct Scratch {
  std::string path = (std::filesystem::temp_directory_path() / text("m3i-mixed-", long(::getpid()))).string();
  Scratch() { std::filesystem::create_directories(path); }
  ~Scratch() { std::filesystem::remove_all(path); }
};

/// A network that learns on one volume; the last weights, and the losses.
struct Fit {
  std::vector<double> losses;
  std::vector<float> weights;
  LossScale scale;
};
Fit fit(Dtype dtype, const std::string& folder, Index first, Index last, Index all, LossScale scale = {}) {
  MethodConfig config = learning_config();
  config.run.dtype = dtype;
  config.run.save_every = 2;
  seed_initializer(1);
  const SegmentationModel<float> model(config, 2);
  const MixedNetwork<SegmentationModel> network(dtype, model, config, Index(2));
  if (scale.exponent) network.precision().scale = scale;
  Trainer<float> trainer(parameters<float>(model), config.segmentation.training.optimizer, all);
  std::filesystem::create_directories(folder);
  TrainingRun<float> run(folder, config, "tiny", last, "mixed");
  run.add_module("model/", model);
  run.add_trainer("network", trainer);
  run.add_precision(network.precision());
  run.start(first > 0);
  REQUIRE(run.first_step() == first);
  OneProcess one;
  DataParallel<float> parallel(one, parameters<float>(model));
  Fit out;
  run.loop([&](Index step, OrderedJson& record) {
    Random random = Random(3, 1).split(std::uint64_t(step));
    const auto y = network(Var<float>(volume()), Mode{true, &random});
    const double loss =
        descend(segmentation_loss(y, labels(), config.segmentation), trainer, parallel, network.precision(), record);
    out.losses.push_back(loss);
    return loss;
  });
  for (const auto& p : parameters<float>(model))
    for (const float w : p.value().to_vector()) out.weights.push_back(w);
  out.scale = network.precision().scale;
  return out;
}

}  // namespace

TEST_CASE("mixed network: every type gives the float network's outputs and gradients to its precision", "[train]") {
  MethodConfig config = learning_config();
  config.network.embedding = 16;  // a layer norm of few channels makes much of their rounding
  seed_initializer(1);
  const SegmentationModel<float> model(config, 3);
  const auto run = [&](Dtype dtype) {
    for (const auto& p : parameters<float>(model)) p.clear_grad();
    const MixedNetwork<SegmentationModel> network(dtype, model, config, Index(3));
    network.precision().scale.exponent = dtype == Dtype::f16 ? 6 : 0;
    const auto y = network(Var<float>(volume()));
    backward(segmentation_loss(y, labels(), config.segmentation));
    network.precision().collect();
    std::vector<Tensor<float>> all{y[0].value()};
    for (const auto& p : parameters<float>(model)) all.push_back(p.grad().clone());
    return all;
  };
  const auto exact = run(Dtype::f32), in_half = run(Dtype::f16), in_bf16 = run(Dtype::bf16);
  /// Root of the sum of squares of the differences, against that of the values: some are sums that cancel.
  const auto difference = [&](const std::vector<Tensor<float>>& results, std::size_t first, std::size_t last) {
    double error = 0, norm = 0;
    for (std::size_t i = first; i < last; ++i)
      for (Index k = 0; k < exact[i].size(); ++k) {
        const double value = exact[i].data()[k], d = results[i].data()[k] - value;
        error += d * d, norm += value * value;
      }
    return std::sqrt(error / norm);
  };
  CHECK(difference(in_half, 0, 1) < 2e-3);
  CHECK(difference(in_bf16, 0, 1) < 2e-2);
  CHECK(difference(in_half, 1, exact.size()) < 5e-3);
  CHECK(difference(in_bf16, 1, exact.size()) < 5e-2);
}

TEST_CASE("mixed network: training in f32, bf16 and f16 agrees, and resumes with the same bits", "[train]") {
  const Scratch scratch;
  const Fit exact = fit(Dtype::f32, scratch.path + "/f32", 0, 8, 8);
  CHECK(exact.losses.back() < exact.losses.front());
  for (const Dtype dtype : {Dtype::bf16, Dtype::f16}) {
    const std::string folder = scratch.path + "/" + enum_name(dtype);
    const LossScale scale{dtype == Dtype::f16 ? 7 : 0, 5};
    const Fit whole = fit(dtype, folder, 0, 8, 8, scale);
    for (std::size_t i = 0; i < 8; ++i) CHECK(whole.losses[i] == Approx(exact.losses[i]).epsilon(0.02));
    fit(dtype, folder + "-again", 0, 4, 8, scale);
    const Fit resumed = fit(dtype, folder + "-again", 4, 8, 8);
    CHECK(resumed.weights == whole.weights);
    CHECK(resumed.scale.exponent == whole.scale.exponent);
    CHECK(resumed.scale.good == whole.scale.good);
  }
}

TEST_CASE("mixed network: gradients that overflow half lower the scale, and the step is skipped", "[train]") {
  const MethodConfig config = learning_config();
  const ClassificationModel<float> model(config, 2);
  const MixedNetwork<ClassificationModel> network(Dtype::f16, model, config, Index(2));
  Trainer<float> trainer(parameters<float>(model), {}, 100);
  OneProcess one;
  DataParallel<float> parallel(one, parameters<float>(model));
  const auto step = [&](double factor, OrderedJson& record) {
    const Var<float> logits = network(Var<float>(volume()), Mode{});
    const auto target = Tensor<std::int64_t>::from({1}, {1});
    return descend(factor * cross_entropy(logits, target), trainer, parallel, network.precision(), record);
  };
  const auto before = parameters<float>(model)[0].value().to_vector();
  OrderedJson first, second, third;
  CHECK(std::isfinite(step(16.0, first)));  // 65536 * 8 is more than half can hold
  CHECK(first["skipped"] == true);
  CHECK(first["loss_scale"] == 65536);
  CHECK(network.precision().scale.value() == 32768);
  CHECK(parameters<float>(model)[0].value().to_vector() == before);
  CHECK(trainer.steps() == 0);
  network.precision().scale.exponent = 4;
  CHECK(std::isfinite(step(1.0, second)));
  CHECK_FALSE(second.contains("skipped"));
  CHECK(trainer.steps() == 1);
  network.precision().scale.exponent = 0;
  CHECK(std::isnan(step(1e6, third)));  // no scale is to blame: a bad step
  CHECK(trainer.steps() == 1);
}

TEST_CASE("mixed network: an unknown type names the choices", "[train][errors]") {
  CHECK(parse_dtype("bf16") == Dtype::bf16);
  CHECK_THROWS_WITH(parse_dtype("fp16"), Catch::Contains("--dtype") && Catch::Contains("fp16") &&
                                             Catch::Contains("f32") && Catch::Contains("bf16"));
  CHECK_THROWS_AS(parse_dtype("double"), ConfigError);
}
