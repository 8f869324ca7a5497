#pragma once
/// softmax(scale Q K^T + bias + masks) V and its gradients, block by block, as functors for a team: the matrix of
/// scores never exists. Milakov and Gimelshein 2018, arXiv:1805.02867 (the running softmax); Dao et al. 2022,
/// arXiv:2205.14135.
///
/// Scores are held transposed, [keys, queries]: maxima and sums over keys then run down the columns, where neighbouring
/// elements belong to neighbouring queries, and vectorise without any shuffling.

#include <limits>

#include "m3i/kernels/block.hpp"
#include "m3i/kernels/math.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Vectors of one kind (queries, say): token t of head h is at data + t * stride + h * depth.
template <class P>
struct HeadRows {
  P* data = nullptr;
  Index stride = 0, depth = 0;
  M3I_HD P* at(Index token, Index head) const { return data + token * stride + head * depth; }
};

/// Token i of a batch: its number, or -1 for one outside of the volume.
struct TokenMap {
  const Index* map = nullptr;
  Index offset = 0;
  M3I_HD Index operator()(Index i) const {
    if (!map) return offset + i;
    return map[i] < 0 ? -1 : map[i] + offset;
  }
};

/// One attention problem; a batch is a sequence, or a window of a volume.
template <class T>
struct AttentionProblem {
  using A = accumulate_t<T>;
  Index batches = 0, heads = 0, queries = 0, keys = 0;
  A scale = 1;
  HeadRows<const T> q, k, v;

  /// Where token i of batch b is: tokens[(b % maps) * keys + i] of volume b / maps, -1 for one outside of the volume.
  /// Null: the batches follow each other.
  const Index* tokens = nullptr;
  Index maps = 1, volume = 0;
  const T *pad_q = nullptr, *pad_k = nullptr, *pad_v = nullptr;  ///< [heads * depth] of tokens outside; null: zeros

  const A* bias = nullptr;  ///< [heads or 1, keys, queries], added to the scores
  Index bias_heads = 1;
  const std::uint8_t* key_mask = nullptr;  ///< [batches, keys], 0: nobody attends to this key
  const std::uint8_t* regions = nullptr;   ///< [maps, keys], scores between different regions get region_penalty
  A region_penalty = -100;
  bool causal = false;  ///< query i attends to keys 0 .. i

  /// The tokens of one batch, `count` of them; found once, as it takes divisions.
  M3I_HD TokenMap tokens_of(Index batch, Index count) const {
    if (!tokens) return {nullptr, batch * count};
    return {tokens + batch % maps * keys, batch / maps * volume};
  }
};

/// Where gradients go; null where none is wanted.
template <class T>
struct AttentionGradients {
  using A = accumulate_t<T>;
  HeadRows<T> q, k, v;
  A* bias = nullptr;                                       ///< [groups, heads, keys, queries], zeros at first
  A *pad_q = nullptr, *pad_k = nullptr, *pad_v = nullptr;  ///< [groups, heads * depth], zeros at first
  Index groups = 1;
};

