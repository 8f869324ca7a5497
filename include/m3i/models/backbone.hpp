#pragma once
/// The volume encoder-decoder of the method: one of the networks of figure 3, chosen when the program runs.
///
/// Its parameters have the names that they have in the chosen network, so that a file of the one is a file of the
/// other.

#include <algorithm>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "m3i/models/nnformer.hpp"
#include "m3i/models/unetr.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Which network, and its options.
using BackboneOptions = std::variant<NnFormerOptions, UnetrOptions>;

/// Channels of the deepest map of the encoder.
inline Index deepest_channels(const NnFormerOptions& o) { return o.channels(3); }
inline Index deepest_channels(const UnetrOptions& o) { return o.hidden; }
inline Index deepest_channels(const BackboneOptions& o) {
  return std::visit([](const auto& chosen) { return deepest_channels(chosen); }, o);
}

/// How names of parameters begin, in either network: those of the head, and all but the encoder's.
inline const std::vector<std::string> backbone_heads{"final.", "out."};
inline const std::vector<std::string> backbone_decoders{"encoder", "decoder", "final.", "out."};  // encoder1: of a skip

namespace detail {
/// The network of the options.
template <class OfNnFormer, class OfUnetr>
std::variant<OfNnFormer, OfUnetr> make_backbone(const BackboneOptions& o) {
  if (const auto* nnformer = std::get_if<NnFormerOptions>(&o)) return OfNnFormer(*nnformer);
  return OfUnetr(std::get<UnetrOptions>(o));
}
}  // namespace detail

/// The encoder alone, with or without a network around it.
template <class T>
struct BackboneEncoder {
  std::variant<NnFormerEncoder<T>, UnetrTransformer<T>> network;

  explicit BackboneEncoder(const BackboneOptions& o)
      : network(detail::make_backbone<NnFormerEncoder<T>, UnetrTransformer<T>>(o)) {}
  /// Shares the parameters of a network.
  explicit BackboneEncoder(const NnFormer<T>& whole) : network(whole.model_down) {}
  explicit BackboneEncoder(const Unetr<T>& whole) : network(whole.vit) {}

  /// x [N, D, H, W, in] -> feature maps, the deepest last.
  std::vector<Var<T>> operator()(const Var<T>& x, const Mode& mode = {}) const {
    if (const auto* nnformer = std::get_if<NnFormerEncoder<T>>(&network)) return (*nnformer)(x, mode);
    const auto maps = std::get<UnetrTransformer<T>>(network)(x);
    return {maps.begin(), maps.end()};
  }
  template <class Visitor>
  void visit_fields(const Visitor& visitor) const {
    if (const auto* nnformer = std::get_if<NnFormerEncoder<T>>(&network)) visitor("model_down", *nnformer);
    else visitor("vit", std::get<UnetrTransformer<T>>(network));
  }
};

template <class T>
struct Backbone {
  std::variant<NnFormer<T>, Unetr<T>> network;

  explicit Backbone(const BackboneOptions& o) : network(detail::make_backbone<NnFormer<T>, Unetr<T>>(o)) {}

  /// x [N, D, H, W, in] -> what decode() needs: feature maps, finest first, the deepest last. UNETR's finest is the
  /// image itself, from which its decoder has the skip at full resolution.
  std::vector<Var<T>> encode(const Var<T>& x, const Mode& mode = {}) const {
    if (const auto* nnformer = std::get_if<NnFormer<T>>(&network)) return nnformer->encode(x, mode);
    const auto maps = std::get<Unetr<T>>(network).encode(x);
    return {x, maps[0], maps[1], maps[2], maps[3]};
  }

  /// Outputs on the grid of the input [N, D, H, W, in], and with nnFormer's deep supervision at 1/2 and 1/4 of it.
  std::vector<Var<T>> decode(const std::vector<Var<T>>& maps, const Shape& input, const Mode& mode = {}) const {
    if (const auto* nnformer = std::get_if<NnFormer<T>>(&network)) return nnformer->decode(maps, input, mode);
    return {std::get<Unetr<T>>(network).decode({maps[1], maps[2], maps[3], maps[4]}, maps[0])};
  }

  /// x [N, D, H, W, in] -> outputs as of decode()
  std::vector<Var<T>> operator()(const Var<T>& x, const Mode& mode = {}) const {
    return decode(encode(x, mode), x.shape(), mode);
  }
  template <class Visitor>
  void visit_fields(const Visitor& visitor) const {
    std::visit([&](const auto& chosen) { chosen.visit_fields(visitor); }, network);
  }

  BackboneEncoder<T> encoder() const {
    return std::visit([](const auto& chosen) { return BackboneEncoder<T>(chosen); }, network);
  }

  /// All but the head; shares the parameters.
  struct Body {
    Backbone whole;
    template <class Visitor>
    void visit_fields(const Visitor& visitor) const {
      whole.visit_fields([&](std::string_view name, const auto& field) {
        const auto& heads = backbone_heads;
        if (std::find(heads.begin(), heads.end(), text(name, ".")) == heads.end()) visitor(name, field);
      });
    }
  };
  Body body() const { return {*this}; }
};

}  // namespace M3I_ABI
}  // namespace m3i
