#pragma once
/// safetensors: an 8-byte little-endian header length, a JSON header, and the arrays' bytes.
///
/// Reading maps the file and checks every rule of the format before a single value is used; a file that breaks one is
/// refused with a FileError that says which. Format: huggingface/safetensors, README "Format".

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "m3i/core/atomic_file.hpp"
#include "m3i/core/tensor.hpp"
#include "m3i/io/json.hpp"
#include "m3i/io/mapped_file.hpp"

namespace m3i {
inline namespace M3I_ABI {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian; so must the host be");

/// One array of a file: element type in the format's words (F32, I64, ...), shape, and bytes [begin, end) of the data.
struct TensorEntry {
  std::string dtype;
  Shape shape;
  std::size_t begin = 0, end = 0;
};

namespace detail {

struct StoredType {
  const char* name;
  std::size_t bytes;
};
/// The element types of whole bytes. Those that no tensor of m3i can hold (F8, C64) may be present, but not be read.
inline constexpr StoredType stored_types[] = {{"F64", 8},     {"F32", 4}, {"F16", 2},  {"BF16", 2},    {"I64", 8},
                                              {"I32", 4},     {"I16", 2}, {"I8", 1},   {"U64", 8},     {"U32", 4},
                                              {"U16", 2},     {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1},
                                              {"F8_E8M0", 1}, {"C64", 8}};

template <class T>
constexpr const char* stored_name() {
  if constexpr (std::is_same_v<T, double>) return "F64";
  else if constexpr (std::is_same_v<T, float>) return "F32";
  else if constexpr (std::is_same_v<T, half>) return "F16";
  else if constexpr (std::is_same_v<T, bf16>) return "BF16";
  else if constexpr (std::is_same_v<T, std::int64_t>) return "I64";
  else if constexpr (std::is_same_v<T, std::int32_t>) return "I32";
  else {
    static_assert(std::is_same_v<T, std::uint8_t>, "safetensors: not an element type of m3i tensors");
    return "U8";
  }
}
template <class T>
inline constexpr bool is_stored_float = std::is_floating_point_v<T> || is_small_float<T>;

}  // namespace detail

/// A safetensors file, open for reading.
class SafeTensors {
 public:
  static constexpr std::size_t max_header_bytes = 100'000'000;  // the format's own bound

  explicit SafeTensors(const std::string& path) : file_(path) { read_header(); }

  const std::string& path() const { return file_.path(); }
  /// In alphabetical order.
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& item : entries_) out.push_back(item.first);
    return out;
  }
  bool contains(const std::string& name) const { return entries_.count(name) != 0; }
  const TensorEntry& entry(const std::string& name) const {
    const auto it = entries_.find(name);
    require<FileError>(it != entries_.end(), path(), ": has no tensor \"", excerpt(name), "\" among its ",
                       entries_.size());
    return it->second;
  }
  const std::map<std::string, TensorEntry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// The stored bytes of a tensor.
  std::string_view bytes(const TensorEntry& e) const { return data_.substr(e.begin, e.end - e.begin); }

  /// A copy of the tensor as T. A floating T takes every floating type, rounding to nearest; an integer T takes every
  /// integer type and BOOL. A value that T cannot hold (too large for a float, outside an integer's range) is an error.
  template <class T>
  Tensor<T> tensor(const std::string& name, Device device = Device::cpu()) const {
    const TensorEntry& e = entry(name);
    Tensor<T> out(e.shape);
    const auto convert = [&](auto from) { copy_values<decltype(from)>(name, e, out.data()); };
    bool readable = true;
    if (e.dtype == detail::stored_name<T>()) {
      if (e.end > e.begin) std::memcpy(static_cast<void*>(out.data()), data_.data() + e.begin, e.end - e.begin);
    } else if constexpr (detail::is_stored_float<T>) {
      if (e.dtype == "F64") convert(double{});
      else if (e.dtype == "F32") convert(float{});
      else if (e.dtype == "F16") convert(half{});
      else if (e.dtype == "BF16") convert(bf16{});
      else readable = false;
    } else {
      if (e.dtype == "I64") convert(std::int64_t{});
      else if (e.dtype == "I32") convert(std::int32_t{});
      else if (e.dtype == "I16") convert(std::int16_t{});
      else if (e.dtype == "I8") convert(std::int8_t{});
      else if (e.dtype == "U64") convert(std::uint64_t{});
      else if (e.dtype == "U32") convert(std::uint32_t{});
      else if (e.dtype == "U16") convert(std::uint16_t{});
      else if (e.dtype == "U8") convert(std::uint8_t{});
      else if (e.dtype == "BOOL") convert(bool{});
      else readable = false;
    }
    require<FileError>(readable, path(), ": tensor \"", excerpt(name), "\" is ", e.dtype, " and cannot be read as ",
                       dtype_name<T>(), "; read it as ",
                       e.dtype[0] == 'I' || e.dtype[0] == 'U' || e.dtype == "BOOL" ? "an integer type"
                       : e.dtype[0] == 'F' && e.dtype[1] != '8'                    ? "a floating type"
                                                                : "something else: m3i has no such element type");
    return out.to(device);
  }

