#include "m3i/models.hpp"
#include "../catch.hpp"
#include "../devices.hpp"
#include "m3i/kernels/reduce.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {

PsatOptions small_psat(PsatKind kind) {
  PsatOptions o;
  o.kind = kind;
  o.volume_channels = 12;
  o.tower_width = 10;
  o.width = 8;
  o.queries = 3;
  o.heads = 2;
  o.slices = 5;
  return o;
}

NnFormerOptions small_nnformer(Index3 image) {
  NnFormerOptions o;
  o.image = image;
  o.out_channels = 2;
  o.embedding = 4;
  o.depths = {1, 1, 1, 1};
  o.heads = {1, 1, 1, 1};
  o.variant = NnFormerVariant::synapse;
  return o;
}

}  // namespace

TEST_CASE("psat: unit rows that depend on plane and slice only once the embedding has learned", "[models]") {
  seed_initializer(1);
  const Psat<double> psat(small_psat(PsatKind::plane_slice_queries));
  const Var<double> volume(testing::wave<double>({2, 2, 2, 3, 12}));
  const auto at = [&](Index plane, Index slice) { return psat(volume, {plane, 0}, {slice, 1}).value().to_vector(); };
  const auto before = at(0, 0);
  CHECK(before.size() == 20);
  double norm = 0;
  for (int i = 0; i < 10; ++i) norm += before[std::size_t(i)] * before[std::size_t(i)];
  CHECK(norm == Approx(1));
  CHECK(at(2, 4) == before);  // V_p starts at zero
  psat.plane_slice.value().copy_from(testing::wave<double>({3, 5, 8}));
  const auto here = at(0, 0), there = at(2, 4);
  CHECK(here != there);
  CHECK(std::equal(here.begin() + 10, here.end(), there.begin() + 10));  // the second volume kept its slice
}

TEST_CASE("psat: gradients of volume and every parameter, for each ablation", "[models]") {
  for (const PsatKind kind : {PsatKind::pooled, PsatKind::queries, PsatKind::plane_slice_queries}) {
    seed_initializer(2);
    const Psat<double> psat(small_psat(kind));
    const auto report = gradcheck(
        [&](const auto& v) {
          return psat(v[0], {0, 2}, {1, 3});
        },
        {testing::wave<double>({2, 2, 2, 3, 12})});
    INFO(report.text());
    CHECK(report.worst < 1e-6);
    for (const auto& [name, p] : named_parameters<double>(psat)) {
      INFO(name);
      CHECK(p.has_grad());
    }
  }
}

TEST_CASE("psat: plane or slice outside the embedding is refused", "[models][errors]") {
  const Psat<float> psat(small_psat(PsatKind::plane_slice_queries));
  const Var<float> volume(testing::wave<float>({1, 2, 2, 2, 12}));
  CHECK_THROWS_WITH(psat(volume, {3}, {0}), Catch::Contains("plane 3"));
  CHECK_THROWS_WITH(psat(volume, {0}, {5}), Catch::Contains("slice bin 5"));
  CHECK_THROWS_WITH(psat(volume, {0, 1}, {0, 1}), Catch::Contains("2 planes"));
}

TEST_CASE("nnformer: any input size gives outputs on its grid", "[models]") {
  seed_initializer(3);
  const NnFormer<float> net(small_nnformer({32, 32, 32}));
  for (const Shape& shape : {Shape{1, 32, 32, 32, 1}, Shape{2, 33, 40, 36, 1}, Shape{1, 37, 32, 50, 1}}) {
    const auto outputs = net(Var<float>(testing::wave<float>(shape)));
    INFO(shape.text());
    REQUIRE(outputs.size() == 3);
    Shape expected = shape;
    expected[4] = 2;
    CHECK(outputs[0].shape() == expected);
    CHECK(count_non_finite(outputs[0].value()) == 0);
  }
}

TEST_CASE("nnformer: stochastic depth drops in training only, and checkpointing changes no bit", "[models]") {
  const auto gradient = [](bool checkpointed, bool training) {
    seed_initializer(4);
    NnFormerOptions o = small_nnformer({32, 32, 32});
    o.drop_path = 0.5;
    o.depths = {2, 1, 1, 1};  // the decoder has a block to checkpoint too
    o.checkpoint = checkpointed;
    const NnFormer<float> net(o);
    Random random(9);
    const auto y = net(Var<float>(testing::wave<float>({2, 32, 32, 32, 1})), {training, &random})[0];
    backward(mean(square(y)));
    return net.model_down.patch_embed.proj1.conv1.weight.grad().to_vector();
  };
  CHECK(gradient(false, true) == gradient(true, true));
  CHECK(gradient(false, true) != gradient(false, false));
}

TEST_CASE("nnformer: every device agrees with the host", "[models]") {
  seed_initializer(5);
  const NnFormer<double> net(small_nnformer({32, 32, 32}));
  const auto x = testing::wave<double>({1, 32, 32, 32, 1});
  const auto host = net(Var<double>(x))[0].value();
  for (const Device device : other_devices()) {
    to(net, device);
    CHECK(testing::relative_difference(net(Var<double>(x.to(device)))[0].value(), host) < 1e-10);
  }
}

