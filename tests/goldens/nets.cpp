// Whole networks against the reference arrays of `nets/` and `clip/`.

#include "../catch.hpp"
#include "harness.hpp"
#include "m3i/models.hpp"

#include <fstream>

namespace {

using namespace goldens;

/// Reference layout -> ours: the second axis of a convolution weight or volume moves to the end.
template <class T>
Tensor<T> second_axis_last(const Tensor<T>& x) {
  if (x.rank() < 4) return x;
  std::vector<int> axes{0};
  for (int i = 2; i < x.rank(); ++i) axes.push_back(i);
  axes.push_back(1);
  return permute(Var<T>(x), axes).value();
}
template <class T>
Tensor<T> last_axis_second(const Tensor<T>& x) {
  if (x.rank() < 4) return x;
  std::vector<int> axes{0, x.rank() - 1};
  for (int i = 1; i + 1 < x.rank(); ++i) axes.push_back(i);
  return permute(Var<T>(x), axes).value();
}

/// Every parameter by its name; a name that is missing here or there is a failure.
template <class T, class Module>
void load(const Module& module, const SafeTensors& weights) {
  std::size_t used = 0, buffers = 0;
  for_each_parameter(module, [&](const std::string& name, const Var<T>& p) {
    INFO(name);
    REQUIRE(weights.contains(name));
    p.set_value(second_axis_last(weights.tensor<T>(name)));
    ++used;
  });
  for (const auto& name : weights.names()) buffers += name.find("relative_position_index") != name.npos;
  CHECK(used + buffers == weights.names().size());
}

/// sum over outputs of mean(output w), w.flat[i] = sin(i + 1) in the reference's order of axes.
template <class T>
Tensor<T> output_weight(const Shape& shape) {
  Shape reference{shape[0], shape[4], shape[1], shape[2], shape[3]};
  return second_axis_last(cast<T>(m3i::detail::probe_weights(reference, Device::cpu())));
}

template <class T, class Module>
void check_gradients(Comparer<T>& compare, const SafeTensors& expected, const Module& module) {
  for_each_parameter(module, [&](const std::string& name, const Var<T>& p) {
    const Tensor<T> grad = last_axis_second(p.grad());
    if (expected.contains("grad." + name)) compare.check("grad." + name, grad);
    if (expected.contains("grad_head." + name)) {
      const Index n = expected.entry("grad_head." + name).shape.size();
      compare.check("grad_head." + name, grad.reshape({grad.size()}).slice(0, n));
    }
    if (expected.contains("grad_norm." + name)) {
      const T norm = T(std::sqrt(sum_of_squares(grad)));
      compare.check("grad_norm." + name, Tensor<T>::full(expected.entry("grad_norm." + name).shape, norm));
    }
  });
}

Index3 triple(const Json& v) { return {v.at(0), v.at(1), v.at(2)}; }
std::array<Index, 4> four(const Json& v) { return {v.at(0), v.at(1), v.at(2), v.at(3)}; }

NnFormerOptions nnformer_options(const std::map<std::string, std::string>& about) {
  const Json config = Json::parse(about.at("config"));
  NnFormerOptions o;
  o.variant = about.at("variant") == "synapse" ? NnFormerVariant::synapse : NnFormerVariant::tumor;
  o.image = triple(config.at("crop_size"));
  o.embedding = config.at("embedding_dim");
  o.in_channels = config.at("input_channels");
  o.out_channels = config.at("num_classes");
  o.depths = four(config.at("depths"));
  o.heads = four(config.at("num_heads"));
  o.patch = triple(config.at("patch_size"));
  o.window = four(config.at("window_size"));
  o.deep_supervision = about.at("deep_supervision") == "true";
  return o;
}

UnetrOptions unetr_options(const std::map<std::string, std::string>& about) {
  const Json config = Json::parse(about.at("config"));
  UnetrOptions o;
  o.in_channels = config.at("in_channels");
  o.out_channels = config.at("out_channels");
  o.image = triple(config.at("img_size"));
  o.feature_size = config.at("feature_size");
  o.hidden = config.at("hidden_size");
  o.mlp = config.at("mlp_dim");
  o.heads = config.at("num_heads");
  return o;
}

/// The loss of the reference and its gradients, after the outputs themselves.
template <class T, class Module>
void check_outputs(Comparer<T>& compare,
                   const SafeTensors& expected,
                   const std::vector<Var<T>>& outputs,
                   const Module& module) {
  Var<T> loss;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    compare.check(text("output.", i), last_axis_second(outputs[i].value()));
    const Var<T> term = mean(outputs[i] * Var<T>(output_weight<T>(outputs[i].shape())));
    loss = i == 0 ? term : loss + term;
  }
  compare.check("loss", loss.value());
  backward(loss);
  check_gradients(compare, expected, module);
}

/// Which network a folder holds; empty if it is none.
std::string network_of(const std::string& folder) {
  const auto about = SafeTensors(folder + "/expected.safetensors").metadata();
  return about.count("network") ? about.at("network") : "";
}
bool is_built(const std::string& network) { return network == "nnFormer" || network == "UNETR"; }

