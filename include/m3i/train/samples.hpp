#pragma once
/// Volumes with their targets as the network takes them, and batches of them from the loader's threads.

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "m3i/core/upload.hpp"
#include "m3i/data/loader.hpp"
#include "m3i/data/transform.hpp"
#include "m3i/train/cohort.hpp"
#include "m3i/train/label_scheme.hpp"
#include "m3i/train/patches.hpp"
#include "m3i/train/volumes.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Preprocessed once and kept (data.cache_gib, data.cache_folder). Any thread may ask.
class SampleSource {
 public:
  /// `scheme` is needed for classes() only.
  SampleSource(const Cohort& cohort, const MethodConfig& config, LabelScheme scheme = {})
      : cohort_(cohort),
        chain_(preprocessing_chain(config)),
        scheme_(std::move(scheme)),
        keys_(!config.data.cache_folder.empty()),
        budget_(cache_budget(config)),
        images_(budget_, config.data.cache_folder),
        labels_(budget_, config.data.cache_folder) {}

  /// Intensities as the chain leaves them: [S, S, S] with data.fit = cube.
  Tensor<float> image(Index entry) const { return stored_image(entry).whole(); }
  StoredVolume<float> stored_image(Index entry) const {
    const std::string& path = cohort_.entry(entry).image;
    return images_.get(image_key(path), [&] {
      const Preprocessed<float> done = read_preprocessed(path, chain_);
      remember(path, done.record);
      return done.volume.voxels;
    });
  }
  /// Classes of the network, on the image's voxels.
  Tensor<std::uint8_t> classes(Index entry) const { return stored_classes(entry).whole(); }
  StoredVolume<std::uint8_t> stored_classes(Index entry) const {
    const SubjectEntry& e = cohort_.entry(entry);
    return labels_.get(classes_key(e, cohort_.structures(entry)), [&] {
      const auto labels = read_labels<std::int32_t>(e.labels);
      const auto moved = needs_image(chain_) ? apply_labels(record_for(e, labels.grid()), labels)  //
                                             : apply_labels(chain_, labels);
      return LabelTable(scheme_, cohort_.structures(entry)).classes(moved.volume.voxels, e.labels);
    });
  }

 private:
  std::string image_key(const std::string& path) const { return "image " + keys_(path) + " " + chain_json(chain_); }
  std::string classes_key(const SubjectEntry& e, const std::vector<std::string>& structures) const {
    std::string key = "classes " + keys_(e.labels) + " of " + image_key(e.image);
    for (std::size_t c = 0; c < scheme_.names.size(); ++c) key += text("|", scheme_.values[c], "=", scheme_.names[c]);
    for (const std::string& name : structures) key += "|" + name;
    return key;
  }
  void remember(const std::string& path, const Preprocessing& record) const {
    if (!needs_image(chain_)) return;
    const std::scoped_lock lock(mutex_);
    records_.emplace(path, record);
  }
  /// Where the voxels of an entry's image went, for labels on its grid.
  Preprocessing record_for(const SubjectEntry& e, const Grid& labels) const {
    const auto find = [&]() -> std::optional<Preprocessing> {
      const std::scoped_lock lock(mutex_);
      const auto at = records_.find(e.image);
      return at == records_.end() ? std::nullopt : std::optional(at->second);
    };
    std::optional<Preprocessing> record = find();
    if (!record) {
      record = read_preprocessed(e.image, chain_).record;
      remember(e.image, *record);
    }
    check_same_grid(e.image, record->input, e.labels, labels);
    return *record;
  }

  const Cohort& cohort_;
  TransformChain chain_;
  LabelScheme scheme_;
  SourceKeys keys_;
  std::shared_ptr<ByteBudget> budget_;
  mutable VolumeCache<float> images_;
  mutable VolumeCache<std::uint8_t> labels_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, Preprocessing> records_;  ///< by image, for chains that depend on it
};

/// images [n, S, S, S, 1]; labels [n, S, S, S] if asked for; the entry of each.
struct VolumeBatch {
  Tensor<float> images;
  Tensor<std::int64_t> labels;
  std::vector<Index> entries;
};

