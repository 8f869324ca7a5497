// Makes triplets (volume, slice, caption) from a folder of NIfTI volumes: phantoms, or real scans.
//
//     make_triplets data/phantoms data/triplets --slices 3

#include <CLI/CLI.hpp>

#include "m3i/data.hpp"
#include "m3i/imaging.hpp"
#include "m3i/text/text_file.hpp"
#include "m3i/train/program.hpp"
#include "m3i/train/progress.hpp"
#include "m3i/train/staging.hpp"

namespace {

using namespace m3i;
namespace fs = std::filesystem;

struct Request {
  std::string data, out, captions;
  std::optional<Index> slices;
  std::optional<double> min_foreground;
  std::optional<std::uint64_t> seed;
  double noise = 0;
  bool skip_bad = false, first_frame = false, overwrite = false;
};

TripletOptions triplet_options(const Request& request, const MethodConfig& config) {
  TripletOptions o;
  o.seed = request.seed.value_or(config.run.seed);
  o.slices_per_volume = request.slices.value_or(config.data.slices_per_volume);
  o.min_foreground = request.min_foreground.value_or(config.data.min_foreground);
  o.noise_rate = request.noise;
  o.planes.clear();
  for (const choice::Plane plane : config.data.planes) o.planes.push_back(Plane(int(plane)));  // the same order
  return o;
}

/// The images that can be used. Bad ones end the program, all of them listed, or are left out with --skip-bad.
SubjectList sound_subjects(const Request& request, const MethodConfig& config) {
  SubjectList list = find_subjects(request.data, {config.data.channel});
  for (const std::string& file : list.left_out) std::printf("make_triplets: not used: %s\n", file.c_str());
  const DatasetCheck check{.need_labels = false, .need_classes = false, .first_frame = request.first_frame};
  const DatasetReport report = check_dataset(list, check);
  if (report.sound()) return list;
  require<FileError>(request.skip_bad, "data set ", request.data, ": ", report.problems.size(), " problem(s) in ",
                     report.checked, " image(s):\n", report.text(1000),
                     "Repair or remove these files, or leave them out with --skip-bad",
                     request.first_frame ? "" : "; --first-frame takes the first frame of files with several");
  std::set<std::string> bad;
  for (const auto& problem : report.problems) {
    bad.insert(problem.file);
    std::printf("make_triplets: left out: %s\n", problem.text.c_str());
  }
  std::erase_if(list.entries, [&](const SubjectEntry& e) { return bad.count(e.image) > 0 || bad.count(e.labels) > 0; });
  require<FileError>(!list.entries.empty(), request.data, ": nothing is left without the images that have problems");
  return list;
}

/// Captions of one's own: lines {"id": ..., "caption": ...} for a triplet or {"volume": ..., "caption": ...} for all
/// triplets of a file, named as in DATA or by its name alone.
class OwnCaptions {
 public:
  explicit OwnCaptions(const std::string& path) : path_(path) {
    const std::string bytes = read_text_file(path);
    std::size_t line_number = 0;
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t end = std::min(bytes.find('\n', at), bytes.size());
      const std::string_view line(bytes.data() + at, end - at);
      at = end + 1;
      ++line_number;
      if (line.find_first_not_of(" \t\r") != std::string_view::npos) add(line, text(path, ":", line_number));
    }
    require<FileError>(!captions_.empty(), path, ": holds no caption; expected lines like {\"volume\": \"a.nii.gz\", ",
                       "\"caption\": \"...\"}");
  }
  /// The caption of a triplet; null if the file has none.
  const std::string* find(const Triplet& t, const std::string& image_in_data) {
    for (const std::string& key :
         {"id " + t.id, "volume " + image_in_data, "volume " + fs::path(t.volume).filename().string()})
      if (const auto at = captions_.find(key); at != captions_.end()) {
        at->second.used = true;
        return &at->second.caption;
      }
    return nullptr;
  }
  void require_all_used() const {
    for (const auto& [key, own] : captions_)
      require<FileError>(own.used, own.where, ": no triplet has the ", key,
                         "; ids are those of a run without --captions");
  }

 private:
  struct Own {
    std::string caption, where;
    bool used = false;
  };
  void add(std::string_view line, const std::string& where) {
    const Json json = parse_json(line, where);
    detail::JsonFields fields(json, where);
    const std::string id = fields.string("id", false), volume = fields.string("volume", false);
    require<FileError>(id.empty() != volume.empty(), where, ": expected either \"id\" or \"volume\"");
    const std::string key = id.empty() ? "volume " + volume : "id " + id;
    require<FileError>(captions_.emplace(key, Own{fields.string("caption", true), where}).second, where, ": ", key,
                       " has a caption already");
    fields.finish();
  }

  std::string path_;
  std::map<std::string, Own> captions_;
};

/// A file name that any system takes.
std::string file_name(std::string id) {
  for (char& c : id)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_' && c != '.') c = '-';
  return id;
}

