#pragma once
/// Volumes made once: kept in memory up to a byte budget, and in a folder, if one is given, as uncompressed files,
/// which are mapped and read by crop where memory does not suffice, and found again by later runs.
///
/// A file is a safetensors file with one tensor, named by a hash of its key; the key, which stands in it in full, says
/// what the volume was made of and how (content_key). Files appear whole or not at all, so that several processes may
/// share a folder. A file that is damaged, or another key's, is made again.

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "m3i/imaging/volume.hpp"
#include "m3i/io/crc32.hpp"
#include "m3i/io/safetensors.hpp"
#include "m3i/text/describe.hpp"

namespace m3i {
inline namespace M3I_ABI {

namespace detail {
inline std::string hex_text(std::uint64_t number) {
  std::string out;
  for (int digit = 15; digit >= 0; --digit) out += "0123456789abcdef"[number >> (4 * digit) & 15];
  return out;
}
}  // namespace detail

/// "bytes:hash" of a file's content: a file that was moved keeps its key, one that was changed gets another. Throws
/// FileError.
inline std::string content_key(const std::string& path) {
  const MappedFile file(path);
  return text(file.size(), ":", detail::hex_text(text_hash(file.bytes())));
}

/// Bytes that caches may keep in memory together.
class ByteBudget {
 public:
  explicit ByteBudget(std::size_t bytes) : left_(bytes) {}

  /// Takes bytes if they are left.
  bool take(std::size_t bytes) {
    std::size_t left = left_;
    while (left >= bytes)
      if (left_.compare_exchange_weak(left, left - bytes)) return true;
    return false;
  }
  void give(std::size_t bytes) { left_ += bytes; }
  std::size_t left() const { return left_; }

 private:
  std::atomic<std::size_t> left_;
};

/// A volume in memory or in a mapped file. Copies share it.
template <class T>
class StoredVolume {
 public:
  explicit StoredVolume(Tensor<T> voxels) : shape_(voxels.shape()), voxels_(std::move(voxels)) {}
  StoredVolume(std::shared_ptr<const SafeTensors> file, const std::string& name)
      : shape_(file->entry(name).shape), data_(file->bytes(file->entry(name)).data()), file_(std::move(file)) {}

  const Shape& shape() const { return shape_; }
  bool in_memory() const { return voxels_.defined(); }

  /// All voxels: those in memory themselves (not to be changed), else a copy.
  Tensor<T> whole() const {
    if (in_memory()) return voxels_;
    Tensor<T> out(shape_);
    std::memcpy(out.data(), bytes(0), out.bytes());
    return out;
  }
  /// A copy of the box of `size` voxels from `begin`, reading nothing else. Throws ShapeError if it does not lie
  /// inside.
  Tensor<T> crop(const Size3& begin, const Size3& size) const {
    require(shape_.rank() == 3, "crop: needs [I, J, K], got ", shape_);
    for (std::size_t a = 0; a < 3; ++a)
      require(begin[a] >= 0 && size[a] > 0 && size[a] <= shape_[int(a)] - begin[a], "crop: ", size[a], " from ",
              begin[a], " along axis ", a, " does not lie in ", shape_);
    Tensor<T> out(shape_of(size));
    for (Index i = 0; i < size[0]; ++i)
      for (Index j = 0; j < size[1]; ++j)
        std::memcpy(out.data() + (i * size[1] + j) * size[2],
                    bytes(((begin[0] + i) * shape_[1] + begin[1] + j) * shape_[2] + begin[2]),
                    std::size_t(size[2]) * sizeof(T));
    return out;
  }

 private:
  const char* bytes(Index element) const {
    const char* base = in_memory() ? reinterpret_cast<const char*>(voxels_.data()) : data_;
    return base + std::size_t(element) * sizeof(T);
  }

  Shape shape_;
  Tensor<T> voxels_;
  const char* data_ = nullptr;
  std::shared_ptr<const SafeTensors> file_;
};

/// Volumes by key. Any thread may ask; one that asks for what another is making waits for it.
template <class T>
class VolumeCache {
 public:
  /// Without a folder ("") what exceeds the budget is made again each time. The folder is made if need be.
  explicit VolumeCache(std::shared_ptr<ByteBudget> budget, std::string folder = "")
      : budget_(std::move(budget)), folder_(std::move(folder)) {
    if (folder_.empty()) return;
    std::error_code error;
    std::filesystem::create_directories(folder_, error);
    require<FileError>(!error, folder_, ": cannot be made: ", error.message());
  }
  ~VolumeCache() {
    for (const auto& [key, slot] : slots_)
      if (slot->volume && slot->volume->in_memory()) budget_->give(slot->volume->whole().bytes());
  }
  VolumeCache(const VolumeCache&) = delete;
  VolumeCache& operator=(const VolumeCache&) = delete;

  /// The volume of `key`; `make()` -> Tensor<T> is called if it is neither in memory nor in the folder.
  template <class Make>
  StoredVolume<T> get(const std::string& key, const Make& make) {
    const std::shared_ptr<Slot> slot = slot_of(key);
    const std::scoped_lock lock(slot->mutex);
    if (slot->volume) return *slot->volume;
    std::optional<StoredVolume<T>> found = open(key);
    if (!found) {
      const Tensor<T> made = make();
      ++made_;
      if (!folder_.empty()) write(key, made);
      found.emplace(made);
    }
    if (budget_->take(std::size_t(found->shape().size()) * sizeof(T))) slot->volume.emplace(found->whole());
    else if (!folder_.empty()) slot->volume = found->in_memory() ? open(key) : found;
    return slot->volume ? *slot->volume : *found;
  }
  /// How often a volume had to be made.
  Index made() const { return made_; }
  std::string file_of(const std::string& key) const {
    return (std::filesystem::path(folder_) / (detail::hex_text(text_hash(key)) + ".safetensors")).string();
  }

 private:
  struct Slot {
    std::mutex mutex;
    std::optional<StoredVolume<T>> volume;
  };

  std::shared_ptr<Slot> slot_of(const std::string& key) {
    const std::scoped_lock lock(mutex_);
    auto& slot = slots_[key];
    if (!slot) slot = std::make_shared<Slot>();
    return slot;
  }
  /// The file of a key, if there is a sound one; its checksum is read once a process.
  std::optional<StoredVolume<T>> open(const std::string& key) const {
    std::error_code error;
    if (folder_.empty() || !std::filesystem::exists(file_of(key), error)) return std::nullopt;
    try {
      const auto file = std::make_shared<const SafeTensors>(file_of(key));
      const auto& notes = file->metadata();
      const auto is = [&](const char* name, const std::string& value) {
        const auto at = notes.find(name);
        return at != notes.end() && at->second == value;
      };
      const TensorEntry& entry = file->entry("voxels");
      if (entry.dtype != detail::stored_name<T>() || !is("key", key) || !is("crc32", text(crc32(file->bytes(entry)))))
        return std::nullopt;
      return StoredVolume<T>(file, "voxels");
    } catch (const Error&) {
      return std::nullopt;  // not a file of this cache, or damaged: write() replaces it
    }
  }
  void write(const std::string& key, const Tensor<T>& voxels) const {
    const std::string_view bytes{reinterpret_cast<const char*>(voxels.data()), voxels.bytes()};
    write_safetensors(file_of(key), {NamedArray("voxels", voxels)}, {{"key", key}, {"crc32", text(crc32(bytes))}});
  }

  std::shared_ptr<ByteBudget> budget_;
  std::string folder_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Slot>> slots_;
  std::atomic<Index> made_{0};
};

}  // namespace M3I_ABI
}  // namespace m3i