 private:
  void read_header() {
    const std::string_view all = file_.bytes();
    require<FileError>(all.size() >= 8, path(), ": is not a safetensors file: ", all.size(),
                       " bytes, the header length alone needs 8");
    std::uint64_t length = 0;
    std::memcpy(&length, all.data(), 8);
    require<FileError>(length <= max_header_bytes, path(), ": is not a safetensors file: header of ", length,
                       " bytes, at most ", max_header_bytes, " are allowed");
    require<FileError>(length <= all.size() - 8, path(), ": is cut off: header of ", length, " bytes, the file has ",
                       all.size() - 8, " after the length");
    const std::string_view header = all.substr(8, std::size_t(length));
    require<FileError>(!header.empty() && header[0] == '{', path(),
                       ": is not a safetensors file: the header does not "
                       "begin with '{'");
    data_ = all.substr(8 + std::size_t(length));
    // Depth 3: the header, a tensor's object, its arrays.
    const Json json = parse_json(header, path(), 3);
    for (const auto& [name, value] : json.items())
      if (name == "__metadata__") read_metadata(value);
      else entries_.emplace(name, read_entry(name, value));
    check_coverage();
  }

  void read_metadata(const Json& value) {
    require<FileError>(value.is_object(), path(), ": __metadata__ is not an object of strings");
    for (const auto& [key, text] : value.items()) {
      require<FileError>(text.is_string(), path(), ": __metadata__ \"", excerpt(key), "\" is ", text.type_name(),
                         ", expected a string");
      metadata_.emplace(key, text.get_ref<const std::string&>());
    }
  }

  TensorEntry read_entry(const std::string& name, const Json& value) const {
    const std::string where = text(path(), ": tensor \"", excerpt(name), "\": ");
    require<FileError>(value.is_object(), where, "is ", value.type_name(), ", expected an object");
    for (const auto& item : value.items())
      require<FileError>(item.key() == "dtype" || item.key() == "shape" || item.key() == "data_offsets", where,
                         "unknown key \"", excerpt(item.key()), "\"");
    for (const char* key : {"dtype", "shape", "data_offsets"})
      require<FileError>(value.contains(key), where, "has no ", key);
    require<FileError>(value["dtype"].is_string(), where, "dtype is not a string");
    require<FileError>(value["shape"].is_array(), where, "shape is not an array");
    require<FileError>(value["data_offsets"].is_array() && value["data_offsets"].size() == 2, where,
                       "data_offsets is not an array of two numbers");

    TensorEntry e;
    e.dtype = value["dtype"].get<std::string>();
    std::size_t bytes = 0;
    for (const auto& type : detail::stored_types)
      if (e.dtype == type.name) bytes = type.bytes;
    require<FileError>(bytes > 0, where, "unknown dtype \"", excerpt(e.dtype), "\"");
    require<FileError>(value["shape"].size() <= Shape::max_rank, where, value["shape"].size(), " axes, at most ",
                       Shape::max_rank, " are supported");
    for (const Json& extent : value["shape"]) {
      const std::size_t n = read_size(extent, where, "shape");
      e.shape.push_back(checked_extent(e.shape, n, where));
      bytes *= n;  // cannot overflow: Shape keeps its size below 2^58 and no type is larger than 8 = 2^3 bytes
    }
    e.begin = read_size(value["data_offsets"][0], where, "data_offsets");
    e.end = read_size(value["data_offsets"][1], where, "data_offsets");
    require<FileError>(e.begin <= e.end && e.end <= data_.size(), where, "data_offsets [", e.begin, ", ", e.end,
                       "] are not within the ", data_.size(), " bytes of data; the file is damaged or cut off");
    require<FileError>(e.end - e.begin == bytes, where, e.dtype, " ", e.shape, " needs ", bytes,
                       " bytes, data_offsets hold ", e.end - e.begin);
    return e;
  }

  static std::size_t read_size(const Json& number, const std::string& where, const char* what) {
    require<FileError>(number.is_number_unsigned(), where, what, " holds ", number.type_name(),
                       ", expected integers of at least 0");
    const std::uint64_t n = number.get<std::uint64_t>();
    require<FileError>(n <= std::uint64_t(std::numeric_limits<Index>::max()), where, what, " holds ", n,
                       ", which is too large");
    return std::size_t(n);
  }
  /// Shape refuses sizes that overflow; say it in the file's words.
  static Index checked_extent(Shape shape, std::size_t extent, const std::string& where) {
    try {
      shape.push_back(Index(extent));
    } catch (const ShapeError& error) {
      fail<FileError>(where, error.what());
    }
    return Index(extent);
  }