namespace detail {

inline constexpr Index attention_block = 64;

/// The body of load_block for a block of threads, by chunks of `width` elements.
template <bool transposed, int width, class Team, class A, class T, class Source>
M3I_HD inline void load_chunks(Team team, Index rows, Index depth, A factor, T* out, Index step, Source source) {
  each_cell(team, inner_extent<T>(rows), inner_extent<T>(depth) / width, [=](Index r, Index chunk) {
    const Index c = chunk * width;
    const T* from = r < rows && c < depth ? source(r) : nullptr;
    alignas(16) T values[std::size_t(width)];
    copy_chunk<width>(from ? from + c : nullptr, values);
    if constexpr (!is_small_float<T>)
      for (T& x : values) x *= factor;
    if constexpr (transposed)
      for (int i = 0; i < width; ++i) out[(c + i) * step + r] = values[i];
    else copy_chunk<width>(values, out + r * step + c);
  });
}

/// out[r, c] = factor * source(r)[c], or transposed at out[c * step + r]; a null source gives zeros, and so do the rows
/// and columns up to inner extents. Half and bf16 stay what they are: the factor is 1.
template <bool transposed, class Team, class A, class E, class Source>
M3I_HD inline void load_block(Team team, Index rows, Index depth, A factor, E* out, Index step, Source source) {
  if constexpr (std::is_same_v<Team, HostTeam>) {
    for (Index r = 0; r < rows; ++r) {
      source.ask_for_next(r);
      const auto* from = source(r);
      A* to = transposed ? out + r : out + r * step;
      const Index apart = transposed ? step : 1;
      if (!from)
        for (Index c = 0; c < depth; ++c) to[c * apart] = 0;
      else if (transposed)
        for (Index c = 0; c < depth; ++c) to[c * apart] = factor * A(from[c]);  // as vectors: slow scattering stores
      else team.each(depth, [=](Index c) { to[c] = factor * A(from[c]); });
    }
  } else {
    constexpr int width = int(sizeof(Chunk) / sizeof(E));
    if (source.in_chunks()) load_chunks<transposed, width>(team, rows, depth, factor, out, step, source);
    else load_chunks<transposed, 1>(team, rows, depth, factor, out, step, source);
  }
}

/// Where a team is: a head of a batch, and the head that it or the next team works on afterwards. The rows of a head
/// lie far apart, and fetching them takes as long as the arithmetic: the host asks for the next head's rows while it
/// works on this one's. Heads of a batch follow each other, so that whole rows of q, k and v are fetched in one go.
struct HeadPlace {
  Index batch, head, next_batch, next_head;
  template <class T>
  M3I_HD static HeadPlace of(const AttentionProblem<T>& p, Index batch, Index head) {
    const bool last = head + 1 == p.heads;
    return {batch, head, last && batch + 1 < p.batches ? batch + 1 : batch, last ? 0 : head + 1};
  }
};

/// The rows of one kind and head: tokens `first`, first + 1, ... of a batch. T is const for reading; then tokens
/// outside of the volume have the row `pad`, or none.
template <class T>
struct TokenRows {
  using Value = std::remove_const_t<T>;
  TokenMap tokens, next_tokens;
  HeadRows<T> rows;
  const Value* pad;
  Index head, next_head, first;

  M3I_HD TokenRows(const AttentionProblem<Value>& p,
                   const HeadPlace& place,
                   Index count,
                   const HeadRows<T>& all,
                   const Value* fill,
                   Index from)
      : tokens(p.tokens_of(place.batch, count)),
        next_tokens(p.tokens_of(place.next_batch, count)),
        rows(all),
        pad(fill),
        head(place.head),
        next_head(place.next_head),
        first(from) {}

  M3I_HD T* operator()(Index r) const {
    const Index t = tokens(first + r);
    if (t >= 0) return rows.at(t, head);
    if constexpr (std::is_const_v<T>) return pad ? pad + head * rows.depth : nullptr;
    else return nullptr;
  }
  /// Whether the rows consist of chunks, each at its place in memory.
  M3I_HD bool in_chunks() const {
    const Index bytes = (rows.stride | rows.depth) * Index(sizeof(T));
    return (reinterpret_cast<std::uintptr_t>(rows.data) | reinterpret_cast<std::uintptr_t>(pad) |
            std::uintptr_t(bytes)) %
               sizeof(Chunk) ==
           0;
  }
  // Always inlined: g++ takes a function that only asks for lines to have no effect, and drops its calls.
  [[gnu::always_inline]] M3I_HD void ask_for_next(Index r) const {
    const Index t = next_tokens(first + r);
    if (t < 0) return;
    T* row = rows.at(t, next_head);
    for (Index c = 0; c < rows.depth; c += 64 / Index(sizeof(T))) M3I_PREFETCH(row + c);
  }
};

/// The body of change_rows for a block of threads, by chunks of `width` elements. Read one by one, sums that are
/// `width` apart would lie in few banks of shared memory.
template <int width, class Team, class T, class A, class F>
M3I_HD inline void change_chunks(Team team, Index rows, const TokenRows<T>& target, const A* sums, Index step, F f) {
  constexpr int part = width == 1 ? 1 : int(sizeof(Chunk) / sizeof(A));
  each_cell(team, rows, target.rows.depth / width, [=](Index r, Index chunk) {
    T* row = target(r);
    if (!row) return;
    const Index c = chunk * width;
    alignas(16) T values[std::size_t(width)];
    alignas(16) A own[std::size_t(width)];
    copy_chunk<width>(static_cast<const T*>(row + c), values);
    for (int i = 0; i < width; i += part) copy_chunk<part>(sums + r * step + c + i, own + i);
    for (int i = 0; i < width; ++i) f(values[i], own[i], r);
    copy_chunk<width>(static_cast<const T*>(values), row + c);
  });
}

/// f(x, sum, r) for each element x of the rows of tokens inside of the volume, with the sum at its place in a block.
template <class Team, class T, class A, class F>
M3I_HD inline void change_rows(Team team, Index rows, const TokenRows<T>& target, const A* sums, Index step, F f) {
  if constexpr (std::is_same_v<Team, HostTeam>) {
    for (Index r = 0; r < rows; ++r)
      if (T* row = target(r)) {
        const A* own = sums + r * step;
        team.each(target.rows.depth, [=](Index c) { f(row[c], own[c], r); });
      }
  } else {
    constexpr int width = int(sizeof(Chunk) / sizeof(T));
    if (target.in_chunks()) change_chunks<width>(team, rows, target, sums, step, f);
    else change_chunks<1>(team, rows, target, sums, step, f);
  }
}

template <class Team, class T>
[[gnu::always_inline]] M3I_HD inline void ask_for_next(Team, Index rows, const TokenRows<T>& source) {
  if constexpr (std::is_same_v<Team, HostTeam>)
    for (Index r = 0; r < rows; ++r) source.ask_for_next(r);
}

/// What becomes of the scores of a block, keys from j0 and queries from i0: scale, bias and masks.
template <class T>
struct ScoreRule {
  using A = accumulate_t<T>;
  A scale, penalty;
  const A* bias;  ///< as the others, null where there is none
  Index across;
  const std::uint8_t *query_region, *key_region, *kept;
  bool causal;
  Index ahead;

