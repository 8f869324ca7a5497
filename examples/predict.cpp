// Applies a fine-tuned model to one volume or to a folder of them.
//
//     predict runs/seg/model.safetensors scan.nii.gz labels.nii.gz
//     predict runs/cls/model.safetensors scans/ classes.json

#include <CLI/CLI.hpp>

#include "m3i/train.hpp"

namespace {

using namespace m3i;
namespace fs = std::filesystem;

struct Request {
  std::string model, input, output, device = "cpu", dtype = "f32";
  int threads = 0;
  bool first_frame = false;
  InferenceRequest inference;
};

/// The images of a file or folder. Label files of a folder are passed over; of several channels the model's is taken.
SubjectList subjects_of(const Request& request, const MethodConfig& config) {
  std::error_code error;
  require<FileError>(fs::exists(request.input, error), request.input, ": no such file or folder");
  SubjectList list;
  list.folder = request.input;
  if (fs::is_directory(request.input, error)) {
    list = find_subjects(request.input, {config.data.channel});
    for (SubjectEntry& e : list.entries) e.labels.clear(), e.class_label.reset();
  } else {
    list.entries.emplace_back().image = request.input;
    list.entries[0].subject = detail::nifti_stem(request.input);
  }
  return list;
}
std::vector<std::string> images_of(const SubjectList& list) {
  std::vector<std::string> images;
  for (const SubjectEntry& e : list.entries) images.push_back(e.image);
  return images;
}

/// Where the labels of each image go: OUTPUT itself for one file, else OUTPUT/NAME.nii.gz.
std::vector<std::string> label_paths(const Request& request, const std::vector<std::string>& images) {
  const bool one_file = !detail::nifti_stem(request.output).empty();
  require<UsageError>(!one_file || !fs::is_directory(request.input), request.output, ": names one file, but ",
                      request.input, " is a folder; name a folder for its labels");
  if (one_file) return {request.output};
  std::vector<std::string> paths;
  std::map<std::string, std::string> taken;
  for (const std::string& image : images) {
    const std::string name = detail::nifti_stem(image) + ".nii.gz";
    const auto [at, fresh] = taken.emplace(name, image);
    require<FileError>(fresh, image, ": has the same name as ", at->second,
                       ", so that one result would replace the other; ", "predict their folders one by one");
    paths.push_back((fs::path(request.output) / name).string());
  }
  return paths;
}

Preprocessed<float> read_image(const Request& request, const ModelFile& file, const std::string& path) {
  const auto volume = read_nifti<float>(path, {request.first_frame});
  check_intensities(volume, path);
  return apply(preprocessing_chain(file.info), volume);
}

void write_classes(const std::string& path, const LabelScheme& scheme, const Volume<std::uint8_t>& classes) {
  if (scheme.values.back() <= 255)
    write_labels(
        path, Volume<std::uint8_t>{label_values<std::uint8_t>(scheme, classes.voxels), classes.affine, classes.header});
  else write_labels(path, Volume<std::int32_t>{label_values(scheme, classes.voxels), classes.affine, classes.header});
}

/// Label files, one by one. A bad image of several is named, and the others go on. Returns the exit code.
int predict_labels(const Request& request, const ModelFile& file, Device device) {
  const auto model = load_segmentation_model(file, device);
  const MixedNetwork<SegmentationModel> network(parse_dtype(request.dtype), model, file.info.config,
                                                file.info.classes());
  const LabelScheme scheme{file.info.names, file.info.values};
  const auto images = images_of(subjects_of(request, file.info.config));
  const auto paths = label_paths(request, images);
  for (const std::string& path : paths) require_no_input(path, images);
  const InferenceOptions options = request.inference.options(file.info.config);
  make_folder(fs::absolute(paths[0]).parent_path().string());

  const Interrupt interrupt("\nstopping; files that are there are whole; once more to leave at once\n");
  Progress progress("predict", Index(images.size()));
  Index done = 0;
  std::vector<std::string> failed;
  Segmenter<float> segmenter(
      network, file.info.config.network.image_size, scheme.classes(), device, options,
      [&](const std::string& line) { progress.say("predict: " + line); },
      [&](Index window, Index windows) {
        if (interrupt.requested()) throw LeaveProgram{interrupt.exit_code()};
        if (windows > 1) progress.update(done, text("window ", window, " of ", windows));
      });
  const auto failure = [&](const std::string& image, const char* why) {
    if (images.size() == 1) throw;
    progress.say(text("predict: error: ", why));
    failed.push_back(image);
  };
  for (std::size_t i = 0; i < images.size(); ++i) {
    try {
      const Preprocessed<float> prepared = read_image(request, file, images[i]);
      memory_release_cached();  // what preprocessing has used is not needed for the windows
      write_classes(paths[i], scheme, segmenter.on_input_grid(prepared));
    } catch (const Error& error) {
      failure(images[i], error.what());
    } catch (const std::bad_alloc&) {
      failure(images[i], (images[i] + ": out of memory").c_str());
    }
    if (interrupt.requested()) throw LeaveProgram{interrupt.exit_code()};
    progress.update(done = Index(i) + 1);
  }
  progress.finish();
  for (Index c = 1; c < scheme.classes(); ++c)
    std::printf("  %d  %s\n", int(scheme.values[std::size_t(c)]), scheme.names[std::size_t(c)].c_str());
  std::printf("predict: wrote %zu label file%s to %s\n", images.size() - failed.size(),
              images.size() - failed.size() == 1 ? "" : "s",
              images.size() == 1 ? paths[0].c_str() : fs::path(paths[0]).parent_path().string().c_str());
  if (failed.empty()) return 0;
  std::fflush(stdout);
  std::fprintf(stderr, "predict: %zu of %zu images have no labels:\n", failed.size(), images.size());
  for (const std::string& image : failed) std::fprintf(stderr, "  %s\n", image.c_str());
  return 1;
}

int predict_classes(const Request& request, const ModelFile& file, Device device) {
  require_whole_volumes(file.info.config, "classification");
  const auto model = load_classification_model(file, device);
  const MixedNetwork<ClassificationModel> network(parse_dtype(request.dtype), model, file.info.config,
                                                  file.info.classes());
  const SubjectList subjects = subjects_of(request, file.info.config);
  require_sound_dataset(subjects, {.first_frame = request.first_frame});
  const auto images = images_of(subjects);
  std::error_code error;
  require<ConfigError>(!fs::is_directory(request.output, error), request.output,
                       ": is a folder; classes are written to one JSON file");
  require_no_input(request.output, images);
  require_no_input(request.output, {request.model});
  OrderedJson out{{"model", request.model}, {"classes", file.info.names}, {"cases", OrderedJson::array()}};
  Table table({"image", "class"});
  for (const std::string& name : file.info.names) table.header.push_back("p(" + name + ")");
  for (const std::string& image : images) {
    const auto volume = read_image(request, file, image).volume.voxels;
    const ClassifiedCase one{"", image, 0, class_probabilities(network, volume, device)};
    out["cases"].push_back({{"image", image},
                            {"class", one.predicted()},
                            {"name", file.info.names[std::size_t(one.predicted())]},
                            {"probabilities", one.probabilities}});
    std::vector<std::string> row{fs::path(image).filename().string(), file.info.names[std::size_t(one.predicted())]};
    for (const double p : one.probabilities) row.push_back(fixed_text(p, 4));
    table.add(row);
  }
  if (const auto folder = fs::path(request.output).parent_path(); !folder.empty()) make_folder(folder.string());
  write_metrics(request.output, out);
  std::printf("%spredict: wrote %s\n", table_text(table).c_str(), request.output.c_str());
  return 0;
}

int run(const Request& request) {
  const ModelFile file = read_model(request.model);
  require<FileError>(file.info.kind != "pretrained", request.model,
                     ": is pretrained only and has no head for a task; fine-tune it first: ",
                     "finetune_segmentation DATA OUT --pretrained ", request.model, ", or finetune_classification");
  const Device device = Device::parse(request.device);
  require<ConfigError>(device.on_host() || device.number < cuda_device_count(), "--device: ", request.device,
                       " is not there; this build sees ", cuda_device_count(), " GPUs");
  if (request.threads > 0) set_thread_count(request.threads);
  std::printf("predict: %s model, %lld classes\npredict: preprocessing: %s\n", file.info.kind.c_str(),
              (long long)file.info.classes(), preprocessing_text(file.info).c_str());
  return file.info.kind == "segmentation" ? predict_labels(request, file, device)
                                          : predict_classes(request, file, device);
}

}  // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv, [&] {
    CLI::App app(
        "Applies a fine-tuned model to a NIfTI volume, or to all images of a folder.\n"
        "A segmentation model writes labels on the input's own grid, with its header. A classification model prints "
        "the\n"
        "probabilities of the classes and writes them as JSON. Preprocessing is that of the model.");
    Request request;
    app.add_option("model", request.model, "model.safetensors of finetune_segmentation or finetune_classification")
        ->required();
    app.add_option("input", request.input, "a .nii or .nii.gz file, or a folder of them")->required();
    app.add_option("output", request.output, "segmentation: label file, or folder; classification: JSON file")
        ->required();
    app.add_option("--device", request.device, "cpu, cuda:0, ...")->capture_default_str();
    app.add_option("--dtype", request.dtype, "f32, bf16 or f16: type that the network computes in")
        ->capture_default_str();
    app.add_option("--threads", request.threads, "threads of the CPU, 0 for all")
        ->capture_default_str()
        ->check(CLI::Range(0, 4096));
    app.add_flag("--first-frame", request.first_frame, "of a file with several frames, take the first");
    request.inference.add_to<CLI::Range>(app);
    app.footer(
        "Example:  predict runs/seg/model.safetensors scan.nii.gz labels.nii.gz\n"
        "          predict runs/seg/model.safetensors scans/ labels/         (labels/NAME.nii.gz for each scan)\n"
        "          predict runs/cls/model.safetensors scans/ classes.json\n"
        "Volumes larger than the network's input are segmented window by window; the memory that takes is printed "
        "first and\n"
        "does not grow with the length of the scan. Of a folder, images that cannot be read are named and passed over; "
        "the\n"
        "exit code is then 1. Every label file is whole or not there.");
    parse_command_line<CLI::ParseError>(app, argc, argv);
    return run(request);
  });
}
