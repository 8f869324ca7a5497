#pragma once
/// One line makes a module visitable: M3I_FIELDS(norm1, attn, mlp). Parameter lists, state dictionaries, moving and
/// counting all come from that visit; the names are the keys of the published checkpoints.

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "m3i/autodiff/variable.hpp"
#include "m3i/kernels/gather.hpp"

/// Inside a struct: its parameters and modules, in any order.
#define M3I_FIELDS(...)                                             \
  template <class Visitor>                                          \
  void visit_fields(const Visitor& visitor) const {                 \
    ::m3i::detail::visit_named(visitor, #__VA_ARGS__, __VA_ARGS__); \
  }

namespace m3i {
inline namespace M3I_ABI {

namespace detail {

/// The next name of "a, b, c", which is shortened by it.
inline std::string_view next_name(std::string_view& names) {
  const std::size_t comma = names.find(',');
  std::string_view name = names.substr(0, comma);
  names = comma == names.npos ? std::string_view() : names.substr(comma + 1);
  while (!name.empty() && name.front() == ' ') name.remove_prefix(1);
  while (!name.empty() && name.back() == ' ') name.remove_suffix(1);
  return name;
}
template <class Visitor, class... Fields>
void visit_named(const Visitor& visitor, std::string_view names, const Fields&... fields) {
  (visitor(next_name(names), fields), ...);
}

template <class T>
inline constexpr bool is_var = false;
template <class T>
inline constexpr bool is_var<Var<T>> = true;
template <class T>
inline constexpr bool is_vector = false;
template <class T>
inline constexpr bool is_vector<std::vector<T>> = true;
template <class T>
inline constexpr bool is_optional = false;
template <class T>
inline constexpr bool is_optional<std::optional<T>> = true;

}  // namespace detail

/// f(name, Var) for every parameter of a module, in the order of its fields: "blocks.0.norm1.weight". Absent optional
/// parameters are passed over.
template <class Field, class F>
void for_each_parameter(const Field& field, const F& f, const std::string& name = "") {
  const auto inner = [&](std::string_view part) {
    return name.empty() ? std::string(part) : name + "." + std::string(part);
  };
  if constexpr (detail::is_var<Field>) {
    if (field.defined()) f(name, field);
  } else if constexpr (detail::is_vector<Field>) {
    for (std::size_t i = 0; i < field.size(); ++i) for_each_parameter(field[i], f, inner(text(i)));
  } else if constexpr (detail::is_optional<Field>) {
    if (field) for_each_parameter(*field, f, name);
  } else {
    field.visit_fields([&](std::string_view part, const auto& child) { for_each_parameter(child, f, inner(part)); });
  }
}

namespace detail {
template <class M>
struct element_type;
template <template <class> class M, class T>
struct element_type<M<T>> {
  using type = T;
};
}  // namespace detail
/// The T of Module<T>.
template <class Module>
using first_element_type = typename detail::element_type<Module>::type;

/// All parameters, in the order of the fields.
template <class T, class Module>
std::vector<Var<T>> parameters(const Module& module) {
  std::vector<Var<T>> all;
  for_each_parameter(module, [&](const std::string&, const Var<T>& p) { all.push_back(p); });
  return all;
}
/// All parameters with their names.
template <class T, class Module>
std::vector<std::pair<std::string, Var<T>>> named_parameters(const Module& module) {
  std::vector<std::pair<std::string, Var<T>>> all;
  for_each_parameter(module, [&](const std::string& name, const Var<T>& p) { all.emplace_back(name, p); });
  return all;
}
/// Elements of all parameters, frozen ones too.
template <class Module>
Index count_parameters(const Module& module) {
  Index total = 0;
  for_each_parameter(module, [&](const std::string&, const auto& p) { total += p.size(); });
  return total;
}
/// Moves every parameter to a device, in place.
template <class Module>
void to(const Module& module, Device device) {
  for_each_parameter(module, [&](const std::string&, const auto& p) { p.set_value(p.value().to(device)); });
}
/// Copies the values of one module to another of the same structure, converting the element type.
template <class From, class To>
void copy_parameters(const From& from, const To& to) {
  using T = first_element_type<From>;
  using U = first_element_type<To>;
  const auto source = named_parameters<T>(from);
  const auto target = named_parameters<U>(to);
  require(source.size() == target.size(), "copy_parameters: ", source.size(), " parameters against ", target.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    require(source[i].first == target[i].first, "copy_parameters: ", source[i].first, " against ", target[i].first);
    target[i].second.set_value(cast<U>(source[i].second.value()).clone().to(target[i].second.device()));
  }
}
/// Freezes (false) or frees (true) every parameter of a module.
template <class Module>
void set_trainable(const Module& module, bool trainable) {
  for_each_parameter(module, [&](const std::string&, const auto& p) { p.set_needs_grad(trainable); });
}

}  // namespace M3I_ABI
}  // namespace m3i