  M3I_HD ScoreRule(const AttentionProblem<T>& p, A factor, Index batch, Index head, Index j0, Index i0)
      : scale(factor),
        penalty(p.region_penalty),
        bias(p.bias ? p.bias + (head % p.bias_heads * p.keys + j0) * p.queries + i0 : nullptr),
        across(p.queries),
        query_region(p.regions ? p.regions + batch % p.maps * p.keys + i0 : nullptr),
        key_region(p.regions ? query_region - i0 + j0 : nullptr),
        kept(p.key_mask ? p.key_mask + batch * p.keys + j0 : nullptr),
        causal(p.causal),
        ahead(i0 - j0) {}

  M3I_HD A biased(A s, Index j, Index i) const { return s + bias[j * across + i]; }
  M3I_HD A apart(A s, Index j, Index i) const { return s + (query_region[i] == key_region[j] ? A(0) : penalty); }
  M3I_HD A masked(A s, Index j) const { return kept[j] ? s : -std::numeric_limits<A>::infinity(); }
  M3I_HD A before(A s, Index j, Index i) const { return j <= ahead + i ? s : -std::numeric_limits<A>::infinity(); }

  /// One after the other, for a GPU, which has no memory bandwidth to spare for passes.
  M3I_HD A operator()(A s, Index j, Index i) const {
    s *= scale;
    if (bias) s = biased(s, j, i);
    if (query_region) s = apart(s, j, i);
    if (kept) s = masked(s, j);
    return causal ? before(s, j, i) : s;
  }
  /// In passes that vectorise, for the host, which has put the scale elsewhere.
  M3I_HD void apply(HostTeam team, Index keys, Index queries, A* s, Index step) const {
    const ScoreRule rule = *this;
    if (bias)
      each_cell(team, keys, queries, [=](Index j, Index i) {
        A& x = s[j * step + i];
        x = rule.biased(x, j, i);
      });
    if (query_region)
      each_cell(team, keys, queries, [=](Index j, Index i) {
        A& x = s[j * step + i];
        x = rule.apart(x, j, i);
      });
    if (kept)
      each_cell(team, keys, queries, [=](Index j, Index i) {
        A& x = s[j * step + i];
        x = rule.masked(x, j);
      });
    if (causal)
      each_cell(team, keys, queries, [=](Index j, Index i) {
        A& x = s[j * step + i];
        x = rule.before(x, j, i);
      });
  }
};

/// On a GPU so many threads share the keys of a query.
inline constexpr Index attention_strips = team_width / attention_block;

/// One team a block of queries of one head of one batch. Blocks that are multiplied hold E: the type that is computed
/// in, or on a GPU T itself, for its tensor cores.
template <class T, class E>
struct AttentionForward {
  using A = accumulate_t<T>;
  /// Then the scale goes to the scores instead of the queries, and products read transposed blocks as they lie.
  static constexpr bool rounds = !std::is_same_v<E, A>;
  AttentionProblem<T> p;
  HeadRows<T> y;
  A* lse;  ///< [batches, heads, queries]: log of the sum of exponentials, 0 for a row without any key
  Index query_blocks;

