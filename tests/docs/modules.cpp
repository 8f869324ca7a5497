/// Code of docs/3-modules.md.

#include "../catch.hpp"

#include <filesystem>

#include "m3i/autodiff.hpp"
#include "m3i/nn.hpp"
#include "m3i/ops/loss.hpp"
#include "m3i/optim.hpp"
#include "m3i/train/weights.hpp"

using namespace m3i;

// [block]
/// Pre-norm transformer block: attention, then an MLP, each added to its input.
template <class T>
struct Block {
  LayerNorm<T> norm1;
  Attention<T> attn;
  LayerNorm<T> norm2;
  Mlp<T> mlp;

  Block(Index channels, Index heads)
      : norm1(channels), attn(channels, heads), norm2(channels), mlp(channels, 4 * channels) {}

  /// x [N, L, C] -> [N, L, C]
  Var<T> operator()(Var<T> x) const {
    const Var<T> y = norm1(x);
    x = x + attn(y, y);
    return x + mlp(norm2(x));
  }
  M3I_FIELDS(norm1, attn, norm2, mlp)
};

template <class T>
struct Classifier {
  std::vector<Block<T>> blocks;
  Linear<T> head;

  Classifier(Index channels, Index heads, Index depth, Index classes) : head(channels, classes) {
    for (Index i = 0; i < depth; ++i) blocks.emplace_back(channels, heads);
  }
  /// tokens [N, L, C] -> logits [N, classes]
  Var<T> operator()(Var<T> x) const {
    for (const auto& block : blocks) x = block(x);
    return head(mean(x, 1));
  }
  M3I_FIELDS(blocks, head)
};
// [block]

TEST_CASE("docs: fields are names, counts and files", "[docs]") {
  // [fields]
  seed_initializer(1);  // the same initial values every time
  const Classifier<float> network(16, 4, 2, 3);
  const auto named = named_parameters<float>(network);  // "blocks.0.norm1.weight", ..., "head.bias"
  const Index numbers = count_parameters(network);
  set_trainable(network.blocks, false);  // fine-tune the head only
  // [fields]
  CHECK(named.front().first == "blocks.0.norm1.weight");
  CHECK(named.back().first == "head.bias");
  CHECK(numbers == 2 * (2 * 32 + 4 * (16 * 16 + 16) + (16 * 64 + 64) + (64 * 16 + 16)) + 16 * 3 + 3);
  CHECK_FALSE(network.blocks[0].attn.q_proj.weight.needs_grad());

  const std::string path = (std::filesystem::temp_directory_path() / "m3i-docs-modules.safetensors").string();
  // [files]
  write_safetensors(path, state_arrays<float>(network));
  const Classifier<float> other(16, 4, 2, 3);
  const LoadReport report = load_module<float>(other, SafeTensors(path));  // strict: throws unless all fits
  // [files]
  CHECK(report.matched.size() == named.size());
  CHECK(other.head.weight.value().to_vector() == network.head.weight.value().to_vector());
  std::filesystem::remove(path);
}

TEST_CASE("docs: a training step", "[docs]") {
  const Classifier<float> network(16, 4, 1, 3);
  Random random(5);
  const Tensor<float> tokens = normal_tensor<float>({6, 10, 16}, random);
  const auto labels = Tensor<std::int64_t>::from({0, 1, 2, 0, 1, 2}, {6});
  // [step]
  const auto learned = parameters<float>(network);
  Adam<float> adam(learned, {.lr = 1e-2, .weight_decay = 0.01, .decoupled = true});  // AdamW
  const Schedule rate{ScheduleKind::cosine, 1e-2, 0, 5, 40};                         // warm-up of 5 steps, 40 in all
  double first = 0, last = 0;
  for (Index step = 0; step < 40; ++step) {
    adam.options.lr = rate(step);
    const Var<float> loss = cross_entropy(network(Var<float>(tokens)), labels);
    clear_gradients(learned);
    backward(loss);
    clip_gradients(learned, 1.0);  // by the norm of all gradients together
    adam.step();
    last = double(loss.value().item());
    if (step == 0) first = last;
  }
  // [step]
  CHECK(last < 0.2 * first);
}

TEST_CASE("docs: a training step in bf16", "[docs]") {
  const Classifier<float> network(16, 4, 1, 3);
  Random random(5);
  const Tensor<float> tokens = normal_tensor<float>({6, 10, 16}, random);
  const auto labels = Tensor<std::int64_t>::from({0, 1, 2, 0, 1, 2}, {6});
  Adam<float> adam(parameters<float>(network), {.lr = 1e-2});
  double first = 0, last = 0;
  // [mixed]
  const Classifier<bf16> small(16, 4, 1, 3);
  const MixedPrecision mixed(parameters<float>(network), parameters<bf16>(small));  // `small` is a rounded `network`
  for (Index step = 0; step < 40; ++step) {
    const Var<float> logits = cast<float>(small(cast<bf16>(Var<float>(tokens))), mixed.gradient_scale());
    const Var<float> loss = cross_entropy(logits, labels);
    clear_gradients(parameters<float>(network));
    backward(loss);
    mixed.collect();  // the gradients of `small` are now those of `network`, in float
    adam.step();
    mixed.refresh();  // and `small` is the new `network`, rounded
    last = double(loss.value().item());
    if (step == 0) first = last;
  }
  // [mixed]
  CHECK(last < 0.2 * first);
}

TEST_CASE("docs: training is a value, not hidden state", "[docs]") {
  const Var<float> x(Tensor<float>::full({4, 3}, 1.0f)), y(Tensor<float>::full({4, 3}, 2.0f));
  // [mode]
  Random random(1);
  const Mode evaluating, training{true, &random};
  const Var<float> plain = residual(x, y, 0.5, evaluating);  // x + y
  const Var<float> some = residual(x, y, 0.5, training);     // y is dropped for a sample with probability 0.5
  // [mode]
  CHECK(plain.value().to_vector() == std::vector<float>(12, 3.0f));
  for (const float v : some.value().to_vector()) CHECK((v == 1.0f || v == 5.0f));
}
