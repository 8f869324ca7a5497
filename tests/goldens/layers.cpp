// Single operations and optimisers against the reference arrays of `layers/`.

#include "../catch.hpp"
#include "harness.hpp"
#include "m3i/ops.hpp"
#include "m3i/optim.hpp"

namespace {

using namespace goldens;

/// One case: its options, its inputs by name (in the reference's layout), labels, and the shape of the result.
template <class T>
struct LayerCase {
  Json options;
  std::map<std::string, Var<T>> in;
  Tensor<std::int64_t> labels;
  Shape out;

  const Var<T>& operator[](const char* name) const { return in.at(name); }
  Var<T> maybe(const char* name) const { return in.count(name) ? in.at(name) : Var<T>(); }
  std::array<Index, 3> triple(const char* name) const {
    const auto v = options.at(name).get<std::vector<Index>>();
    return {v.at(0), v.at(1), v.at(2)};
  }
};

/// N C ... -> N ... C and O I k k k -> O k k k I: the same move of an axis.
template <class T>
Var<T> channels_last(const Var<T>& x) {
  std::vector<int> axes{0};
  for (int i = 2; i < x.rank(); ++i) axes.push_back(i);
  axes.push_back(1);
  return permute(x, axes);
}
template <class T>
Var<T> channels_first(const Var<T>& x) {
  std::vector<int> axes{0, x.rank() - 1};
  for (int i = 1; i + 1 < x.rank(); ++i) axes.push_back(i);
  return permute(x, axes);
}
template <class T, class F>
Var<T> in_channels_last(const Var<T>& x, const F& f) {
  return channels_first(f(channels_last(x)));
}

template <class T>
using Builder = std::function<Var<T>(const LayerCase<T>&)>;

template <class T>
Var<T> scaled_dot_product(const LayerCase<T>& c) {  // [..., heads, L, d]: every head is a sequence of its own
  const auto flat = [](const Var<T>& x) {
    return reshape(x, {x.size() / (x.shape()[-1] * x.shape()[-2]), x.shape()[-2], x.shape()[-1]});
  };
  AttentionOptions<T> options;
  if (!c.in.count("b")) return reshape(attention(flat(c["q"]), flat(c["k"]), flat(c["v"]), options), c.out);
  // With a bias for each head: heads side by side in the channels.
  const auto packed = [](const Var<T>& x) {
    const Var<T> y = permute(x, {0, 2, 1, 3});
    return reshape(y, {y.shape()[0], y.shape()[1], y.shape()[2] * y.shape()[3]});
  };
  options.heads = c["q"].shape()[1];
  options.bias = c["b"];
  const Var<T> y = attention(packed(c["q"]), packed(c["k"]), packed(c["v"]), options);
  return permute(reshape(y, {c.out[0], c.out[2], c.out[1], c.out[3]}), {0, 2, 1, 3});
}

template <class T>
Var<T> multi_head(const LayerCase<T>& c) {
  const std::string op = c.options.at("op");
  AttentionOptions<T> options;
  options.heads = std::stoll(op.substr(op.find("heads ") + 6));
  const Index width = c["q"].shape()[-1];
  const auto part = [&](const Var<T>& x, Index i) {
    return linear(x, slice(c["in_proj_weight"], 0, i * width, (i + 1) * width),
                  slice(c["in_proj_bias"], 0, i * width, (i + 1) * width));
  };
  return linear(attention(part(c["q"], 0), part(c["kv"], 1), part(c["kv"], 2), options), c["out_w"], c["out_b"]);
}

template <class T>
Var<T> interpolated(const LayerCase<T>& c) {
  const bool nearest = c.options.at("mode") == "nearest", corners = c.options.value("align_corners", false);
  return in_channels_last(c["x"], [&](const Var<T>& x) {
    return interpolate(x, {c.out[2], c.out[3], c.out[4]}, nearest ? Interpolation::nearest : Interpolation::trilinear,
                       corners);
  });
}

/// The start of an operation's name in the metadata -> how it is built here. Longest match wins.
template <class T>
const std::map<std::string, Builder<T>>& builders() {
  using C = const LayerCase<T>&;
  static const std::map<std::string, Builder<T>> table{
      {"gelu_erf", [](C c) { return gelu(c["x"]); }},
      {"gelu_tanh", [](C c) { return gelu_tanh(c["x"]); }},
      {"relu", [](C c) { return relu(c["x"]); }},
      {"leaky_relu_",
       [](C c) { return leaky_relu(c["x"], std::stod(c.options.at("op").template get<std::string>().substr(11))); }},
      {"sigmoid", [](C c) { return sigmoid(c["x"]); }},
      {"tanh", [](C c) { return tanh(c["x"]); }},
      {"silu", [](C c) { return silu(c["x"]); }},
      {"softplus", [](C c) { return softplus(c["x"]); }},
      {"quick_gelu", [](C c) { return quick_gelu(c["x"]); }},
      {"softmax", [](C c) { return softmax(c["x"], c.options.at("axis")); }},
      {"log_softmax", [](C c) { return log_softmax(c["x"], c.options.at("axis")); }},
      {"logsumexp", [](C c) { return logsumexp(c["x"], c.options.at("axis")); }},
      {"linear", [](C c) { return linear(c["x"], c["weight"], c.maybe("bias")); }},
      {"batched matmul", [](C c) { return matmul(c["a"], c["b"]); }},
      {"matmul, leading axes broadcast", [](C c) { return matmul(c["a"], c["b"]); }},
      {"a*b+c with broadcasting", [](C c) { return c["a"] * c["b"] + c["c"]; }},
      {"layer_norm", [](C c) { return layer_norm(c["x"], c["weight"], c["bias"], c.options.value("eps", 1e-5)); }},
      {"instance_norm",
       [](C c) {
         return in_channels_last(c["x"], [&](const Var<T>& x) {
           return instance_norm(x, c.maybe("weight"), c.maybe("bias"), c.options.value("eps", 1e-5));
         });
       }},
      {"batch_norm",
       [](C c) {
         return in_channels_last(c["x"], [&](const Var<T>& x) {
           const auto running = RunningStats<T>::fresh(x.shape()[-1]);
           return batch_norm(x, c["weight"], c["bias"], running, true);
         });
       }},
      {"group_norm",
       [](C c) {
         return in_channels_last(c["x"], [&](const Var<T>& x) {
           return group_norm(x, c.options.at("groups").template get<Index>(), c["weight"], c["bias"]);
         });
       }},
      {"conv3d",
       [](C c) {
         return in_channels_last(c["x"], [&](const Var<T>& x) {
           Conv3dSpec spec;
           spec.stride = c.triple("stride");
           spec.padding = c.triple("padding");
           spec.dilation = c.triple("dilation");
           spec.groups = c.options.at("groups");
           return conv3d(x, channels_last(c["weight"]), c.maybe("bias"), spec);
         });
       }},
      {"conv_transpose3d",
       [](C c) {
         return in_channels_last(c["x"], [&](const Var<T>& x) {
           Conv3dSpec spec;
           spec.stride = c.triple("stride");
           spec.padding = c.triple("padding");
           spec.output_padding = c.triple("output_padding");
           return conv_transpose3d(x, channels_last(c["weight"]), c.maybe("bias"), spec);
         });
       }},
      {"max_pool3d",
       [](C c) {
         return in_channels_last(c["x"], [&](const Var<T>& x) {
           const Index k = c.options.at("kernel"), s = c.options.at("stride");
           return max_pool3d(x, {k, k, k}, {s, s, s});
         });
       }},
      {"avg_pool3d",
       [](C c) {
         return in_channels_last(c["x"], [&](const Var<T>& x) {
           const Index k = c.options.at("kernel"), s = c.options.at("stride");
           return avg_pool3d(x, {k, k, k}, {s, s, s});
         });
       }},
      {"global average", [](C c) { return reshape(global_avg_pool(channels_last(c["x"])), c.out); }},
      {"interpolate", [](C c) { return interpolated(c); }},
      {"roll",
       [](C c) {
         return roll(c["x"], c.options.at("shifts").template get<std::vector<Index>>(),
                     c.options.at("axes").template get<std::vector<int>>());
       }},
      {"zero pad",
       [](C c) {
         std::vector<std::array<Index, 2>> widths(std::size_t(c["x"].rank()), {0, 0});
         const char* names[] = {"last axis", "second last", "third last"};
         for (std::size_t i = 0; i < 3; ++i)
           widths[widths.size() - 1 - i] = c.options.at(names[i]).template get<std::array<Index, 2>>();
         return pad(c["x"], widths);
       }},
      {"scaled dot-product attention", [](C c) { return scaled_dot_product(c); }},
      {"attention", [](C c) { return scaled_dot_product(c); }},
      {"multi-head attention", [](C c) { return multi_head(c); }},
      {"cross_entropy", [](C c) { return cross_entropy(c["x"], c.labels, c.options.value("label_smoothing", 0.0)); }},
      {"cross_entropy, logits N C D H W", [](C c) { return cross_entropy(channels_last(c["x"]), c.labels); }},
      {"binary cross-entropy with logits", [](C c) { return bce_with_logits(c["x"], c["t"]); }},
      {"mse", [](C c) { return mse_loss(c["x"], c["y"]); }},
      {"soft Dice loss: softmax, background included", [](C c) { return dice_loss(channels_last(c["x"]), c.labels); }},
      {"soft Dice loss without background, squared denominators",
       [](C c) {
         DiceOptions options;
         options.include_background = false;
         options.squared = true;
         return dice_loss(channels_last(c["x"]), c.labels, options);
       }},
  };
  return table;
}

/// Runs one case; no results when nothing here builds its operation.
template <class T>
std::vector<Comparison> run_layer(const SafeTensors& file, const std::string& name, Sabotage sabotage = {}) {
  LayerCase<T> c;
  c.options = Json::parse(file.metadata().at(name));
  const std::string op = c.options.at("op");
  const Builder<T>* build = nullptr;
  std::size_t longest = 0;
  for (const auto& [start, builder] : builders<T>())
    if (op.rfind(start, 0) == 0 && start.size() >= longest) build = &builder, longest = start.size();
  if (!build) return {};
  const std::string inputs = name + "/in.";
  for (const auto& [key, entry] : file.entries()) {
    if (key.rfind(inputs, 0) != 0) continue;
    if (entry.dtype == "I64") c.labels = file.tensor<std::int64_t>(key);
    else c.in.emplace(key.substr(inputs.size()), leaf<T>(file, key));
  }
  c.out = file.entry(name + "/out").shape;
  const Var<T> y = (*build)(c);
  backward(y, cast<T>(m3i::detail::probe_weights(y.shape(), Device::cpu())));
  Comparer<T> compare(file, name, sabotage);
  compare.check(name + "/out", y.value());
  for (const auto& [input, var] : c.in)
    if (file.contains(name + "/grad." + input)) compare.check(name + "/grad." + input, var.grad());
  return compare.results;
}

bool is_layer_file(const SafeTensors& file) {
  for (const auto& [key, value] : file.metadata())
    if (file.contains(key + "/out") && value.rfind("{", 0) == 0) return true;
  return false;
}

/// "adamw lr=0.05 weight_decay=0.1 betas=0.8,0.95" and its like.
struct OptimizerText {
  std::string kind;
  std::map<std::string, std::string> options;
  explicit OptimizerText(const std::string& words) {
    std::size_t at = 0;
    while (at < words.size()) {
      const std::size_t end = std::min(words.find(' ', at), words.size());
      const std::string word = words.substr(at, end - at);
      const std::size_t equals = word.find('=');
      if (kind.empty()) kind = word;
      else options[word.substr(0, equals)] = equals == word.npos ? "" : word.substr(equals + 1);
      at = end + 1;
    }
  }
  bool has(const char* key) const { return options.count(key) != 0; }
  double number(const char* key, double otherwise) const { return has(key) ? std::stod(options.at(key)) : otherwise; }
};

template <class T, class Optimizer>
Tensor<T> trace(Optimizer& optimizer, const Var<T>& p, const Tensor<T>& grads, double clip) {
  const Tensor<T> out(grads.shape());
  for (Index step = 0; step < grads.shape()[0]; ++step) {
    p.clear_grad();
    p.grad().copy_from(grads[step]);
    if (clip > 0) clip_gradients<T>({p}, clip);
    optimizer.step();
    out[step].copy_from(p.value());
  }
  return out;
}

template <class T>
std::vector<Comparison> run_optimizer(const SafeTensors& file, const std::string& key, Sabotage sabotage = {}) {
  const OptimizerText o(key.substr(6));
  const Var<T> p(file.tensor<T>("param0"), true);
  const Tensor<T> grads = file.tensor<T>("grads");
  Comparer<T> compare(file, "optimizers", sabotage);
  if (o.kind == "sgd") {
    Sgd<T> sgd({p}, {o.number("lr", 0), o.number("momentum", 0), o.number("weight_decay", 0), o.has("nesterov")});
    compare.check(key, trace<T>(sgd, p, grads, o.number("clip_norm", 0)));
  } else if (o.kind == "adam" || o.kind == "adamw") {
    AdamOptions options;
    options.lr = o.number("lr", 0);
    options.weight_decay = o.number("weight_decay", 0);
    options.decoupled = o.kind == "adamw";
    options.amsgrad = o.has("amsgrad");
    if (o.has("betas")) {
      const std::string betas = o.options.at("betas");
      options.beta1 = std::stod(betas);
      options.beta2 = std::stod(betas.substr(betas.find(',') + 1));
    }
    Adam<T> adam({p}, options);
    compare.check(key, trace<T>(adam, p, grads, o.number("clip_norm", 0)));
  }
  return compare.results;
}

void report(const std::vector<Comparison>& results, const std::string& what) {
  if (results.empty()) WARN("skipped: " << what << " (no such operation here)");
  for (const auto& r : results) {
    INFO(r.text());
    CHECK(r.ok());
  }
}

}  // namespace

