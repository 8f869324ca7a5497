// Makes a data set of synthetic subjects, so that everything else can be tried without any download.
//
//     make_phantoms data/phantoms --subjects 40 --size 48

#include <CLI/CLI.hpp>

#include "m3i/data/phantom_set.hpp"
#include "m3i/train/guard.hpp"
#include "m3i/train/progress.hpp"
#include "m3i/train/staging.hpp"

namespace {

using namespace m3i;

struct Request {
  std::string out;
  Index subjects = 24, size = 48;
  std::uint64_t seed = 0;
  std::vector<std::string> bodies{"head", "chest", "abdomen"}, modalities{"CT", "MR"};
  PhantomOptions options;
  bool overwrite = false;
};

BodyPart parse_body(const std::string& word) {
  for (const BodyPart part : {BodyPart::head, BodyPart::chest, BodyPart::abdomen})
    if (word == name(part)) return part;
  fail<UsageError>("--body: \"", word, "\" is none of head, chest, abdomen");
}

/// MR stands for both of its contrasts.
std::vector<Modality> parse_modalities(const std::vector<std::string>& words) {
  std::vector<Modality> out;
  for (const std::string& word : words) {
    require<UsageError>(word == "CT" || word == "MR" || word == "T1" || word == "T2", "--modality: \"", word,
                        "\" is none of CT, MR, T1, T2");
    if (word == "CT") out.push_back(Modality::ct);
    if (word == "MR" || word == "T1") out.push_back(Modality::mr_t1);
    if (word == "MR" || word == "T2") out.push_back(Modality::mr_t2);
  }
  return out;
}

/// Subjects 2n and 2n + 1 are one healthy and one diseased: pairs go round the body parts, so that each part has as
/// many of both.
std::vector<PhantomOptions> plan(const Request& request) {
  std::vector<BodyPart> bodies;
  for (const std::string& word : request.bodies) bodies.push_back(parse_body(word));
  const std::vector<Modality> modalities = parse_modalities(request.modalities);
  Random draw(request.seed, 0x6d6f64);
  std::vector<PhantomOptions> subjects(std::size_t(request.subjects), request.options);
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    subjects[i].size = {request.size, request.size, request.size};
    subjects[i].body = bodies[i / 2 % bodies.size()];
    subjects[i].modality = modalities[std::size_t(draw.below(Index(modalities.size())))];
  }
  return subjects;
}

int run(const Request& request) {
  const auto subjects = plan(request);
  StagedFolder folder(request.out, {"imagesTr", "labelsTr", "dataset.json"}, request.overwrite);
  for (const char* part : {"imagesTr/", "labelsTr/"}) folder.path(part);  // makes them
  SubjectList list;
  list.classes = {"healthy", "diseased"};
  const bool one_body = request.bodies.size() == 1;
  Progress progress("make_phantoms", request.subjects);
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    const PhantomSubject phantom = make_phantom(request.seed, Index(i), subjects[i]);
    SubjectEntry& entry = list.entries.emplace_back(write_phantom(folder.path(""), phantom, ".nii.gz"));
    if (one_body) list.structures = std::exchange(entry.structures, {});  // label 1 is the same in all subjects
    progress.update(Index(i) + 1);
  }
  write_dataset_json(folder.path("dataset.json"), list, "m3i phantoms");
  folder.commit();
  progress.finish();
  std::printf("make_phantoms: %zu subjects of %lld^3 voxels in %s: imagesTr, labelsTr, dataset.json\n", subjects.size(),
              (long long)request.size, request.out.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv, [&] {
    CLI::App app(
        "Makes synthetic subjects with labelled structures: NIfTI volumes in OUT/imagesTr, labels in OUT/labelsTr, "
        "and\n"
        "OUT/dataset.json with each subject's class (healthy or diseased), modality, body part and finding.\n"
        "Disease changes one structure by a known effect: larger ventricles, a lung nodule, a liver lesion.");
    Request r;
    app.add_option("out", r.out, "output folder")->required();
    app.add_option("-n,--subjects", r.subjects, "how many; half of each body part is diseased")
        ->check(CLI::Range(1, 9999))
        ->capture_default_str();
    app.add_option("--size", r.size, "voxels along each axis")->check(CLI::Range(16, 512))->capture_default_str();
    app.add_option("--seed", r.seed, "seed of the population; the same seed gives the same bytes")
        ->capture_default_str();
    app.add_option("--body", r.bodies, "body parts: head, chest, abdomen")->delimiter(',')->capture_default_str();
    app.add_option("--modality", r.modalities, "contrasts: CT, MR (T1 and T2), T1, T2")
        ->delimiter(',')
        ->capture_default_str();
    app.add_option("--noise", r.options.noise, "noise, 1 is usual")
        ->check(CLI::Range(0.0, 10.0))
        ->capture_default_str();
    app.add_option("--bias", r.options.bias, "strength of the MR bias field")
        ->check(CLI::Range(0.0, 10.0))
        ->capture_default_str();
    app.add_option("--deformation", r.options.deformation, "smooth deformation, 1 is usual")
        ->check(CLI::Range(0.0, 10.0))
        ->capture_default_str();
    app.add_flag("--random-orientation", r.options.random_orientation,
                 "store voxel axes in random order and direction");
    app.add_flag("--random-spacing", r.options.random_spacing, "make slices along one axis up to 3 times thicker");
    app.add_flag("--overwrite", r.overwrite,
                 "replace imagesTr, labelsTr and dataset.json of a folder that is not empty");
    app.footer("Example:  make_phantoms data/phantoms --subjects 40 --size 48 --body head --modality CT,T1");
    parse_command_line<CLI::ParseError>(app, argc, argv);
    return run(r);
  });
}