/// Whole volumes as a batch of one step.
inline VolumeBatch make_batch(const std::vector<AugmentedSample>& samples, std::vector<Index> entries, Device device) {
  VolumeBatch batch;
  std::vector<Tensor<float>> images;
  std::vector<Tensor<std::int64_t>> labels;
  for (const AugmentedSample& s : samples) {
    const Shape& n = s.image.shape();
    images.push_back(s.image.reshape({n[0], n[1], n[2], 1}));
    if (!s.labels) continue;
    const Tensor<std::int64_t> wide(n);
    std::copy_n(s.labels->data(), n.size(), wide.data());
    labels.push_back(wide);
  }
  batch.images = stack(images).to(device);
  if (!labels.empty()) batch.labels = stack(labels).to(device);
  batch.entries = std::move(entries);
  return batch;
}

/// Endless augmented batches of some entries, in a random order each epoch. An entry may be listed more than once. With
/// labels and data.fit = patch an item is a random crop of its volume.
class TrainingBatches {
 public:
  TrainingBatches(const SampleSource& source,
                  const Cohort& cohort,
                  std::vector<Index> entries,
                  bool with_labels,
                  const MethodConfig& config,
                  const FinetuneConfig& training,
                  const BatchShard& shard,
                  Index first_item)
      : entries_(std::move(entries)),
        count_(shard.count),
        loader_(
            Index(entries_.size()),
            [this,
             &source,
             with_labels,
             patch = with_labels && config.data.fit == choice::Fit::patch,
             size = config.network.image_size,
             foreground = config.segmentation.patch.foreground,
             options = training.augment.options(config.run.seed)](const LoaderPlace& place) {
              const Index entry = entries_[std::size_t(place.item)];
              std::optional<StoredVolume<std::uint8_t>> labels;
              if (with_labels) labels = source.stored_classes(entry);
              if (!patch) return augment(source.stored_image(entry), labels, options, place.epoch, place.item);
              const Random random = Random(options.seed, patch_stream).split(std::uint64_t(place.epoch));
              const Size3 begin =
                  patch_begin(labels->whole(), size, foreground, random.split(std::uint64_t(place.item)));
              AugmentOptions cropped = options;
              cropped.crop = {size, size, size};
              return augment(source.stored_image(entry), labels, cropped, place.epoch, place.item, begin);
            },
            {.threads = int(config.data.workers),
             .ahead = 2 * shard.count,
             .seed = config.run.seed,
             .epoch = first_item / Index(entries_.size()),
             .position = first_item % Index(entries_.size()),
             .shard = shard},
            [this, &cohort](Index item) { return cohort.entry(entries_[std::size_t(item)]).image; }) {}

  /// The next batch, or this process's part of it, for work that is given before the next call.
  VolumeBatch next(Device device) {
    std::vector<AugmentedSample> samples;
    std::vector<Index> entries;
    for (Index i = 0; i < count_; ++i) {
      auto [value, place] = loader_.next();
      samples.push_back(std::move(value));
      entries.push_back(entries_[std::size_t(place.item)]);
    }
    VolumeBatch batch = make_batch(samples, std::move(entries), Device::cpu());
    batch.images = upload_images_(batch.images, device);
    if (batch.labels.defined()) batch.labels = upload_labels_(batch.labels, device);
    return batch;
  }

 private:
  static constexpr std::uint64_t patch_stream = 0x7061746368;  // "patch"

  std::vector<Index> entries_;
  Index count_;
  Loader<AugmentedSample> loader_;
  Uploader<float> upload_images_;
  Uploader<std::int64_t> upload_labels_;
};

/// Every class as often as the largest one: entries of the others are repeated in turn.
inline std::vector<Index> balanced_entries(const Cohort& cohort, const std::vector<Index>& entries) {
  std::map<Index, std::vector<Index>> classes;
  for (const Index e : entries) classes[cohort.entry(e).class_label.value_or(0)].push_back(e);
  std::size_t most = 0;
  for (const auto& item : classes) most = std::max(most, item.second.size());
  std::vector<Index> out;
  for (const auto& item : classes)
    for (std::size_t i = 0; i < most; ++i) out.push_back(item.second[i % item.second.size()]);
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
