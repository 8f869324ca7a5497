#pragma once
/// Filling named values from a file, with a report of what did and did not fit.

#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "m3i/core/tensor.hpp"
#include "m3i/io/layout.hpp"
#include "m3i/io/safetensors.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// One value that a file should fill. `set` receives a tensor of exactly `shape`, in m3i's layout, in host memory.
template <class T>
struct StateSlot {
  std::string name;
  Shape shape;
  Layout layout = Layout::same;
  std::function<void(const Tensor<T>&)> set;
};

struct LoadOptions {
  /// Anything missing, unexpected or of another shape is an error, and nothing is set.
  bool strict = true;
  /// Only tensors of the file whose names begin so count; it is cut from them.
  std::string prefix;
  /// Names in the file (after the prefix) that begin so are not reported as unexpected.
  std::vector<std::string> ignore;
  /// The file's name of a slot; the slot's own name if empty.
  std::function<std::string(const std::string&)> rename;
};

/// What loading did. Names are the slots', except in `unexpected`.
struct LoadReport {
  struct Mismatch {
    std::string name;
    Shape expected, found;  ///< both in m3i's layout
  };
  std::string path;
  std::vector<std::string> matched, missing, unexpected;
  std::vector<Mismatch> shape_mismatch;

  bool complete() const { return missing.empty() && unexpected.empty() && shape_mismatch.empty(); }

  /// "file.safetensors: 250 matched, 1 missing, ...", then up to 8 names of each kind.
  std::string text() const {
    std::string out = m3i::text(path, ": ", matched.size(), " matched, ", missing.size(), " missing, ",
                                unexpected.size(), " unexpected, ", shape_mismatch.size(), " of another shape");
    const auto list = [&out](const char* title, const auto& items, const auto& line) {
      for (std::size_t i = 0; i < items.size() && i < 8; ++i) out += m3i::text("\n  ", title, ": ", line(items[i]));
      if (items.size() > 8) out += m3i::text("\n  ", title, ": and ", items.size() - 8, " more");
    };
    const auto name = [](const std::string& n) { return excerpt(n); };
    list("missing", missing, name);
    list("unexpected", unexpected, name);
    list("shape", shape_mismatch, [](const Mismatch& m) {
      return m3i::text(excerpt(m.name), " is ", m.found, " in the file, the network has ", m.expected);
    });
    return out;
  }
};

/// Compares names and shapes; reads and sets nothing.
template <class T>
LoadReport compare_state(const SafeTensors& file,
                         const std::vector<StateSlot<T>>& slots,
                         const LoadOptions& options = {}) {
  LoadReport report;
  report.path = file.path();
  std::set<std::string> used;
  for (const StateSlot<T>& slot : slots) {
    const std::string name = options.prefix + (options.rename ? options.rename(slot.name) : slot.name);
    if (!file.contains(name)) {
      report.missing.push_back(slot.name);
      continue;
    }
    used.insert(name);
    Shape found = file.entry(name).shape;
    if (slot.layout == Layout::channels_second) found = second_axis_to_last(found);
    if (found == slot.shape) report.matched.push_back(slot.name);
    else report.shape_mismatch.push_back({slot.name, slot.shape, found});
  }
  for (const auto& item : file.entries()) {
    const std::string& name = item.first;
    if (name.compare(0, options.prefix.size(), options.prefix) != 0 || used.count(name)) continue;
    const std::string rest = name.substr(options.prefix.size());
    bool ignored = false;
    for (const std::string& start : options.ignore) ignored = ignored || rest.compare(0, start.size(), start) == 0;
    if (!ignored) report.unexpected.push_back(rest);
  }
  return report;
}

/// Fills the slots from the file. In strict mode (the default) throws FileError with the report's text before anything
/// is set; else fills what fits. A value that cannot be converted is always an error, found before anything is set.
template <class T>
LoadReport load_state(const SafeTensors& file,
                      const std::vector<StateSlot<T>>& slots,
                      const LoadOptions& options = {}) {
  LoadReport report = compare_state(file, slots, options);
  require<FileError>(!options.strict || report.complete(), "load: the file does not fit this network; ", report);
  const std::set<std::string> matched(report.matched.begin(), report.matched.end());
  std::vector<std::pair<const StateSlot<T>*, Tensor<T>>> ready;
  for (const StateSlot<T>& slot : slots) {
    if (!matched.count(slot.name)) continue;
    Tensor<T> value = file.tensor<T>(options.prefix + (options.rename ? options.rename(slot.name) : slot.name));
    if (slot.layout == Layout::channels_second) value = second_axis_to_last(value);
    ready.emplace_back(&slot, value.reshape(slot.shape));
  }
  for (const auto& [slot, value] : ready) slot->set(value);
  return report;
}

}  // namespace M3I_ABI
}  // namespace m3i
