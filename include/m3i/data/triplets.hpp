#pragma once
/// Triplets: a volume, one of its slices, and a caption; made from volumes, kept as JSON lines.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "m3i/core/atomic_file.hpp"
#include "m3i/data/caption_origin.hpp"
#include "m3i/data/json_fields.hpp"
#include "m3i/data/subjects.hpp"
#include "m3i/imaging/geometry.hpp"
#include "m3i/imaging/intensity.hpp"
#include "m3i/imaging/nifti.hpp"
#include "m3i/imaging/slices.hpp"
#include "m3i/text/describe.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// One line of triplets.jsonl.
struct Triplet {
  std::string id;       ///< unique in its file
  std::string subject;  ///< who: splits are by subject
  std::string volume;   ///< path of the NIfTI file; relative paths start at the JSONL file's folder
  Plane plane = Plane::coronal;
  Index slice = 0, slices = 1;  ///< position among the slices of the plane, after reorientation to RAS
  std::string caption;
  std::string picture;                     ///< path of the slice as PNG; may be empty
  std::string describer;                   ///< who wrote the caption: "template", "file", the name of a model
  std::vector<std::string> wrong;          ///< facts that the describer made wrong on purpose
  double window_low = 0, window_high = 0;  ///< intensities shown as 0 and 1; equal when unknown
  std::optional<CaptionOrigin> origin{};   ///< of a caption by a vision-language model

  /// The slice as one of `bins` positions of the plane (128 in the method).
  Index bin(Index bins = 128) const { return slice_bin(slice, slices, bins); }
};

namespace detail {

inline Triplet triplet_of(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  Triplet t;
  t.id = fields.string("id", true);
  t.subject = fields.string("subject", true);
  t.volume = fields.string("volume", true);
  const std::string plane = fields.string("plane", true);
  try {
    t.plane = parse_plane(plane);
  } catch (const ConfigError& error) {
    fail<FileError>(where, ": ", error.what());
  }
  t.slice = fields.integer("slice");
  t.slices = fields.integer("slices");
  require<FileError>(t.slices > 0 && t.slice >= 0 && t.slice < t.slices, where, ": slice ", t.slice,
                     " lies outside the volume, which has ", t.slices, " ", plane, " slices (0 to ", t.slices - 1, ")");
  t.caption = fields.string("caption", true);
  t.picture = fields.string("picture", false);
  t.describer = fields.string("describer", false);
  t.wrong = fields.strings("wrong");
  if (const auto window = fields.numbers("window", 2); !window.empty()) {
    t.window_low = window[0];
    t.window_high = window[1];
    require<FileError>(window[0] < window[1], where, ": window ", window[0], " to ", window[1],
                       " is empty or upside down");
  }
  fields.accept("origin");
  if (fields.has("origin")) t.origin = caption_origin_of(json["origin"], where + ": \"origin\"");
  fields.finish();
  return t;
}

inline Json json_of(const Triplet& t) {
  Json j{{"id", t.id},       {"subject", t.subject}, {"volume", t.volume},  {"plane", plane_name(t.plane)},
         {"slice", t.slice}, {"slices", t.slices},   {"caption", t.caption}};
  if (!t.picture.empty()) j["picture"] = t.picture;
  if (!t.describer.empty()) j["describer"] = t.describer;
  if (!t.wrong.empty()) j["wrong"] = t.wrong;
  if (t.window_low != t.window_high) j["window"] = {t.window_low, t.window_high};
  if (t.origin) j["origin"] = json_of(*t.origin);
  return j;
}

inline std::string beside(const std::string& file, const std::string& path) {
  return (std::filesystem::path(file).parent_path() / path).string();
}

}  // namespace detail

/// Reads triplets.jsonl. Every line is checked, and an error names file:line; nothing is skipped in silence.
/// Throws FileError for an unreadable or empty file, malformed JSON, a missing, misspelt or wrong field, a slice
/// outside its volume, an empty caption, or an id that occurs twice.
inline std::vector<Triplet> read_triplets(const std::string& path) {
  std::error_code error;
  require<FileError>(!std::filesystem::is_directory(path, error), path,
                     ": is a folder, expected a triplets.jsonl as make_triplets writes it");
  const MappedFile file(path);
  const std::string_view bytes = file.bytes();
  std::vector<Triplet> triplets;
  std::set<std::string> ids;
  Index line_number = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t end = std::min(bytes.find('\n', at), bytes.size());
    const std::string_view line = bytes.substr(at, end - at);
    at = end + 1;
    ++line_number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = text(path, ":", line_number);
    triplets.push_back(detail::triplet_of(parse_json(line, where), where));
    require<FileError>(ids.insert(triplets.back().id).second, where, ": id \"", triplets.back().id,
                       "\" occurs twice in this file");
  }
  require<FileError>(!triplets.empty(), path, ": holds no triplet; make some with make_triplets");
  return triplets;
}