  struct Work {
    Index q_step, k_step, v_step, p_step, s_step, out_step;
    E *q, *k, *v, *p;
    A *s, *out, *top, *mass, *rescale, *partial;
    Index bytes;
    M3I_HD Work(const AttentionProblem<T>& problem, std::byte* base) {
      const Index queries = smaller(problem.queries, attention_block), keys = smaller(problem.keys, attention_block);
      const Index depth = problem.q.depth, value_depth = problem.v.depth;
      p_step = block_step<E>(queries), s_step = sum_step<E, A>(queries);
      k_step = block_step<E>(depth), v_step = block_step<E>(value_depth), out_step = sum_step<E, A>(value_depth);
      BlockCutter cut{base};
      if constexpr (rounds) q = cut.take<E>(queries, depth), q_step = k_step;
      else q = cut.take<E>(depth, queries), q_step = p_step;
      k = cut.take<E>(keys, depth);
      v = cut.take<E>(keys, value_depth);
      s = cut.sums<E, A>(keys, queries);
      if constexpr (rounds) p = cut.take<E>(keys, queries);
      else p = s;
      out = cut.sums<E, A>(queries, value_depth);
      top = cut.line<A>(queries);
      mass = cut.line<A>(queries);
      rescale = cut.line<A>(queries);
      partial = cut.line<A>(attention_strips * attention_block);
      bytes = cut.bytes;
    }
  };

  template <class Team>
  M3I_HD void operator()(Team team, Index item, std::byte* scratch) const {
    const auto place = HeadPlace::of(p, item / query_blocks / p.heads, item / query_blocks % p.heads);
    const Index i0 = item % query_blocks * attention_block, queries = smaller(attention_block, p.queries - i0);
    const Work w(p, scratch);
    A *top = w.top, *mass = w.mass, *out = w.out;
    const Index out_step = w.out_step;
    load_block<!rounds>(team, queries, p.q.depth, rounds ? A(1) : p.scale, w.q, w.q_step,
                        TokenRows<const T>(p, place, p.queries, p.q, p.pad_q, i0));
    team.each(queries, [=](Index i) {
      top[i] = -std::numeric_limits<A>::infinity();
      mass[i] = 0;
    });
    each_cell(team, queries, p.v.depth, [=](Index i, Index c) { out[i * out_step + c] = 0; });
    for (Index j0 = 0; j0 < p.keys; j0 += attention_block)
      if (!p.causal || j0 < i0 + queries)
        add_keys(team, w, place, i0, queries, j0, smaller(attention_block, p.keys - j0));
    finish(team, w, place, i0, queries);
  }

 private:
  template <class Team>
  M3I_HD void add_keys(
      Team team, const Work& w, const HeadPlace& place, Index i0, Index queries, Index j0, Index keys) const {
    A *s = w.s, *rescale = w.rescale, *out = w.out;
    const Index step = w.s_step, out_step = w.out_step;
    load_block<false>(team, keys, p.k.depth, A(1), w.k, w.k_step,
                      TokenRows<const T>(p, place, p.keys, p.k, p.pad_k, j0));
    load_block<false>(team, keys, p.v.depth, A(1), w.v, w.v_step,
                      TokenRows<const T>(p, place, p.keys, p.v, p.pad_v, j0));
    multiply(team, BlockGemm<E, A>{keys, queries, p.q.depth, w.k, w.k_step, 1, w.q, rounds ? 1 : w.q_step,
                                   rounds ? w.q_step : 1, s, step, false});
    softmax(team, w, ScoreRule<T>(p, rounds ? p.scale : A(1), place.batch, place.head, j0, i0), queries, keys);
    if (j0 > 0) each_cell(team, queries, p.v.depth, [=](Index i, Index c) { out[i * out_step + c] *= rescale[i]; });
    multiply(team,
             BlockGemm<E, A>{queries, p.v.depth, keys, w.p, 1, w.p_step, w.v, w.v_step, 1, out, out_step, j0 > 0});
  }

  M3I_HD static A base(A top) { return top > -std::numeric_limits<A>::infinity() ? top : A(0); }