template <class T>
std::vector<Comparison> run_network(const std::string& folder, bool checkpointed, Sabotage sabotage = {}) {
  const SafeTensors weights(folder + "/weights.safetensors"), expected(folder + "/expected.safetensors");
  const Var<T> input(second_axis_last(expected.tensor<T>("input")));
  Comparer<T> compare(expected, folder, sabotage);
  if (network_of(folder) == "UNETR") {
    UnetrOptions options = unetr_options(expected.metadata());
    options.checkpoint = checkpointed;
    const Unetr<T> net(options);
    load<T>(net, weights);
    check_outputs<T>(compare, expected, {net(input)}, net);
    return compare.results;
  }
  NnFormerOptions options = nnformer_options(expected.metadata());
  options.checkpoint = checkpointed;
  const NnFormer<T> net(options);
  load<T>(net, weights);
  const auto skips = net.encode(input);
  for (std::size_t i = 0; i < skips.size(); ++i) compare.check(text("skip.", i), last_axis_second(skips[i].value()));
  check_outputs<T>(compare, expected, net.decode(skips, input.shape()), net);
  return compare.results;
}

template <class T>
std::vector<Comparison> run_clip(const std::string& folder, Sabotage sabotage = {}) {
  const SafeTensors weights(folder + "/weights_hf_names.safetensors"), expected(folder + "/expected.safetensors");
  std::ifstream stream(folder + "/config.json");
  const Json config = Json::parse(stream), text_config = config.at("text_config"), vision = config.at("vision_config");
  ClipOptions o;
  const auto tower = [](const Json& c) {
    return ClipTowerOptions{c.at("hidden_size"), c.at("num_hidden_layers"), c.at("num_attention_heads"),
                            c.at("intermediate_size"),
                            c.at("hidden_act") == "quick_gelu" ? Activation::quick_gelu : Activation::gelu};
  };
  o.text = tower(text_config);
  o.vision = tower(vision);
  o.image = vision.at("image_size");
  o.patch = vision.at("patch_size");
  o.vocabulary = text_config.at("vocab_size");
  o.context = text_config.at("max_position_embeddings");
  o.projection = config.at("projection_dim");
  const Clip<T> clip(o);
  load<T>(clip, weights);
  const Var<T> image(second_axis_last(expected.tensor<T>("image")));
  const auto ids = expected.tensor<std::int64_t>("token_ids");
  Comparer<T> compare(expected, folder, sabotage);
  const Var<T> images = clip.encode_image(image), texts = clip.encode_text(ids);
  compare.check("image_features", images.value());
  compare.check("text_features", texts.value());
  const Var<T> logits = exp(clip.logit_scale) * matmul(l2_normalize(images), l2_normalize(texts), false, true);
  compare.check("logits_per_image", logits.value());
  const Var<T> loss = info_nce(l2_normalize(images), l2_normalize(texts), clip.logit_scale);
  compare.check("loss", loss.value());
  backward(loss);
  check_gradients(compare, expected, clip);
  return compare.results;
}

/// Folders that hold a file of the given name, in order.
std::vector<std::string> folders_with(const std::string& name) {
  std::vector<std::string> found;
  for (const auto& path : goldens::files())
    if (fs::path(path).filename() == name) found.push_back(fs::path(path).parent_path().string());
  return found;
}

void report(const std::vector<Comparison>& results) {
  CHECK(!results.empty());
  for (const auto& r : results) {
    INFO(r.text());
    CHECK(r.ok());
  }
}

}  // namespace

TEST_CASE(
    "networks: features, outputs and gradients are the reference's; kinds that are not built are named as skipped",
    "[golden]") {
  M3I_NEEDS_GOLDENS();
  for (const auto& folder : folders_with("weights.safetensors")) {
    INFO(folder);
    if (!is_built(network_of(folder))) {
      WARN("skipped: " << folder << " (this network is not built yet)");
      continue;
    }
    report(run_network<double>(folder, false));
    report(run_network<float>(folder, false));
    report(run_network<double>(folder, true));
  }
}

TEST_CASE("networks: CLIP gives the reference's features, logits and gradients", "[golden]") {
  M3I_NEEDS_GOLDENS();
  for (const auto& folder : folders_with("weights_hf_names.safetensors")) {
    INFO(folder);
    report(run_clip<double>(folder));
    report(run_clip<float>(folder));
    for (const auto& r : run_clip<double>(folder, {true})) CHECK_FALSE(r.ok());
  }
}

TEST_CASE("networks: a changed digit in a reference network is noticed", "[golden]") {
  M3I_NEEDS_GOLDENS();
  for (const auto& folder : folders_with("weights.safetensors"))
    if (is_built(network_of(folder)))
      for (const auto& r : run_network<double>(folder, false, {true})) CHECK_FALSE(r.ok());
}