/// Writes triplets.jsonl whole or not at all.
inline void write_triplets(const std::string& path, const std::vector<Triplet>& triplets) {
  std::string bytes;
  std::set<std::string> ids;
  for (const Triplet& t : triplets) {
    require<FileError>(ids.insert(t.id).second, path, ": id \"", t.id, "\" occurs twice; two volumes of subject \"",
                       t.subject, "\" have the same file name");
    bytes += json_text(detail::json_of(t), path) + "\n";
  }
  write_file(path, bytes);
}

/// Compares triplets with the volumes they name, reading headers only: the file exists, is a sound NIfTI, and has as
/// many slices as the triplet says. A line for each that does not fit. `path` is that of the JSONL file.
inline std::vector<std::string> triplet_problems(const std::vector<Triplet>& triplets, const std::string& path) {
  std::vector<std::string> problems;
  for (const Triplet& t : triplets) {
    const std::string volume = detail::beside(path, t.volume);
    try {
      const Grid grid = grid_of(read_nifti_header(volume), volume);
      const auto axis = std::size_t(ras_map(grid.affine).axis[std::size_t(plane_axis(t.plane))]);
      require<FileError>(grid.size[axis] == t.slices, path, ": triplet \"", t.id, "\" says that ", volume, " has ",
                         t.slices, " ", plane_name(t.plane), " slices, it has ", grid.size[axis],
                         "; make the triplets again");
    } catch (const FileError& error) {
      problems.push_back(error.what());
    }
  }
  return problems;
}
/// Throws FileError that lists what does not fit, the first twenty.
inline void check_triplets(const std::vector<Triplet>& triplets, const std::string& path) {
  const auto problems = triplet_problems(triplets, path);
  std::string all;
  for (std::size_t i = 0; i < std::min<std::size_t>(20, problems.size()); ++i) all += (i > 0 ? "\n" : "") + problems[i];
  if (problems.size() > 20) all += text("\nand ", problems.size() - 20, " more");
  require<FileError>(problems.empty(), all);
}

/// The volumes that triplets name, each once, as a data set to check. `path` is that of the JSONL file.
inline SubjectList subjects_of_triplets(const std::vector<Triplet>& triplets, const std::string& path) {
  SubjectList list;
  list.folder = std::filesystem::path(path).parent_path().string();
  std::set<std::string> seen;
  for (const Triplet& t : triplets) {
    SubjectEntry entry;
    entry.subject = t.subject;
    entry.image = detail::beside(path, t.volume);
    if (seen.insert(entry.image).second) list.entries.push_back(std::move(entry));
  }
  return list;
}

/// One volume to take slices from, with what is known about it.
struct TripletSource {
  std::string subject, volume_path;
  Volume<float> image;                           ///< any orientation
  std::optional<Volume<std::uint8_t>> labels{};  ///< on the same grid
  std::vector<std::string> structures{};         ///< names of the labels; entry 0 is the background
  std::string modality{}, body_part{};           ///< empty: guessed from the path and the intensities
  std::string finding{};                         ///< said in slices that show `finding_label` (0: in all)
  int finding_label = 0;
  bool healthy = false;  ///< known to be without any finding
};

/// Reads the volumes of a data set's entry. `jsonl` is the file that the triplets will be written to.
inline TripletSource load_triplet_source(const SubjectList& list, const SubjectEntry& entry, const std::string& jsonl) {
  namespace fs = std::filesystem;
  TripletSource source;
  source.subject = entry.subject;
  source.image = read_nifti<float>(entry.image);
  const std::string folder = fs::absolute(jsonl).parent_path().lexically_normal().string();
  source.volume_path = fs::absolute(entry.image).lexically_normal().lexically_relative(folder).string();
  source.structures = entry.structures.empty() ? list.structures : entry.structures;
  source.modality = entry.modality;
  source.body_part = entry.body_part;
  source.finding = entry.finding;
  source.finding_label = entry.finding_label;
  const bool told = source.structures.size() > 1 || source.finding_label > 0;  // else labels have nothing to say
  if (!entry.labels.empty() && told) source.labels = read_labels<std::uint8_t>(entry.labels);
  source.healthy = entry.class_label == 0 && !list.classes.empty() && list.classes[0] == "healthy";
  return source;
}