  /// Takes the scores of a block of keys into the running softmax: earlier sums are rescaled to the new maximum.
  M3I_HD void softmax(HostTeam team, const Work& w, const ScoreRule<T>& rule, Index queries, Index keys) const {
    A *s = w.s, *top = w.top, *mass = w.mass, *rescale = w.rescale;
    const Index step = w.s_step;
    rule.apply(team, keys, queries, s, step);
    team.each(queries, [=](Index i) { rescale[i] = top[i]; });
    fold_columns(
        team, keys, queries, top, [=](Index j, Index i) { return s[j * step + i]; }, Larger{});
    team.each(queries, [=](Index i) {
      rescale[i] = math::exp(rescale[i] - base(top[i]));
      mass[i] *= rescale[i];
    });
    each_cell(team, keys, queries,
              [=](Index j, Index i) { s[j * step + i] = math::exp(s[j * step + i] - base(top[i])); });
    fold_columns(
        team, keys, queries, mass, [=](Index j, Index i) { return s[j * step + i]; }, Plus{});
  }

  /// The same for a block of threads, in two passes over the scores: each thread has every n-th key of one query.
  template <class Team>
  M3I_HD void softmax(Team team, const Work& w, const ScoreRule<T>& rule, Index queries, Index keys) const {
    A *s = w.s, *top = w.top, *mass = w.mass, *rescale = w.rescale, *partial = w.partial;
    E* weights = w.p;
    const Index step = w.s_step, p_step = w.p_step, filled = inner_extent<E>(keys);
    each_cell(team, attention_strips, queries, [=](Index strip, Index i) {
      A own = -std::numeric_limits<A>::infinity();
      for (Index j = strip; j < keys; j += attention_strips) {
        const A score = rule(s[j * step + i], j, i);
        s[j * step + i] = score;
        own = Larger{}(own, score);
      }
      partial[strip * attention_block + i] = own;
    });
    team.each(queries, [=](Index i) {
      A now = top[i];
      for (Index strip = 0; strip < attention_strips; ++strip)
        now = Larger{}(now, partial[strip * attention_block + i]);
      rescale[i] = math::exp(top[i] - base(now));
      top[i] = now;
    });
    each_cell(team, attention_strips, queries, [=](Index strip, Index i) {
      const A from = base(top[i]);
      A own = 0;
      for (Index j = strip; j < filled; j += attention_strips) {
        const A weight = j < keys ? math::exp(s[j * step + i] - from) : A(0);
        weights[j * p_step + i] = E(weight);
        own += weight;
      }
      partial[strip * attention_block + i] = own;
    });
    team.each(queries, [=](Index i) {
      A sum = mass[i] * rescale[i];
      for (Index strip = 0; strip < attention_strips; ++strip) sum += partial[strip * attention_block + i];
      mass[i] = sum;
    });
  }

  template <class Team>
  M3I_HD void finish(Team team, const Work& w, const HeadPlace& place, Index i0, Index queries) const {
    const A* top = w.top;
    A *mass = w.mass, *keep = lse + (place.batch * p.heads + place.head) * p.queries + i0;
    team.each(queries, [=](Index i) {
      keep[i] = mass[i] > 0 ? top[i] + math::log(mass[i]) : A(0);
      mass[i] = mass[i] > 0 ? 1 / mass[i] : A(0);
    });
    const TokenRows<T> target(p, place, p.queries, y, nullptr, i0);
    ask_for_next(team, queries, target);
    change_rows(team, queries, target, static_cast<const A*>(w.out), w.out_step,
                [=](T& to, A sum, Index i) { to = T(sum * mass[i]); });
  }
};

}  // namespace detail

/// y (a HeadRows of the values' depth) and lse [batches, heads, queries].
template <class T>
void attention_forward(Device device, const AttentionProblem<T>& p, HeadRows<T> y, accumulate_t<T>* lse) {
  using Host = detail::AttentionForward<T, accumulate_t<T>>;
  using Other = detail::AttentionForward<T, T>;
  const Index query_blocks = (p.queries + detail::attention_block - 1) / detail::attention_block;
  const Index rows = p.batches * p.heads * query_blocks;
  if (device.kind == Device::Kind::cpu) {
    const Index cost = std::min(p.queries, detail::attention_block) * p.keys * (p.q.depth + p.v.depth) / 8;
    host_rows_with_scratch(rows, typename Host::Work(p, nullptr).bytes, Host{p, y, lse, query_blocks}, cost);
  } else {
    device_rows_with_scratch(device, rows, typename Other::Work(p, nullptr).bytes, Other{p, y, lse, query_blocks});
  }
}

}  // namespace M3I_ABI
}  // namespace m3i
