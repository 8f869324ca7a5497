#pragma once
/// The gradients of attention. Probabilities are computed again from the kept log-sum-exp: p = exp(s - lse).

#include "m3i/kernels/attention.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// One team some heads of a group of batches, one batch after the other: it owns all gradients that it writes, so that
/// no two teams meet and the order of sums is fixed.
template <class T>
struct AttentionBackward {
  using A = accumulate_t<T>;
  AttentionProblem<T> p;
  AttentionGradients<T> d;
  HeadRows<const T> y, dy;
  const A* lse;
  Index shares;  ///< the heads of a group are shared among so many teams

  struct Work {
    Index rows, keys, depth, value_depth;
    A *q, *q_t, *dy, *dy_t, *k, *v, *s, *ds, *dq, *dk, *dv, *lse, *dot;
    Index size;
    M3I_HD Work(const AttentionProblem<T>& p, A* base)
        : rows(block_extent<A>(smaller(p.queries, attention_block))),
          keys(smaller(p.keys, attention_block)),
          depth(block_extent<A>(p.q.depth)),
          value_depth(block_extent<A>(p.v.depth)) {
      Pieces<A> pieces{base};
      q = pieces.take(rows, depth);
      q_t = pieces.take(p.q.depth, rows);
      dy = pieces.take(rows, value_depth);
      dy_t = pieces.take(p.v.depth, rows);
      k = pieces.take(keys, depth);
      v = pieces.take(keys, value_depth);
      s = pieces.take(keys, rows);
      ds = pieces.take(keys, rows);
      dq = pieces.take(rows, depth);
      dk = pieces.take(p.keys, depth);
      dv = pieces.take(p.keys, value_depth);
      lse = pieces.take(1, rows);
      dot = pieces.take(1, rows);
      size = pieces.used;
    }
  };

  template <class Team>
  M3I_HD void operator()(Team team, Index item, A* scratch) const {
    const Index share = item % shares, group = item / shares;
    const Index first = group * p.batches / d.groups, last = (group + 1) * p.batches / d.groups;
    const Index first_head = share * p.heads / shares, last_head = (share + 1) * p.heads / shares;
    const Work w(p, scratch);
    for (Index batch = first; batch < last; ++batch)
      for (Index head = first_head; head < last_head; ++head) one_head(team, w, group, HeadPlace::of(p, batch, head));
  }

 private:
  template <class Team>
  M3I_HD void one_head(Team team, const Work& w, Index group, const HeadPlace& place) const {
    A *dk = w.dk, *dv = w.dv;
    const Index k_step = w.depth, v_step = w.value_depth;
    each_cell(team, p.keys, p.k.depth, [=](Index j, Index c) { dk[j * k_step + c] = 0; });
    each_cell(team, p.keys, p.v.depth, [=](Index j, Index c) { dv[j * v_step + c] = 0; });
    for (Index i0 = 0; i0 < p.queries; i0 += attention_block)
      query_block(team, w, group, place, i0, smaller(attention_block, p.queries - i0));
    store(team, d.k, d.pad_k, group, place, 0, p.keys, p.keys, dk, k_step, A(1));
    store(team, d.v, d.pad_v, group, place, 0, p.keys, p.keys, dv, v_step, A(1));
  }

  template <class Team>
  M3I_HD void query_block(
      Team team, const Work& w, Index group, const HeadPlace& place, Index i0, Index queries) const {
    const TokenRows<const T> q(p, place, p.queries, p.q, p.pad_q, i0), slope(p, place, p.queries, dy, nullptr, i0);
    load_block<false>(team, queries, p.q.depth, p.scale, w.q, w.depth, q);
    load_block<true>(team, queries, p.q.depth, p.scale, w.q_t, w.rows, q);
    load_block<false>(team, queries, p.v.depth, A(1), w.dy, w.value_depth, slope);
    load_block<true>(team, queries, p.v.depth, A(1), w.dy_t, w.rows, slope);
    row_constants(team, w, place, i0, queries);
    A* dq = w.dq;
    const Index q_step = w.depth;
    each_cell(team, queries, p.q.depth, [=](Index i, Index c) { dq[i * q_step + c] = 0; });
    for (Index j0 = 0; j0 < p.keys; j0 += attention_block)
      if (!p.causal || j0 < i0 + queries)
        key_block(team, w, group, place, i0, queries, j0, smaller(attention_block, p.keys - j0));
    store(team, d.q, d.pad_q, group, place, i0, queries, p.queries, dq, q_step, p.scale);
  }

  /// dot[i] = y_i . dy_i, which is the sum over keys of p dp.
  template <class Team>
  M3I_HD void row_constants(Team team, const Work& w, const HeadPlace& place, Index i0, Index queries) const {
    A *dot = w.dot, *kept = w.lse;
    const A *slope = w.dy, *all = lse + (place.batch * p.heads + place.head) * p.queries + i0;
    const Index step = w.value_depth, depth = p.v.depth;
    const TokenRows<const T> rows(p, place, p.queries, y, nullptr, i0);
    ask_for_next(team, queries, rows);
    each_row(team, queries, [=](auto one, Index i) {
      kept[i] = all[i];
      const T* out = rows(i);
      const A* own = slope + i * step;
      dot[i] = out ? one.sum(depth, [=](Index c) { return A(out[c]) * own[c]; }) : A(0);
    });
  }