TEST_CASE("layers: every reference operation gives the reference's values and gradients", "[golden]") {
  if (!goldens::present()) WARN("only the small set is here: no golden files at " << goldens::root());
  int cases = 0;
  for (const auto& path : goldens::files()) {
    const SafeTensors file(path);
    if (!is_layer_file(file)) continue;
    for (const auto& [name, options] : file.metadata()) {
      if (!file.contains(name + "/out")) continue;
      INFO(path << ": " << name);
      report(run_layer<double>(file, name), name);
      report(run_layer<float>(file, name), name);
      ++cases;
    }
  }
  INFO("cases: " << cases);
  CHECK(cases > 0);
}

TEST_CASE("layers: a changed digit in any reference value is noticed", "[golden]") {
  for (const auto& path : goldens::files()) {
    const SafeTensors file(path);
    if (!is_layer_file(file)) continue;
    for (const auto& [name, options] : file.metadata()) {
      if (!file.contains(name + "/out")) continue;
      INFO(name);
      for (const auto& r : run_layer<double>(file, name, {true})) CHECK_FALSE(r.ok());
    }
  }
}

TEST_CASE("optimisers: six steps follow the reference", "[golden]") {
  for (const auto& path : goldens::files()) {
    const SafeTensors file(path);
    if (!file.contains("param0") || !file.contains("grads")) continue;
    for (const auto& key : file.names()) {
      if (key.rfind("trace/", 0) != 0) continue;
      report(run_optimizer<double>(file, key), key);
      report(run_optimizer<float>(file, key), key);
      for (const auto& r : run_optimizer<double>(file, key, {true})) CHECK_FALSE(r.ok());
    }
  }
}