/// The triplets of one image, with their pictures. Of a file with several frames a copy of the first is made, so that
/// everything that reads the triplets finds a plain volume.
std::vector<Triplet> triplets_of(const SubjectList& list,
                                 SubjectEntry entry,
                                 const TripletOptions& options,
                                 const StagedFolder& folder) {
  std::string jsonl = folder.out() + "/triplets.jsonl";
  if (read_nifti_header(entry.image).frames() > 1) {
    const std::string copy = folder.path("volumes/" + detail::nifti_stem(entry.image) + "_frame0.nii.gz");
    write_nifti(copy, read_nifti<float>(entry.image, {.first_frame = true}));
    entry.image = copy;
    jsonl = folder.path("triplets.jsonl");
  }
  const TripletSource source = load_triplet_source(list, entry, jsonl);
  std::vector<Triplet> triplets = make_triplets(source, options);
  for (Triplet& t : triplets) {
    t.picture = "slices/" + file_name(t.id) + ".png";
    write_png(folder.path(t.picture), gray_image(triplet_picture(source.image, t)));
  }
  return triplets;
}

int run(const Request& request, const MethodConfig& config) {
  const TripletOptions options = triplet_options(request, config);
  std::optional<OwnCaptions> own;
  if (!request.captions.empty()) own.emplace(request.captions);
  const SubjectList list = sound_subjects(request, config);

  StagedFolder folder(request.out, {"triplets.jsonl", "slices", "volumes"}, request.overwrite);
  std::vector<std::vector<Triplet>> made(list.entries.size());
  parallel_for(Index(made.size()), [&](Index i) {
    made[std::size_t(i)] = triplets_of(list, list.entries[std::size_t(i)], options, folder);
  });

  std::vector<Triplet> triplets;
  Index own_captions = 0, wrong = 0;
  for (std::size_t i = 0; i < made.size(); ++i)
    for (Triplet& t : made[i]) {
      const std::string image = fs::path(list.entries[i].image).lexically_relative(request.data).string();
      if (const std::string* caption = own ? own->find(t, image) : nullptr) {
        t.caption = *caption;
        t.describer = "file";
        t.wrong.clear();
        ++own_captions;
      }
      wrong += !t.wrong.empty();
      triplets.push_back(std::move(t));
    }
  if (own) own->require_all_used();
  write_triplets(folder.path("triplets.jsonl"), triplets);
  folder.commit();
  std::printf("make_triplets: %zu triplets of %zu volumes in %s/triplets.jsonl, pictures in slices/\n", triplets.size(),
              made.size(), request.out.c_str());
  const auto fewer = std::count_if(made.begin(), made.end(), [&](const auto& triplets_of_one) {
    return Index(triplets_of_one.size()) < options.slices_per_volume;
  });
  if (fewer > 0)
    std::printf("make_triplets: note: %lld of them have fewer than the %lld slices asked for\n", (long long)fewer,
                (long long)options.slices_per_volume);
  if (own)
    std::printf("make_triplets: %lld captions from %s, %lld by the describer\n", (long long)own_captions,
                request.captions.c_str(), (long long)(Index(triplets.size()) - own_captions));
  if (request.noise > 0) std::printf("make_triplets: %lld captions made wrong on purpose\n", (long long)wrong);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv, [&] {
    CLI::App app(
        "Makes triplets: from each volume of DATA some slices are drawn (plane and position uniformly, slices with "
        "little\n"
        "in them again), and each gets a caption by the built-in describer, from the names and labels that the data "
        "set\n"
        "has, or one of your own. Makes OUT/triplets.jsonl and OUT/slices/*.png. All files of DATA are checked first.");
    Request r;
    ProgramOptions options;
    app.add_option("data", r.data,
                   "folder of NIfTI volumes, with dataset.json or without (labels are found by their names)")
        ->required();
    app.add_option("out", r.out, "output folder")->required();
    app.add_option("--slices", r.slices, "slices of each volume (data.slices_per_volume)")->check(CLI::Range(1, 1000));
    app.add_option("--noise", r.noise, "share of captions in which facts are made wrong, to study caption noise")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
    app.add_option("--seed", r.seed, "seed of slices and wording (run.seed)");
    app.add_option("--min-foreground", r.min_foreground,
                   "a slice with a smaller share of foreground is drawn again (data.min_foreground)")
        ->check(CLI::Range(0.0, 0.99));
    app.add_option("--captions", r.captions,
                   "JSON lines of own captions: {\"id\" or \"volume\": ..., \"caption\": ...}");
    app.add_flag("--skip-bad", r.skip_bad, "leave out files that have problems instead of stopping");
    app.add_flag("--first-frame", r.first_frame,
                 "of files with several frames (fMRI, diffusion), use the first; a copy is put in OUT/volumes");
    app.add_flag("--overwrite", r.overwrite, "replace the triplets of a folder that is not empty");
    options.add_to(app);
    app.footer("Example:  make_triplets data/phantoms data/triplets --slices 3");
    parse_command_line<CLI::ParseError>(app, argc, argv, options);
    return run(r, options.load());
  });
}