  /// The arrays must tile the data: no overlap, no hole, nothing after the last.
  void check_coverage() const {
    std::map<std::pair<std::size_t, std::size_t>, const std::string*> order;  // by begin, then end: empty arrays first
    for (const auto& [name, e] : entries_) {
      const auto [it, fresh] = order.emplace(std::pair(e.begin, e.end), &name);
      require<FileError>(fresh || e.begin == e.end, path(), ": tensors \"", excerpt(*it->second), "\" and \"",
                         excerpt(name), "\" overlap");
    }
    std::size_t covered = 0;
    for (const auto& [range, name] : order) {
      require<FileError>(range.first >= covered, path(), ": tensor \"", excerpt(*name), "\" begins at byte ",
                         range.first, " and overlaps the one that ends at ", covered);
      require<FileError>(range.first == covered, path(), ": bytes ", covered, " to ", range.first,
                         " of the data belong to no tensor");
      covered = range.second;
    }
    require<FileError>(covered == data_.size(), path(), ": ", data_.size() - covered,
                       " bytes after the last tensor belong to no tensor");
  }

  template <class From, class T>
  void copy_values(const std::string& name, const TensorEntry& e, T* out) const {
    const char* in = data_.data() + e.begin;
    const Index n = e.shape.size();
    for (Index i = 0; i < n; ++i, in += sizeof(From)) {
      if constexpr (std::is_same_v<From, bool>) {  // a byte that is neither 0 nor 1 is not a bool in C++
        const auto byte = static_cast<unsigned char>(*in);
        require<FileError>(byte <= 1, path(), ": tensor \"", excerpt(name), "\": BOOL element ", i, " is ",
                           unsigned(byte));
        out[i] = T(byte);
      } else {
        From value;
        std::memcpy(&value, in, sizeof value);  // offsets need not be aligned
        if constexpr (detail::is_stored_float<T>) {
          using Wide = accumulate_t<From>;
          out[i] = T(Wide(value));
          require<FileError>(std::isfinite(accumulate_t<T>(out[i])) || !std::isfinite(Wide(value)), path(),
                             ": tensor \"", excerpt(name), "\": element ", i, " is ", Wide(value), ", too large for ",
                             dtype_name<T>());
        } else {
          require<FileError>(std::in_range<T>(value), path(), ": tensor \"", excerpt(name), "\": element ", i, " is ",
                             value, ", which ", dtype_name<T>(), " cannot hold");
          out[i] = T(value);
        }
      }
    }
  }

  MappedFile file_;
  std::string_view data_;
  std::map<std::string, TensorEntry> entries_;
  std::map<std::string, std::string> metadata_;
};

/// An array to be written. Shares the tensor's memory when that is on the host, else copies it there.
struct NamedArray {
  std::string name;
  std::string dtype;
  Shape shape;
  const char* data = nullptr;
  std::size_t bytes = 0;
  std::size_t element_bytes = 0;
  std::shared_ptr<const void> owner;

  template <class T>
  NamedArray(std::string name_, const Tensor<T>& tensor)
      : name(std::move(name_)), dtype(detail::stored_name<T>()), shape(tensor.shape()), element_bytes(sizeof(T)) {
    require(tensor.defined(), "safetensors: tensor \"", name, "\" has no memory");
    const auto kept = std::make_shared<const Tensor<T>>(tensor.to(Device::cpu()));
    data = reinterpret_cast<const char*>(kept->data());
    bytes = kept->bytes();
    owner = kept;
  }
};

/// Writes a safetensors file atomically. Arrays with larger elements come first, then alphabetical, so that each is
/// aligned and the same content always gives the same bytes. Throws FileError; an old file then stays as it was.
inline void write_safetensors(const std::string& path,
                              std::vector<NamedArray> arrays,
                              const std::map<std::string, std::string>& metadata = {}) {
  std::sort(arrays.begin(), arrays.end(), [](const NamedArray& a, const NamedArray& b) {
    return a.element_bytes != b.element_bytes ? a.element_bytes > b.element_bytes : a.name < b.name;
  });
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::size_t offset = 0;
  for (const NamedArray& a : arrays) {
    require<FileError>(a.name != "__metadata__", path, ": \"__metadata__\" cannot name a tensor");
    require<FileError>(!header.contains(a.name), path, ": two tensors are named \"", excerpt(a.name), "\"");
    header[a.name] = {{"dtype", a.dtype},
                      {"shape", std::vector<Index>(a.shape.begin(), a.shape.end())},
                      {"data_offsets", {offset, offset + a.bytes}}};
    offset += a.bytes;
  }
  std::string words = json_text(header, path);
  words.resize((words.size() + 7) / 8 * 8, ' ');
  require<FileError>(words.size() <= SafeTensors::max_header_bytes, path, ": names and metadata need a header of ",
                     words.size(), " bytes, at most ", SafeTensors::max_header_bytes, " are allowed");
  const std::uint64_t length = words.size();
  AtomicFile file(path);
  file.write(&length, sizeof length);
  file.write(words);
  for (const NamedArray& a : arrays) file.write(a.data, a.bytes);
  file.commit();
}

}  // namespace M3I_ABI
}  // namespace m3i