TEST_CASE("nnformer: a wrong number of channels and an input that is too small are named", "[models][errors]") {
  const NnFormer<float> net(small_nnformer({32, 32, 32}));
  CHECK_THROWS_WITH(net(Var<float>(testing::wave<float>({1, 32, 32, 32, 2}))), Catch::Contains("[N, D, H, W, 1]"));
  CHECK_THROWS_AS(NnFormer<float>(small_nnformer({16, 16, 16})), ConfigError);
  const auto refused = [](const auto& change, const char* words) {
    NnFormerOptions o = small_nnformer({32, 32, 32});
    change(o);
    CHECK_THROWS_WITH(NnFormer<float>(o), Catch::Contains(words));
  };
  refused([](auto& o) { o.patch = {4, 0, 4}; }, "patch 0 of axis 1");
  refused([](auto& o) { o.embedding = 5; }, "embedding 5");
  refused([](auto& o) { o.depths[2] = 0; }, "stage 2 has depth 0");
  const ClipOptions no_patch{.patch = 0};
  CHECK_THROWS_WITH(ClipImageEmbeddings<float>(no_patch), Catch::Contains("not a multiple of patch 0"));
  const Psat<float> psat(small_psat(PsatKind::pooled));
  CHECK_THROWS_WITH(psat(Var<float>(Tensor<float>({0, 2, 2, 2, 12})), {}, {}), Catch::Contains("non-empty"));
}

TEST_CASE("clip: wrong pictures and texts are refused with their shapes", "[models][errors]") {
  ClipOptions o;
  o.vision = {16, 1, 2, 32, Activation::quick_gelu};
  o.text = {8, 1, 2, 16, Activation::quick_gelu};
  o.image = 8;
  o.patch = 4;
  o.vocabulary = 20;
  o.context = 6;
  o.projection = 5;
  const Clip<float> clip(o);
  CHECK_THROWS_WITH(clip.encode_image(Var<float>(Tensor<float>::zeros({1, 8, 9, 3}))), Catch::Contains("[N, 8, 8, 3]"));
  CHECK_THROWS_WITH(clip.encode_text(Tensor<std::int64_t>::zeros({1, 7})), Catch::Contains("up to 6"));
  CHECK_THROWS_WITH(clip.encode_text(Tensor<std::int64_t>::from({20}, {1, 1})), Catch::Contains("id 20"));
  o.image = 9;
  CHECK_THROWS_AS(Clip<float>(o), ConfigError);
}

TEST_CASE("modules: parameters have the published names, can be copied, frozen and counted", "[models]") {
  seed_initializer(6);
  const NnFormer<double> net(small_nnformer({32, 32, 32}));
  const NnFormer<float> copy(small_nnformer({32, 32, 32}));
  copy_parameters(net, copy);
  const auto names = named_parameters<float>(copy);
  const auto has = [&](const std::string& name) {
    return std::any_of(names.begin(), names.end(), [&](const auto& n) { return n.first == name; });
  };
  CHECK(has("model_down.patch_embed.proj1.conv1.weight"));
  CHECK(has("model_down.layers.2.blocks.0.attn.relative_position_bias_table"));
  CHECK(has("decoder.layers.0.blocks.0.attn.kv.weight"));
  CHECK(has("decoder.layers.1.Upsample.up.bias"));
  CHECK(has("final.2.up.weight"));
  CHECK(count_parameters(net) == count_parameters(copy));
  const Var<double> x(testing::wave<double>({1, 32, 32, 32, 1}));
  CHECK(testing::relative_difference(copy(Var<float>(cast<float>(x.value())))[0].value(), net(x)[0].value()) < 1e-4);
  set_trainable(copy, false);
  CHECK_FALSE(copy(Var<float>(cast<float>(x.value())))[0].needs_grad());
}

TEST_CASE("unetr: shapes, checkpointing and options that make no network", "[models]") {
  const UnetrOptions options{.in_channels = 2,
                             .out_channels = 3,
                             .image = {16, 32, 16},
                             .feature_size = 2,
                             .hidden = 8,
                             .mlp = 16,
                             .heads = 2,
                             .layers = 4};
  seed_initializer(3);
  const Unetr<double> net(options);
  const Var<double> x(testing::wave<double>({1, 16, 32, 16, 2}));
  const auto maps = net.encode(x);
  CHECK(maps[0].shape() == Shape{1, 1, 2, 1, 8});
  const Var<double> y = net(x);
  CHECK(y.shape() == Shape{1, 16, 32, 16, 3});
  CHECK_THROWS_WITH(net(Var<double>(testing::wave<double>({1, 16, 16, 16, 2}))),
                    Catch::Contains("fix its input size") && Catch::Contains("[1, 16, 16, 16, 2]"));

  backward(mean(y * y));
  UnetrOptions again = options;
  again.checkpoint = true;
  seed_initializer(3);
  const Unetr<double> checkpointed(again);
  backward(mean(square(checkpointed(x))));
  const auto a = named_parameters<double>(net), b = named_parameters<double>(checkpointed);
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    INFO(a[i].first);
    CHECK(testing::relative_difference(a[i].second.grad(), b[i].second.grad()) < 1e-12);
  }

  const auto refused = [&](auto change, const char* words) {
    UnetrOptions o = options;
    change(o);
    CHECK_THROWS_WITH(Unetr<float>(o), Catch::Contains(words));
  };
  refused([](UnetrOptions& o) { o.image[1] = 40; }, "axis 1");
  refused([](UnetrOptions& o) { o.heads = 3; }, "3 heads");
  refused([](UnetrOptions& o) { o.layers = 6; }, "multiple of 4");
  refused([](UnetrOptions& o) { o.feature_size = 0; }, "feature size");
}
