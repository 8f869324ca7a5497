#pragma once
/// The gradients of attention. Probabilities are computed again from the kept log-sum-exp: p = exp(s - lse).

#include "m3i/kernels/attention.hpp"

namespace m3i {
inline namespace M3I_ABI {
namespace detail {

/// One team some heads of a group of batches, one batch after the other: it owns all gradients that it writes, so that
/// no two teams meet and the order of sums is fixed. E as in AttentionForward.
template <class T, class E>
struct AttentionBackward {
  using A = accumulate_t<T>;
  static constexpr bool rounds = !std::is_same_v<E, A>;
  AttentionProblem<T> p;
  AttentionGradients<T> d;
  HeadRows<const T> y, dy;
  const A* lse;
  Index shares;                ///< the heads of a group are shared among so many teams
  std::byte* apart = nullptr;  ///< where dk and dv of all teams are, if not in their scratch
  Index apart_bytes = 0;       ///< of a team

  struct Work {
    Index k_step, v_step, p_step, s_step, dk_step, dv_step;
    E *q, *q_t, *dy, *dy_t, *k, *v, *p, *ds_rounded;
    A *s, *ds, *dq, *dk, *dv, *lse, *dot;
    Index bytes, apart_bytes;
    M3I_HD Work(const AttentionProblem<T>& problem, std::byte* base, bool is_apart, std::byte* apart) {
      const Index queries = smaller(problem.queries, attention_block), keys = smaller(problem.keys, attention_block);
      const Index depth = problem.q.depth, value_depth = problem.v.depth;
      p_step = block_step<E>(queries), s_step = sum_step<E, A>(queries);
      k_step = block_step<E>(depth), v_step = block_step<E>(value_depth);
      dk_step = sum_step<E, A>(depth), dv_step = sum_step<E, A>(value_depth);
      BlockCutter cut{base};
      q = cut.take<E>(queries, depth);
      dy = cut.take<E>(queries, value_depth);
      if constexpr (rounds) q_t = q, dy_t = dy;  // read the other way round
      else q_t = cut.take<E>(depth, queries), dy_t = cut.take<E>(value_depth, queries);
      k = cut.take<E>(keys, depth);
      v = cut.take<E>(keys, value_depth);
      s = cut.sums<E, A>(keys, queries);
      ds = cut.sums<E, A>(keys, queries);
      if constexpr (rounds) p = ds_rounded = cut.take<E>(keys, queries);  // one after the other
      else p = s, ds_rounded = ds;
      dq = cut.sums<E, A>(queries, depth);
      lse = cut.line<A>(queries);
      dot = cut.line<A>(queries);
      BlockCutter of_all_keys = is_apart ? BlockCutter{apart} : cut;
      dk = of_all_keys.sums<E, A>(problem.keys, depth);
      dv = of_all_keys.sums<E, A>(problem.keys, value_depth);
      bytes = is_apart ? cut.bytes : of_all_keys.bytes, apart_bytes = is_apart ? of_all_keys.bytes : 0;
    }
  };

  template <class Team>
  M3I_HD void operator()(Team team, Index item, std::byte* scratch) const {
    const Index share = item % shares, group = item / shares;
    const Index first = group * p.batches / d.groups, last = (group + 1) * p.batches / d.groups;
    const Index first_head = share * p.heads / shares, last_head = (share + 1) * p.heads / shares;
    const Work w(p, scratch, apart != nullptr, apart + item * apart_bytes);
    for (Index batch = first; batch < last; ++batch)
      for (Index head = first_head; head < last_head; ++head) one_head(team, w, group, HeadPlace::of(p, batch, head));
  }

 private:
  template <class Team>
  M3I_HD void one_head(Team team, const Work& w, Index group, const HeadPlace& place) const {
    A *dk = w.dk, *dv = w.dv;
    const Index k_step = w.dk_step, v_step = w.dv_step;
    each_cell(team, p.keys, p.k.depth, [=](Index j, Index c) { dk[j * k_step + c] = 0; });
    each_cell(team, p.keys, p.v.depth, [=](Index j, Index c) { dv[j * v_step + c] = 0; });
    for (Index i0 = 0; i0 < p.queries; i0 += attention_block)
      query_block(team, w, group, place, i0, smaller(attention_block, p.queries - i0));
    store(team, d.k, d.pad_k, group, place, 0, p.keys, p.keys, dk, k_step, rounds ? p.scale : A(1));
    store(team, d.v, d.pad_v, group, place, 0, p.keys, p.keys, dv, v_step, A(1));
  }

  template <class Team>
  M3I_HD void query_block(
      Team team, const Work& w, Index group, const HeadPlace& place, Index i0, Index queries) const {
    const TokenRows<const T> q(p, place, p.queries, p.q, p.pad_q, i0), slope(p, place, p.queries, dy, nullptr, i0);
    const A scale = rounds ? A(1) : p.scale;
    load_block<false>(team, queries, p.q.depth, scale, w.q, w.k_step, q);
    load_block<false>(team, queries, p.v.depth, A(1), w.dy, w.v_step, slope);
    if constexpr (!rounds) {
      load_block<true>(team, queries, p.q.depth, scale, w.q_t, w.p_step, q);
      load_block<true>(team, queries, p.v.depth, A(1), w.dy_t, w.p_step, slope);
    }
    row_constants(team, w, place, i0, queries);
    A* dq = w.dq;
    const Index dq_step = w.dk_step;
    each_cell(team, queries, p.q.depth, [=](Index i, Index c) { dq[i * dq_step + c] = 0; });
    for (Index j0 = 0; j0 < p.keys; j0 += attention_block)
      if (!p.causal || j0 < i0 + queries)
        key_block(team, w, group, place, i0, queries, j0, smaller(attention_block, p.keys - j0));
    store(team, d.q, d.pad_q, group, place, i0, queries, p.queries, dq, dq_step, p.scale);
  }

  /// The sum of products of two rows that consist of chunks, for a GPU's thread.
  M3I_HD static A chunk_product(Index depth, const T* x, const E* y) {
    constexpr int width = int(sizeof(Chunk) / sizeof(T));
    A total = 0;
    if constexpr (std::is_same_v<T, E>)
      for (Index c = 0; c < depth; c += width) {
        alignas(16) T a[std::size_t(width)], b[std::size_t(width)];
        copy_chunk<width>(x + c, a), copy_chunk<width>(y + c, b);
        for (int i = 0; i < width; ++i) total += A(a[i]) * A(b[i]);
      }
    return total;
  }

  /// dot[i] = y_i . dy_i, which is the sum over keys of p dp.
  template <class Team>
  M3I_HD void row_constants(Team team, const Work& w, const HeadPlace& place, Index i0, Index queries) const {
    A *dot = w.dot, *kept = w.lse;
    const A* all = lse + (place.batch * p.heads + place.head) * p.queries + i0;
    const E* slope = w.dy;
    const Index step = w.v_step, depth = p.v.depth;
    const TokenRows<const T> rows(p, place, p.queries, y, nullptr, i0);
    const bool chunks = !std::is_same_v<Team, HostTeam> && rows.in_chunks();
    ask_for_next(team, queries, rows);
    each_row(team, queries, [=](auto one, Index i) {
      kept[i] = all[i];
      const T* out = rows(i);
      const E* own = slope + i * step;
      if (!out) dot[i] = 0;
      else if (chunks) dot[i] = chunk_product(depth, out, own);
      else dot[i] = one.sum(depth, [=](Index c) { return A(out[c]) * A(own[c]); });
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
    using Gemm = BlockGemm<E, A>;
    A *s = w.s, *ds = w.ds;
    const Index step = w.s_step, across = p.queries;
    A* bias = d.bias ? d.bias + ((group * p.heads + place.head) * p.keys + j0) * across + i0 : nullptr;
    load_block<false>(team, keys, p.k.depth, A(1), w.k, w.k_step,
                      TokenRows<const T>(p, place, p.keys, p.k, p.pad_k, j0));
    load_block<false>(team, keys, p.v.depth, A(1), w.v, w.v_step,
                      TokenRows<const T>(p, place, p.keys, p.v, p.pad_v, j0));
    multiply(team, Gemm{keys, queries, p.q.depth, w.k, w.k_step, 1, w.q_t, rounds ? 1 : w.p_step, rounds ? w.k_step : 1,
                        s, step, false});
    probabilities(team, w, ScoreRule<T>(p, rounds ? p.scale : A(1), place.batch, place.head, j0, i0), queries, keys);
    multiply(team, Gemm{keys, p.v.depth, queries, w.p, w.p_step, 1, w.dy, w.v_step, 1, w.dv + j0 * w.dv_step, w.dv_step,
                        true});
    multiply(team, Gemm{keys, queries, p.v.depth, w.v, w.v_step, 1, w.dy_t, rounds ? 1 : w.p_step,
                        rounds ? w.v_step : 1, ds, step, false});
    slopes(team, w, queries, keys, bias, across);
    multiply(team, Gemm{keys, p.k.depth, queries, w.ds_rounded, w.p_step, 1, w.q, w.k_step, 1, w.dk + j0 * w.dk_step,
                        w.dk_step, true});
    multiply(team, Gemm{queries, p.q.depth, keys, w.ds_rounded, 1, w.p_step, w.k, w.k_step, 1, w.dq, w.dk_step, true});
  }

  /// s becomes p = exp(s - lse), in passes that vectorise or, on a GPU, in one.
  template <class Team>
  M3I_HD void probabilities(Team team, const Work& w, const ScoreRule<T>& rule, Index queries, Index keys) const {
    A* s = w.s;
    const A* kept = w.lse;
    const Index step = w.s_step;
    if constexpr (std::is_same_v<Team, HostTeam>) {
      rule.apply(team, keys, queries, s, step);
      each_cell(team, keys, queries, [=](Index j, Index i) { s[j * step + i] = math::exp(s[j * step + i] - kept[i]); });
    } else {
      E* rounded = w.p;
      const Index p_step = w.p_step;
      each_cell(team, inner_extent<E>(keys), inner_extent<E>(queries), [=](Index j, Index i) {
        A& x = s[j * step + i];
        x = j < keys && i < queries ? math::exp(rule(x, j, i) - kept[i]) : A(0);
        if constexpr (rounds) rounded[j * p_step + i] = E(x);
      });
    }
  }

  /// ds becomes the gradient of the scores, p (dp - dot), which is that of the bias too.
  template <class Team>
  M3I_HD void slopes(Team team, const Work& w, Index queries, Index keys, A* bias, Index across) const {
    const A *s = w.s, *dot = w.dot;
    A* ds = w.ds;
    const Index step = w.s_step;
    if constexpr (std::is_same_v<Team, HostTeam>) {
      each_cell(team, keys, queries,
                [=](Index j, Index i) { ds[j * step + i] = s[j * step + i] * (ds[j * step + i] - dot[i]); });
      if (bias) each_cell(team, keys, queries, [=](Index j, Index i) { bias[j * across + i] += ds[j * step + i]; });
    } else {
      E* rounded = w.ds_rounded;
      const Index p_step = w.p_step;
      each_cell(team, inner_extent<E>(keys), inner_extent<E>(queries), [=](Index j, Index i) {
        const bool inside = j < keys && i < queries;
        const A x = inside ? s[j * step + i] * (ds[j * step + i] - dot[i]) : A(0);
        rounded[j * p_step + i] = E(x);
        if (bias && inside) bias[j * across + i] += x;
      });
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
      change_rows(team, rows, target, from, step, [=](T& grad, A sum, Index) { grad = T(A(grad) + factor * sum); });
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

/// The same on a GPU, where a head of a group has a team of its own.
inline constexpr Index attention_device_teams = 1024;
/// Bytes of shared memory that let two teams work on one multiprocessor of compute capability 9. What would take more
/// leaves the sums for all keys, which are seldom touched, to global memory.
inline constexpr Index attention_device_scratch = Index(112) << 10;

/// In how many groups of batches attention_backward should work: one batch each, unless there is a gradient of the
/// bias, of which each group has a partial sum. From the sizes alone, so that bits do not depend on threads.
inline Index attention_groups(
    Index batches, Index heads, Index queries, Index keys, bool bias_gradient, Device device) {
  if (!bias_gradient || batches == 0) return batches;
  const Index most = (Index(16) << 20) / std::max<Index>(1, heads * queries * keys);
  const Index wanted =
      device.kind == Device::Kind::cpu ? attention_teams : std::max<Index>(1, attention_device_teams / heads);
  return std::clamp<Index>(most, 1, std::min(batches, wanted));
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
  using Host = detail::AttentionBackward<T, accumulate_t<T>>;
  using Other = detail::AttentionBackward<T, T>;
  if (device.kind == Device::Kind::cpu) {
    // As many heads as possible stay with one team, which reads whole rows; a GPU wants many teams.
    const Index shares = std::min(p.heads, (attention_teams + d.groups - 1) / d.groups);
    const Index heads = p.batches / d.groups * p.heads / shares;
    const Index cost = heads * p.queries * p.keys * (p.q.depth + p.v.depth) / 4;
    host_rows_with_scratch(d.groups * shares, typename Host::Work(p, nullptr, false, nullptr).bytes,
                           Host{p, d, y, dy, lse, shares}, cost);
  } else {
    const bool is_apart = typename Other::Work(p, nullptr, false, nullptr).bytes > attention_device_scratch;
    const typename Other::Work need(p, nullptr, is_apart, nullptr);
    const Index teams = d.groups * p.heads;
    const Tensor<std::uint8_t> apart({is_apart ? teams : 0, need.apart_bytes}, device);
    device_rows_with_scratch(
        device, teams, need.bytes,
        Other{p, d, y, dy, lse, p.heads, reinterpret_cast<std::byte*>(apart.data()), need.apart_bytes});
  }
}

}  // namespace M3I_ABI
}  // namespace m3i