  template <class Team>
  M3I_HD void key_block(Team team,
                        const Work& w,
                        Index group,
                        const HeadPlace& place,
                        Index i0,
                        Index queries,
                        Index j0,
                        Index keys) const {
    A *s = w.s, *ds = w.ds;
    const A *kept = w.lse, *dot = w.dot;
    const Index step = w.rows;
    load_block<false>(team, keys, p.k.depth, A(1), w.k, w.depth,
                      TokenRows<const T>(p, place, p.keys, p.k, p.pad_k, j0));
    load_block<false>(team, keys, p.v.depth, A(1), w.v, w.value_depth,
                      TokenRows<const T>(p, place, p.keys, p.v, p.pad_v, j0));
    multiply(team, keys, queries, p.q.depth, w.k, w.depth, 1, w.q_t, step, s, step, false);
    adjust_scores(team, p, place.batch, place.head, j0, keys, i0, queries, s, step);
    each_cell(team, keys, queries, [=](Index j, Index i) { s[j * step + i] = math::exp(s[j * step + i] - kept[i]); });
    multiply(team, keys, p.v.depth, queries, s, step, 1, w.dy, w.value_depth, w.dv + j0 * w.value_depth, w.value_depth,
             true);
    multiply(team, keys, queries, p.v.depth, w.v, w.value_depth, 1, w.dy_t, step, ds, step, false);
    each_cell(team, keys, queries,
              [=](Index j, Index i) { ds[j * step + i] = s[j * step + i] * (ds[j * step + i] - dot[i]); });
    multiply(team, keys, p.k.depth, queries, ds, step, 1, w.q, w.depth, w.dk + j0 * w.depth, w.depth, true);
    multiply(team, queries, p.q.depth, keys, ds, 1, step, w.k, w.depth, w.dq, w.depth, true);
    if (d.bias) {
      const Index across = p.queries;
      A* bias = d.bias + ((group * p.heads + place.head) * p.keys + j0) * across + i0;
      each_cell(team, keys, queries, [=](Index j, Index i) { bias[j * across + i] += ds[j * step + i]; });
    }
  }

  /// Adds rows to a gradient, and those of tokens outside of the volume to the gradient of what stands for them.
  template <class Team>
  M3I_HD void store(Team team,
                    const HeadRows<T>& to,
                    A* pad,
                    Index group,
                    const HeadPlace& place,
                    Index first,
                    Index rows,
                    Index count,
                    const A* from,
                    Index step,
                    A factor) const {
    if (to.data) {
      const TokenRows<T> target(p, place, count, to, nullptr, first);
      ask_for_next(team, rows, target);
      each_cell_of(team, rows, to.depth, target,
                   [=](T* grad, Index r, Index c) { grad[c] = T(A(grad[c]) + factor * from[r * step + c]); });
    }
    if (pad) {
      const TokenMap tokens = p.tokens_of(place.batch, count);
      A* own = pad + (group * p.heads + place.head) * to.depth;
      team.each(to.depth, [=](Index c) {
        for (Index r = 0; r < rows; ++r)
          if (tokens(first + r) < 0) own[c] += factor * from[r * step + c];
      });
    }
  }
};

}  // namespace detail

/// Teams that attention_backward aims at: enough to share out evenly.
inline constexpr Index attention_teams = 32;

/// In how many groups of batches attention_backward should work: one batch each, unless there is a gradient of the
/// bias, of which each group has a partial sum. From the sizes alone, so that bits do not depend on threads.
inline Index attention_groups(Index batches, Index heads, Index queries, Index keys, bool bias_gradient) {
  if (!bias_gradient || batches == 0) return batches;
  const Index most = (Index(16) << 20) / std::max<Index>(1, heads * queries * keys);
  return std::clamp<Index>(most, 1, std::min(batches, attention_teams));
}

/// Adds to the gradients in d, given y, dy and the lse of attention_forward.
template <class T>
void attention_backward(Device device,
                        const AttentionProblem<T>& p,
                        const AttentionGradients<T>& d,
                        HeadRows<const T> y,
                        HeadRows<const T> dy,
                        const accumulate_t<T>* lse) {
  if (d.groups == 0) return;  // no batch
  using Backward = detail::AttentionBackward<T>;
  // On the host as many heads as possible stay with one team, which reads whole rows; a GPU wants many teams.
  const Index shares =
      device.kind == Device::Kind::cpu ? std::min(p.heads, (attention_teams + d.groups - 1) / d.groups) : p.heads;
  const Index heads = p.batches / d.groups * p.heads / shares;
  const Index cost = heads * p.queries * p.keys * (p.q.depth + p.v.depth) / 4;
  for_rows_with_scratch<accumulate_t<T>>(device, d.groups * shares, typename Backward::Work(p, nullptr).size,
                                         Backward{p, d, y, dy, lse, shares}, cost);
}

}  // namespace M3I_ABI
}  // namespace m3i
