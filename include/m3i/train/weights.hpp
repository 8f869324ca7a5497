#pragma once
/// Modules to files and back: the names are the fields', the arrays lie as the published checkpoints lay them.

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "m3i/io/safetensors.hpp"
#include "m3i/io/state.hpp"
#include "m3i/nn/fields.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Convolution weights are the only parameters with more than three axes, and the only ones that others lay
/// differently.
inline Layout parameter_layout(const Shape& shape) { return shape.rank() > 3 ? Layout::channels_second : Layout::same; }

/// What loading a module fills: one slot a parameter, named PREFIX + field names.
template <class T, class Module>
std::vector<StateSlot<T>> state_slots(const Module& module, const std::string& prefix = "") {
  std::vector<StateSlot<T>> slots;
  for_each_parameter(module, [&](const std::string& name, const Var<T>& p) {
    slots.push_back({prefix + name, p.shape(), parameter_layout(p.shape()),
                     [p](const Tensor<T>& value) { p.set_value(value.to(p.device()).clone()); }});
  });
  return slots;
}

/// The parameters of a module as arrays for write_safetensors.
template <class T, class Module>
std::vector<NamedArray> state_arrays(const Module& module, const std::string& prefix = "") {
  std::vector<NamedArray> arrays;
  for_each_parameter(module, [&](const std::string& name, const Var<T>& p) {
    arrays.emplace_back(prefix + name,
                        parameter_layout(p.shape()) == Layout::same ? p.value() : last_axis_to_second(p.value()));
  });
  return arrays;
}

/// Buffers of the published nnFormer and CLIP checkpoints that follow from the configuration.
inline const std::vector<std::string>& derived_buffers() {
  static const std::vector<std::string> names{"relative_position_index", "position_ids"};
  return names;
}

/// Loads a module's parameters from a file. Strict unless told otherwise: throws FileError with the full report.
template <class T, class Module>
LoadReport load_module(const Module& module, const SafeTensors& file, LoadOptions options = {}) {
  for (const auto& name : file.names())  // index buffers say nothing that the configuration does not
    for (const auto& buffer : derived_buffers())
      if (name.size() >= buffer.size() && name.compare(name.size() - buffer.size(), buffer.size(), buffer) == 0 &&
          name.compare(0, options.prefix.size(), options.prefix) == 0)
        options.ignore.push_back(name.substr(options.prefix.size()));
  return load_state(file, state_slots<T>(module), options);
}

template <class... Lists>
std::vector<NamedArray> joined(std::vector<NamedArray> first, const Lists&... more) {
  (first.insert(first.end(), more.begin(), more.end()), ...);
  return first;
}

}  // namespace M3I_ABI
}  // namespace m3i
