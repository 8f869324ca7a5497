/// A backbone is the network that it was built from: names, outputs and gradients, to the bit.

#include "m3i/models/backbone.hpp"
#include "../catch.hpp"
#include "../devices.hpp"
#include "m3i/models/heads.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {

constexpr Index3 image{16, 32, 16};
const Shape input{2, 16, 32, 16, 2};  // of one channel alone, UNETR's shortcut would be normalised to a gradient of 0

NnFormerOptions small_nnformer() {
  NnFormerOptions o;
  o.in_channels = 2;
  o.image = image;
  o.out_channels = 2;
  o.embedding = 4;
  o.depths = {1, 1, 1, 1};
  o.heads = {1, 1, 1, 1};
  o.patch = {2, 2, 2};
  return o;
}
UnetrOptions small_unetr() {
  return {.in_channels = 2,
          .out_channels = 2,
          .image = image,
          .feature_size = 2,
          .hidden = 8,
          .mlp = 16,
          .heads = 2,
          .layers = 4};
}

template <class T>
std::vector<Var<T>> outputs_of(const NnFormer<T>& network, const Var<T>& x) {
  return network(x);
}
template <class T>
std::vector<Var<T>> outputs_of(const Unetr<T>& network, const Var<T>& x) {
  return {network(x)};
}

std::vector<std::string> names_of(const auto& module) {
  std::vector<std::string> names;
  for_each_parameter(module, [&](const std::string& name, const auto&) { names.push_back(name); });
  return names;
}
/// Those of `all` that begin so, or do not.
std::vector<std::string> beginning(const std::vector<std::string>& all,
                                   const std::vector<std::string>& starts,
                                   bool so) {
  std::vector<std::string> out;
  for (const std::string& name : all)
    if (so == std::any_of(starts.begin(), starts.end(), [&](const auto& s) { return name.rfind(s, 0) == 0; }))
      out.push_back(name);
  return out;
}

template <class Network>
void check_same(const BackboneOptions& options, const Network& network) {
  seed_initializer(11);
  const Backbone<float> backbone(options);
  const Var<float> x(testing::wave<float>(input));
  const auto expected = outputs_of(network, x), got = backbone(x);
  REQUIRE(got.size() == expected.size());
  Var<float> a, b;
  for (std::size_t i = 0; i < got.size(); ++i) {
    CHECK(got[i].value().to_vector() == expected[i].value().to_vector());
    const Var<float> p = mean(square(expected[i])), q = mean(square(got[i]));
    a = i == 0 ? p : a + p;
    b = i == 0 ? q : b + q;
  }
  backward(a);
  backward(b);
  const auto reference = named_parameters<float>(network), own = named_parameters<float>(backbone);
  REQUIRE(own.size() == reference.size());
  for (std::size_t i = 0; i < own.size(); ++i) {
    INFO(reference[i].first);
    CHECK(own[i].first == reference[i].first);
    CHECK(own[i].second.grad().to_vector() == reference[i].second.grad().to_vector());
  }

  const auto deepest = backbone.encode(x).back();
  CHECK(deepest.shape()[4] == deepest_channels(options));
  CHECK(backbone.encoder()(x).back().value().to_vector() == deepest.value().to_vector());
  const auto all = names_of(backbone);
  CHECK(names_of(backbone.body()) == beginning(all, backbone_heads, false));
  CHECK(names_of(backbone.encoder()) == beginning(all, backbone_decoders, false));
  CHECK(names_of(BackboneEncoder<float>(options)) == names_of(backbone.encoder()));
  CHECK(beginning(all, backbone_heads, true).size() >= 2);
}

}  // namespace

TEST_CASE("backbone: nnFormer and UNETR are themselves", "[models]") {
  seed_initializer(11);
  check_same(small_nnformer(), NnFormer<float>(small_nnformer()));
  seed_initializer(11);
  check_same(small_unetr(), Unetr<float>(small_unetr()));
}

TEST_CASE("backbone: every device agrees with the host, in outputs and gradients", "[models]") {
  for (const BackboneOptions& options : {BackboneOptions(small_unetr()), BackboneOptions(small_nnformer())}) {
    seed_initializer(12);
    const Backbone<double> backbone(options);
    const auto run = [&](Device device) {
      to(backbone, device);
      for (const auto& p : parameters<double>(backbone)) p.clear_grad();
      const Var<double> y = backbone(Var<double>(testing::wave<double>(input).to(device)))[0];
      backward(mean(square(y)));
      std::vector<Tensor<double>> all{y.value().to(Device::cpu())};
      for (const auto& p : parameters<double>(backbone))
        if (p.has_grad()) all.push_back(p.grad().to(Device::cpu()).clone());
      return all;
    };
    const auto host = run(Device::cpu());
    CHECK(host.size() > 20);
    for (const Device device : other_devices()) {
      const auto there = run(device);
      REQUIRE(there.size() == host.size());
      for (std::size_t i = 0; i < host.size(); ++i) {
        INFO(i);
        CHECK(testing::relative_difference(there[i], host[i]) < 1e-8);  // some gradients are zero but for rounding
      }
    }
  }
}
