// Fine-tunes the volume network for segmentation (paper, 4.2.1): encoder and decoder from pretraining, a new head, Dice
// loss; validated while it learns, the best model tested on the input's own grid.
//
//     finetune_segmentation data/phantoms runs/seg --pretrained runs/pretrain/model.safetensors --config
//     configs/demo.json

#include <CLI/CLI.hpp>

#include "m3i/dist.hpp"
#include "m3i/imaging/views.hpp"
#include "m3i/train.hpp"

namespace {

using namespace m3i;
using T = float;

/// The slice that shows most of the truth: plain, with the truth, with the prediction, and where these agree.
void draw_overlay(const std::string& path,
                  const std::vector<std::string>& names,
                  const Volume<float>& image,
                  const Tensor<std::uint8_t>& truth,
                  const Tensor<std::uint8_t>& prediction) {
  const OrientationMap map = ras_map(image.affine);
  const Volume<float> ras = reorient(image, map);
  const auto truth_ras = reorient(truth, map), prediction_ras = reorient(prediction, map);
  const auto window = percentiles(ras.voxels, {0.5, 99.5});
  const double high = window[1] > window[0] ? window[1] : window[0] + 1;
  const Plane plane = Plane::coronal;
  const ViewOptions view{.low = window[0], .high = high, .size = 224};
  const Index at = fullest_slice(truth_ras, plane);
  const Image panels = compare_labels(ras, truth_ras, prediction_ras, plane, at, view);
  std::vector<Image> parts{panels};
  if (const auto key = structure_key(extract_slice(truth_ras, plane, at), names); !key.empty())
    parts.push_back(color_key(key, panels.width));
  parts.push_back(color_key(agreement_key(), panels.width));
  write_png(path, montage(parts, 1, 0));
}

/// The test subjects, scored on their own grids. Pictures go to OUT/overlays.
SegmentationScores test(Segmenter<T>& segmenter,
                        const Cohort& cohort,
                        const LabelScheme& scheme,
                        const MethodConfig& config,
                        const std::string& out) {
  SegmentationScores scores{Hausdorff95::monai, scheme.names, scheme.values, {}};
  if (!cohort.test.empty()) make_folder(out + "/overlays");
  Progress progress("test", Index(cohort.test.size()));
  for (const Index e : cohort.test) {
    const SubjectEntry& entry = cohort.entry(e);
    const Volume<float> image = read_nifti<float>(entry.image);
    const auto prediction = segmenter.on_input_grid(apply(preprocessing_chain(config), image)).voxels;
    const auto truth =
        LabelTable(scheme, cohort.structures(e)).classes(read_labels<std::int32_t>(entry.labels).voxels, entry.labels);
    SegmentationCase one = score_case(scores, prediction, truth, spacing_mm(image.affine));
    one.subject = entry.subject, one.image = entry.image, one.labels = entry.labels;
    scores.cases.push_back(std::move(one));
    draw_overlay(text(out, "/overlays/", detail::nifti_stem(entry.image), ".png"), scheme.names, image, truth,
                 prediction);
    progress.update(Index(scores.cases.size()));
  }
  return scores;
}

void draw_curves(const std::string& log, const std::string& out) {
  const LogRecords records = read_log(log);
  const auto loss = records.column("loss"), dice = records.column("validation");
  Chart chart{.title = "Segmentation", .x = {"step"}, .y = {"loss, Dice"}, .smooth = 25};
  chart.series = {{"training loss", loss.x, loss.y}, {"validation Dice", dice.x, dice.y}};
  write_file(out + "/loss.svg", line_chart(chart));
}

int run(const FinetuneRequest& request, const MethodConfig& config, Communicator& ranks) {
  const char* const program = "finetune_segmentation";
  const SegmentationConfig& c = config.segmentation;
  const std::string& out = request.out;

  const Cohort cohort = load_cohort(request.data, request.split, Task::segmentation, config, c.training.train_fraction);
  const LabelScheme scheme = make_label_scheme(cohort.list, cohort.part("all"));
  const bool patches = config.data.fit == choice::Fit::patch;
  Finetuning<SegmentationModel> run({.program = program,
                                     .training = c.training,
                                     .model = {"segmentation", config, scheme.names, scheme.values, {}},
                                     .items = repeated(cohort.train, patches ? c.patch.per_volume : 1),
                                     .with_labels = true,
                                     .targets = [](const VolumeBatch& batch) { return batch.labels; },
                                     .score = "mean Dice of the validation subjects",
                                     .stream = 3},
                                    request, config, cohort, ranks);

  const SampleSource samples(cohort, config, scheme);
  Segmenter<T> segmenter(run.network(), config.network.image_size, scheme.classes(), Device::parse(config.run.device),
                         {c.patch.overlap}, [&](const std::string& line) {
                           if (patches && ranks.first()) std::fprintf(stderr, "%s: %s\n", program, line.c_str());
                         });
  const auto loss = [&](const Tensor<T>& images, const Tensor<std::int64_t>& labels, const Mode& mode) {
    return segmentation_loss(run.network()(Var<T>(images), mode), labels, c);
  };
  // Mean Dice over structures and validation subjects, on the network's grid.
  const auto validate = [&](OrderedJson& record) {
    const auto dice = shared_scores(ranks, cohort.validation, [&](Index entry) {
      const auto prediction = segmenter.labels(samples.image(entry));
      return dice_scores(prediction, samples.classes(entry), scheme.classes(), EmptyDice::nan).mean;
    });
    const double mean = mean_skipping_nan(dice);
    record["validation"] = mean;
    return mean;
  };
  const int code = run.train(samples, loss, validate);
  if (!ranks.first()) return code;
  draw_curves(run.log_path(), out);
  if (code != 0) return code;

  run.load_best();
  const SegmentationScores scores = test(segmenter, cohort, scheme, config, out);
  OrderedJson metrics = scores_json(scores);
  metrics["run"] = run.facts("validation_dice");
  write_metrics(out + "/metrics.json", metrics);
  std::printf("%s%s\n%s\n%s: wrote %s/model.safetensors, metrics.json, split.json, loss.svg, overlays/, log.jsonl\n",
              table_text(scores_table(scores)).c_str(), scores.dice_text().c_str(), scores.hd95_text().c_str(), program,
              out.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv, [&] {
    CLI::App app(
        "Fine-tunes the volume network to segment the structures of a data set: images with label volumes, as\n"
        "dataset.json (Decathlon, nnU-Net) names them, or by file names (imagesTr/labelsTr, X and X_label).\n"
        "Subjects are split 7:1:2, or as data.split_by says; the model that is best on the validation subjects is "
        "tested.\n"
        "With data.fit=patch the network learns from random crops and is applied window by window.\n"
        "Makes OUT/model.safetensors, metrics.json, split.json, loss.svg, overlays/*.png, log.jsonl, checkpoints.");
    FinetuneRequest request;
    ProgramOptions options;
    request.add_to(app, "folder of NIfTI images and labels");
    options.add_to(app);
    options.add_ranks_to(app);
    app.footer(
        "Example:  finetune_segmentation data/phantoms runs/seg -p runs/pretrain/model.safetensors -c "
        "configs/demo.json\n"
        "          ... --set segmentation.training.train_fraction=0.1    for few labelled subjects (figure 3c)\n"
        "Labels: structures of one name are one class; without names, each value that occurs is one (at most 255).\n"
        "Ctrl-C saves and leaves; the same command with --resume continues.");
    parse_command_line<CLI::ParseError>(app, argc, argv, options);
    return options.run_on_ranks(
        [&](const MethodConfig& config, Communicator& ranks) { return run(request, config, ranks); });
  });
}