struct TripletOptions {
  std::uint64_t seed = 0;
  std::vector<Plane> planes{Plane::coronal, Plane::sagittal, Plane::axial};  ///< drawn from, each as often
  Index slices_per_volume = 1;
  double min_foreground = 0.1;    ///< slices with less are redrawn
  double foreground_above = 0.1;  ///< a pixel is foreground above this share of the window
  double noise_rate = 0;          ///< of the describer
  double window_percent[2] = {0.5, 99.5};
  bool ct_windows = true;  ///< CT in Hounsfield units: the body part's usual window instead of percentiles
};

namespace detail {

struct SliceChoice {
  Plane plane = Plane::coronal;
  Index slice = -1;
  double foreground = -1;
};

/// Draws plane and slice uniformly until enough of the slice is foreground; after 200 draws the best one seen is taken.
inline SliceChoice choose_slice(const Tensor<float>& unit,
                                Random& random,
                                const TripletOptions& options,
                                const std::set<std::pair<Plane, Index>>& taken) {
  SliceChoice best;
  for (int draw = 0; draw < 200; ++draw) {
    SliceChoice c;
    c.plane = options.planes[std::size_t(random.below(Index(options.planes.size())))];
    c.slice = random.below(unit.shape()[plane_axis(c.plane)]);
    if (taken.count({c.plane, c.slice}) > 0) continue;
    c.foreground = foreground_fraction(extract_slice(unit, c.plane, c.slice), options.foreground_above);
    if (c.foreground > best.foreground) best = c;
    if (c.foreground >= options.min_foreground) return c;
  }
  return best;
}

/// The intensities shown as 0 and 1. CT windows (centre/width in HU): brain 40/120, chest -300/1400, soft tissue
/// 50/400.
inline std::pair<double, double> display_window(const Tensor<float>& voxels,
                                                const IntensityStats& stats,
                                                const SliceFacts& facts,
                                                const TripletOptions& options) {
  if (options.ct_windows && facts.modality == "CT" && stats.min <= -900) {
    if (facts.body_part == "head") return {-20, 100};
    if (facts.body_part == "chest") return {-1000, 400};
    if (facts.body_part == "abdomen" || facts.body_part == "pelvis") return {-150, 250};
  }
  const auto range = percentiles(voxels, {options.window_percent[0], options.window_percent[1]});
  if (range[1] > range[0]) return {range[0], range[1]};
  return {stats.min, stats.max};  // nearly all voxels are equal
}

/// Names of the structures that fill at least 0.1 % of a label slice (and 3 pixels), the largest first.
inline std::vector<std::string> visible(const Tensor<std::uint8_t>& slice, const std::vector<std::string>& names) {
  std::vector<std::pair<Index, std::size_t>> areas;
  for (std::size_t l = 1; l < std::min<std::size_t>(names.size(), 256); ++l) {
    const auto values = slice.span();
    const Index area = std::count(values.begin(), values.end(), std::uint8_t(l));
    if (area >= std::max<Index>(3, slice.size() / 1000)) areas.emplace_back(-area, l);
  }
  std::sort(areas.begin(), areas.end());
  std::vector<std::string> out;
  for (const auto& [area, l] : areas) out.push_back(names[l]);
  return out;
}

/// Adds to what is known of the volume what can be seen in one slice. `labels` in RAS order.
inline SliceFacts facts_of_slice(const SliceFacts& known,
                                 const TripletSource& source,
                                 const std::optional<Volume<std::uint8_t>>& labels,
                                 const SliceChoice& choice) {
  SliceFacts facts = known;
  facts.plane = plane_name(choice.plane);
  bool shows_finding = source.finding_label == 0;
  if (labels) {
    const auto slice = extract_slice(labels->voxels, choice.plane, choice.slice);
    facts.structures = visible(slice, source.structures);
    const auto values = slice.span();
    if (std::find(values.begin(), values.end(), std::uint8_t(source.finding_label)) != values.end())
      shows_finding = true;
  }
  if (shows_finding) facts.finding = source.finding;
  std::erase_if(facts.structures, [&](const std::string& name) {  // said by the finding
    return facts.finding.find(name) != std::string::npos;
  });
  return facts;
}

}  // namespace detail

