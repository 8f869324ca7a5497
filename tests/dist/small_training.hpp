#pragma once
/// Five steps of training that give the same on any number of ranks: for forked ranks and for those of mpirun.

#include "m3i/autodiff/checkpoint.hpp"
#include "m3i/dist/all_gather.hpp"
#include "m3i/dist/data_parallel.hpp"
#include "m3i/nn/mlp.hpp"
#include "m3i/ops/arithmetic.hpp"
#include "m3i/ops/loss.hpp"
#include "m3i/ops/norm.hpp"
#include "m3i/ops/reduce.hpp"
#include "m3i/optim/adam.hpp"
#include "m3i/ot/mpot_loss.hpp"
#include "m3i/testing.hpp"

namespace m3i::testing {

inline constexpr Index batch = 8, in = 6, width = 5;

/// Two layers, a metric and a temperature: parameters inside and behind the gathered loss.
template <class T>
struct Small {
  Mlp<T> mlp{in, 7, width};
  Var<T> metric{identity_metric<T>(width), true};
  Var<T> log_scale{Tensor<T>::scalar(T(1)), true};
  M3I_FIELDS(mlp, metric, log_scale)
};

template <class T>
struct Trace {
  Tensor<T> losses, weights;
};

/// Five steps of Adam on a fixed global batch, of which this rank computes its rows.
template <class T>
Trace<T> train(Communicator& c, bool recompute) {
  seed_initializer(5 + std::uint64_t(c.rank()));  // other values on each rank, until they are broadcast
  if (c.rank() == 0) seed_initializer(5);
  const Small<T> model;
  const auto learned = parameters<T>(model);
  DataParallel<T> parallel(c, learned, 64);  // small buckets: several
  Adam<T> adam(learned, {.lr = 1e-2});
  const BatchShard shard = batch_shard(c, batch);
  const auto rows = [&](const Tensor<T>& x) { return Var<T>(x.slice(shard.first, shard.first + shard.count)); };
  const auto x = wave<T>({batch, in}), s = wave<T>({batch, width}, 3);
  Trace<T> trace{Tensor<T>(Shape{5}), {}};
  for (Index step = 0; step < 5; ++step) {
    for (const auto& p : learned) p.clear_grad();
    const auto network = [&](const std::vector<Var<T>>& v) { return model.mlp(v[0]); };
    const std::vector<Var<T>> input{rows(x)};
    const Var<T> h = l2_normalize(recompute ? checkpoint<T>(network, input) : network(input));
    const Var<T> all = all_gather(c, h), target = all_gather(c, rows(s));
    const Var<T> loss = mpot_loss(all, std::vector<Var<T>>{target}, model.metric).loss +
                        info_nce(all, l2_normalize(target), model.log_scale) + mse_loss(h, rows(s));
    parallel.backward(loss);
    if (c.size() > 1 && !recompute) require<Error>(parallel.early() > 0, "no bucket left during backward");
    adam.step();
    const auto value = Tensor<T>::scalar(loss.value().item() / T(c.size()));
    c.all_reduce_sum(value);
    trace.losses.data()[step] = value.item();
  }
  std::vector<T> weights;
  for (const auto& p : learned)
    for (const T v : p.value().to_vector()) weights.push_back(v);
  trace.weights = Tensor<T>::from(weights, Shape{Index(weights.size())});
  return trace;
}

template <class T>
void require_close(const Tensor<T>& a, const Tensor<T>& b, double tolerance, const char* what) {
  for (Index i = 0; i < a.size(); ++i)
    require<Error>(
        std::abs(double(a.data()[i]) - double(b.data()[i])) <= tolerance * std::max(1.0, std::abs(double(b.data()[i]))),
        what, " ", i, ": ", double(a.data()[i]), " instead of ", double(b.data()[i]));
}

}  // namespace m3i::testing
