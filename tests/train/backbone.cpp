/// UNETR in the place of nnFormer: options, files, small types.

#include "catch.hpp"
#include "m3i/testing.hpp"
#include "m3i/train/classification.hpp"
#include "m3i/train/mixed_network.hpp"
#include "m3i/train/segmentation.hpp"

#include <filesystem>

#include <unistd.h>

using namespace m3i;
using Catch::Contains;

namespace {

struct Scratch {
  std::string path = (std::filesystem::temp_directory_path() / text("m3i-backbone-", long(::getpid()))).string();
  Scratch() { std::filesystem::create_directories(path); }
  ~Scratch() { std::filesystem::remove_all(path); }
};

MethodConfig unetr_config() {
  MethodConfig c;
  c.network.backbone = choice::Backbone::unetr;
  c.network.image_size = 32;
  c.network.unetr = {.hidden = 16, .layers = 4, .heads = 2, .mlp = 32, .feature_size = 4};
  return c;
}

/// Values by name.
template <class Module>
std::map<std::string, std::vector<float>> values(const Module& module) {
  std::map<std::string, std::vector<float>> out;
  for (const auto& [name, p] : named_parameters<float>(module)) out[name] = p.value().to_vector();
  return out;
}

}  // namespace

TEST_CASE("unetr backbone: the configuration's options, and PSAT's width", "[train][fast]") {
  MethodConfig c = unetr_config();
  c.network.checkpointing = true;
  const auto o = std::get<UnetrOptions>(backbone_options(c.network, 3));
  CHECK((o.in_channels == 1 && o.out_channels == 3 && o.image == Index3{32, 32, 32} && o.checkpoint));
  CHECK((o.hidden == 16 && o.layers == 4 && o.heads == 2 && o.mlp == 32 && o.feature_size == 4));
  CHECK(psat_options(c, 8).volume_channels == 16);
  CHECK(network_text(c.network) == "unetr 32, hidden 16, feature size 4");

  const NetworkConfig published;
  CHECK(std::holds_alternative<NnFormerOptions>(backbone_options(published, 1)));
  CHECK(psat_options({}, 8).volume_channels == 768);
  CHECK(network_text(published) == "nnformer 128, embedding 96");  // as in checkpoints from before there was UNETR
  const UnetrConfig u;
  const UnetrOptions defaults;
  CHECK((u.hidden == defaults.hidden && u.layers == defaults.layers && u.heads == defaults.heads));
  CHECK((u.mlp == defaults.mlp && u.feature_size == defaults.feature_size));
}

TEST_CASE("unetr backbone: fine-tuning takes all but the head from the file", "[train][fast]") {
  const Scratch scratch;
  const MethodConfig config = unetr_config();
  const std::string path = scratch.path + "/pretrained.safetensors";
  const SegmentationModel<float> pretrained(config, 1);
  write_model<float>(path, pretrained, {"pretrained", config, {}, {}, {}});
  const ModelFile file = read_model(path);
  CHECK(file.info.config.network.backbone == choice::Backbone::unetr);

  const SegmentationModel<float> model(config, 5);
  const auto head = values(std::get<Unetr<float>>(model.network.network).out);
  CHECK(load_pretrained(model, file).complete());
  CHECK(values(model.body()) == values(pretrained.body()));
  CHECK(values(std::get<Unetr<float>>(model.network.network).out) == head);

  const ClassificationModel<float> classifier(config, 2);
  CHECK(load_pretrained(classifier, file).complete());
  CHECK(values(classifier.body()) == values(pretrained.network.encoder()));
  CHECK(classifier.head.fc.weight.shape() == Shape{2, 16});

  write_model<float>(path, classifier, {"classification", config, {"a", "b"}, {}, {}});
  CHECK_THROWS_WITH(load_pretrained(model, read_model(path)), Contains("missing: encoder1"));
  const Var<float> x(testing::wave<float>({1, 32, 32, 32, 1}));
  CHECK(load_classification_model(read_model(path), Device::cpu())(x).value().to_vector() ==
        classifier(x).value().to_vector());

  const MethodConfig nnformer;
  CHECK_THROWS_WITH(start_from_pretrained("test", SegmentationModel<float>(config, 2), path, nnformer),
                    Contains("network.backbone: \"unetr\" against \"nnformer\""));
}

TEST_CASE("unetr backbone: bf16 and f16 give float's outputs and gradients to their precision", "[train][fast]") {
  const MethodConfig config = unetr_config();
  seed_initializer(1);
  const SegmentationModel<float> model(config, 3);
  const auto labels = Tensor<std::int64_t>::full({1, 32, 32, 32}, 1);
  const auto run = [&](choice::Dtype dtype) {
    for (const auto& p : parameters<float>(model)) p.clear_grad();
    const MixedNetwork<SegmentationModel> network(dtype, model, config, Index(3));
    network.precision().scale.exponent = dtype == choice::Dtype::f16 ? 6 : 0;
    const auto y = network(Var<float>(testing::wave<float>({1, 32, 32, 32, 1})));
    REQUIRE(y.size() == 1);
    backward(segmentation_loss(y, labels, config.segmentation));
    network.precision().collect();
    std::vector<float> out = y[0].value().to_vector(), gradients;
    for (const auto& p : parameters<float>(model))
      for (const float g : p.grad().to_vector()) gradients.push_back(g);
    return std::pair(out, gradients);
  };
  const auto difference = [](const std::vector<float>& a, const std::vector<float>& b) {
    double error = 0, norm = 0;
    for (std::size_t i = 0; i < a.size(); ++i) error += std::pow(double(a[i]) - b[i], 2), norm += double(b[i]) * b[i];
    return std::sqrt(error / norm);
  };
  const auto exact = run(choice::Dtype::f32), half = run(choice::Dtype::f16), rounded = run(choice::Dtype::bf16);
  CHECK(difference(half.first, exact.first) < 4e-3);
  CHECK(difference(rounded.first, exact.first) < 3e-2);
  CHECK(difference(half.second, exact.second) < 1e-2);
  CHECK(difference(rounded.second, exact.second) < 4e-2);
}