/// Makes the triplets of one volume: plane and slice drawn uniformly (redrawn below the foreground limit), caption by
/// the built-in describer. What a subject gets depends on the seed and its own name and file name, not on other
/// subjects. Throws FileError for NaN, constant volumes and labels on another grid, ConfigError for options out of
/// range.
inline std::vector<Triplet> make_triplets(const TripletSource& source, const TripletOptions& options) {
  require<ConfigError>(options.slices_per_volume > 0, "triplets: ", options.slices_per_volume,
                       " slices a volume, expected at least 1");
  require<ConfigError>(!options.planes.empty(), "triplets: no plane to draw slices from; name at least one");
  require<ConfigError>(options.min_foreground >= 0 && options.min_foreground < 1, "triplets: foreground limit ",
                       options.min_foreground, " must lie in [0, 1)");
  require<ConfigError>(options.window_percent[0] >= 0 && options.window_percent[0] < options.window_percent[1] &&
                           options.window_percent[1] <= 100,
                       "triplets: window from percentile ", options.window_percent[0], " to ",
                       options.window_percent[1], ", expected 0 <= low < high <= 100");
  check_intensities(source.image, source.volume_path);
  const Volume<float> image = to_ras(source.image);
  std::optional<Volume<std::uint8_t>> labels;
  if (source.labels) {
    check_same_grid(source.volume_path, source.image.grid(), "labels of " + source.subject, source.labels->grid());
    labels = to_ras(*source.labels);
  }
  const IntensityStats stats = intensity_stats(image.voxels);
  SliceFacts known = guess_facts(source.volume_path, stats.min, stats.max);
  if (!source.modality.empty()) known.modality = source.modality;
  if (!source.body_part.empty()) known.body_part = source.body_part;
  known.healthy = source.healthy;
  const auto [low, high] = detail::display_window(image.voxels, stats, known, options);
  const Tensor<float> unit = rescale(image.voxels, low, high, true);

  // The name of the file, not its folder: a data set that moves keeps its triplets.
  const std::string file_name = std::filesystem::path(source.volume_path).filename().string();
  const std::string stem = detail::nifti_stem(file_name);
  const std::string id = stem.rfind(source.subject, 0) == 0 ? stem : text(source.subject, "_", stem);
  const std::uint64_t number = text_hash(source.subject + "\n" + file_name);
  Random random = Random(options.seed, 0x74726970).split(number);
  std::vector<Triplet> out;
  std::set<std::pair<Plane, Index>> taken;
  for (Index s = 0; s < options.slices_per_volume; ++s) {
    const auto choice = detail::choose_slice(unit, random, options, taken);
    if (choice.slice < 0) break;  // fewer slices than asked for
    taken.insert({choice.plane, choice.slice});
    Triplet t;
    t.id = text(id, "_", plane_name(choice.plane), "_", choice.slice);
    t.subject = source.subject;
    t.volume = source.volume_path;
    t.plane = choice.plane;
    t.slice = choice.slice;
    t.slices = image.shape()[plane_axis(choice.plane)];
    t.window_low = low;
    t.window_high = high;
    t.describer = "template";
    SliceFacts facts = detail::facts_of_slice(known, source, labels, choice);
    facts.position = (double(t.slice) + 0.5) / double(t.slices);
    const Description caption = describe(facts, {options.noise_rate, options.seed}, number + std::uint64_t(s));
    t.caption = caption.text;
    t.wrong = caption.wrong;
    out.push_back(std::move(t));
  }
  return out;
}

/// The slice of a triplet as a picture [rows, columns] in [0, 1], the way it is displayed. `image` in any orientation.
inline Tensor<float> triplet_picture(const Volume<float>& image, const Triplet& t) {
  const Volume<float> ras = to_ras(image);
  const Index n = ras.shape()[plane_axis(t.plane)];
  require<FileError>(n == t.slices && t.slice >= 0 && t.slice < n, "triplet \"", t.id, "\": slice ", t.slice, " of ",
                     t.slices, " does not fit ", t.volume, ", which has ", n, " ", plane_name(t.plane), " slices");
  const auto slice = slice_display(extract_slice(ras.voxels, t.plane, t.slice));
  return t.window_high > t.window_low ? rescale(slice, t.window_low, t.window_high, true) : minmax(slice);
}

}  // namespace M3I_ABI
}  // namespace m3i
