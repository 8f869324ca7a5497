// The whole alignment path learns: volumes through nnFormer and PSAT to targets, with either loss.

#include "../catch.hpp"
#include "m3i/imaging/phantom.hpp"
#include "m3i/models.hpp"
#include "m3i/optim.hpp"
#include "m3i/ot.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {

constexpr Index count = 16, size = 32, width = 32;

/// Sixteen phantoms with slice and text features that agree as well as those of real towers do: a common part and
/// noise.
struct Triplets {
  Tensor<float> volumes{{count, size, size, size, 1}}, slices, texts;
  std::vector<Index> plane, slice;

  Triplets() {
    Random random(3);
    const auto common = normal_tensor<float>({count, width}, random),
               noise = normal_tensor<float>({count, width}, random, 0.5);
    const auto other = normal_tensor<float>({count, width}, random, 0.5);
    slices = l2_normalize(Var<float>(common) + Var<float>(noise)).value();
    texts = l2_normalize(Var<float>(common) + Var<float>(other)).value();
    for (Index i = 0; i < count; ++i) {
      PhantomOptions options;
      options.size = {size, size, size};
      const auto subject = make_phantom(1, i, options);
      const auto [low, high] =
          std::minmax_element(subject.image.voxels.span().begin(), subject.image.voxels.span().end());
      for (Index v = 0; v < size * size * size; ++v)
        volumes[i].data()[v] = (subject.image.voxels.data()[v] - *low) / (*high - *low);
      plane.push_back(i % 3);
      slice.push_back(i * 2);
    }
  }
};

struct Model {
  NnFormer<float> network;
  Psat<float> psat;
  Var<float> metric, log_scale;
  M3I_FIELDS(network, psat, metric, log_scale)
};

Model make_model() {
  seed_initializer(11);
  NnFormerOptions n;
  n.image = {size, size, size};
  n.embedding = 8;
  n.depths = {1, 1, 1, 1};
  n.heads = {1, 2, 4, 8};
  n.deep_supervision = false;
  PsatOptions p;
  p.volume_channels = 64;
  p.tower_width = width;
  p.width = 32;
  p.queries = 8;
  p.heads = 4;
  p.slices = 32;
  return {NnFormer<float>(n), Psat<float>(p), Var<float>(identity_metric<float>(width), true),
          constant_parameter<float>({}, 2.6)};
}

/// Minimises `loss` of the projected volumes for some steps; returns the last projection.
template <class Loss>
Tensor<float> overfit(const Model& model, const Triplets& data, int steps, const Loss& loss) {
  std::vector<Var<float>> learned = parameters<float>(model.network.model_down);
  for (const auto& p : parameters<float>(model.psat)) learned.push_back(p);
  learned.push_back(model.metric);
  learned.push_back(model.log_scale);
  Adam<float> adam(learned, {.lr = 1e-3});
  const auto project = [&] {
    return model.psat(model.network.encode(Var<float>(data.volumes)).back(), data.plane, data.slice);
  };
  for (int step = 0; step < steps; ++step) {
    clear_gradients(learned);
    backward(loss(project()));
    adam.step();
    project_psd(model.metric.value());
  }
  NoGrad guard;
  return project().value();
}

}  // namespace

TEST_CASE("mPOT overfits 16 triplets: nearly all mass of both plans is on the diagonal", "[models][slow]") {
  const Triplets data;
  const Model model = make_model();
  const MpotOptions options;
  const auto h = overfit(model, data, 80, [&](const Var<float>& x) {
    return mpot_loss(x, data.slices, data.texts, model.metric, options).loss;
  });
  const auto result = mpot_loss(Var<float>(h), data.slices, data.texts, model.metric, options);
  for (const auto& pair : result.pairs()) {
    INFO(pair.text());
    CHECK(pair.converged);
    CHECK(pair.diagonal_mass > 0.95 * options.mass);
  }
}

TEST_CASE("InfoNCE overfits 16 triplets: every volume finds its own slice and text", "[models][slow]") {
  const Triplets data;
  const Model model = make_model();
  const auto h = overfit(model, data, 80, [&](const Var<float>& x) {
    return info_nce(x, Var<float>(data.slices), model.log_scale) + info_nce(x, Var<float>(data.texts), model.log_scale);
  });
  for (const auto& target : {data.slices, data.texts}) {
    const auto p = softmax(matmul(Var<float>(h), Var<float>(target), false, true) *
                           std::exp(double(model.log_scale.value().item())))
                       .value();
    double diagonal = 0;
    for (Index i = 0; i < count; ++i) diagonal += double(p.data()[i * (count + 1)]) / double(count);
    CHECK(diagonal > 0.95);
  }
}
