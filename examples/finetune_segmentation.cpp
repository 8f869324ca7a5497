// Fine-tunes the volume network for segmentation (paper, 4.2.1): encoder and decoder from pretraining, a new head, Dice
// loss; validated while it learns, the best model tested on the input's own grid.
//
//     finetune_segmentation data/phantoms runs/seg --pretrained runs/pretrain/model.safetensors --config
//     configs/demo.json

#include <CLI/CLI.hpp>

#include "m3i/imaging/views.hpp"
#include "m3i/train.hpp"

namespace {

using namespace m3i;
using T = float;

struct Request {
  std::string data, out, pretrained, split;
  bool resume = false;
};

/// One step of gradient descent on one batch. Returns the loss; when it is not finite nothing has been changed.
double training_step(const MixedNetwork<SegmentationModel>& network,
                     const VolumeBatch& batch,
                     const SegmentationConfig& c,
                     Trainer<T>& trainer,
                     Random random,
                     OrderedJson& record) {
  const auto outputs = network(Var<T>(batch.images), Mode{true, &random});
  return descend(segmentation_loss(outputs, batch.labels, c), trainer, record, network.precision());
}

/// Mean Dice over structures and validation subjects, on the network's grid; NaN without any.
double validate(Segmenter<T>& segmenter, const Cohort& cohort, const SampleSource& samples, Index classes) {
  std::vector<double> dice;
  for (const Index entry : cohort.validation) {
    const auto prediction = segmenter.labels(samples.image(entry));
    dice.push_back(dice_scores(prediction, samples.classes(entry), classes, EmptyDice::nan).mean);
  }
  return mean_skipping_nan(dice);
}

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

int run(const Request& request, const MethodConfig& config) {
  const SegmentationConfig& c = config.segmentation;
  const std::string& out = request.out;
  const Device device = Device::parse(config.run.device);

  // Everything that can be wrong with the input is found before anything is written.
  const Cohort cohort = load_cohort(request.data, request.split, Task::segmentation, config, c.training.train_fraction);
  const LabelScheme scheme = make_label_scheme(cohort.list, cohort.part("all"));
  const SegmentationModel<T> model(config, scheme.classes());
  start_from_pretrained("finetune_segmentation", model, request.pretrained, config);
  to(model, device);
  const MixedNetwork<SegmentationModel> network(config.run.dtype, model, config, scheme.classes());
  const bool patches = config.data.fit == choice::Fit::patch;
  const auto items = repeated(cohort.train, patches ? c.patch.per_volume : 1);
  const FinetunePlan plan(Index(items.size()), c.training);
  std::printf(
      "finetune_segmentation: %s\nfinetune_segmentation: %lld structures, %lld parameters, %lld steps of %lld, device "
      "%s, %s\n",
      cohort_text(cohort).c_str(), (long long)scheme.classes() - 1, (long long)count_parameters(model),
      (long long)plan.steps, (long long)plan.batch, config.run.device.c_str(), enum_name(config.run.dtype).c_str());
  make_folder(out);

  Trainer<T> trainer(parameters<T>(model), c.training.optimizer, plan.steps);
  TrainingRun<T> training(out, config,
                          text("segmentation of ", scheme.classes(), " classes, nnformer ", config.network.image_size,
                               ", embedding ", config.network.embedding),
                          plan.steps, "finetune_segmentation");
  training.add_module("model/", model);
  training.add_trainer("network", trainer);
  training.add_precision(network.precision());
  training.add_note("cohort", cohort_hash(cohort));
  training.start(request.resume);
  write_split(out + "/split.json", cohort.split);
  BestModel<T, SegmentationModel<T>> best(out + "/model.safetensors", model,
                                          {"segmentation", config, scheme.names, scheme.values, {}},
                                          "mean Dice of the validation subjects");
  if (request.resume) best.resume();

  const SampleSource samples(cohort, config, scheme);
  Segmenter<T> segmenter(network, config.network.image_size, scheme.classes(), device, {c.patch.overlap},
                         [&](const std::string& line) {
                           if (patches) std::fprintf(stderr, "finetune_segmentation: %s\n", line.c_str());
                         });
  TrainingBatches batches(samples, cohort, items, true, config, c.training, training.first_step() * plan.batch);
  const int code = training.loop([&](Index step, OrderedJson& record) {
    Stopwatch watch;
    const VolumeBatch batch = batches.next(plan.batch, device);
    training.add_wait(watch.lap());
    record["epoch"] = plan.epoch(step);
    set_trainable(model.network.model_down, !plan.head_only(step));
    set_trainable(model.network.decoder, !plan.head_only(step));
    network.precision().refresh();
    const double loss =
        training_step(network, batch, c, trainer, Random(config.run.seed, 3).split(std::uint64_t(step)), record);
    record["step_seconds"] = watch.lap();
    if (plan.validates(step) && !cohort.validation.empty()) {
      const double dice = validate(segmenter, cohort, samples, scheme.classes());
      best.offer(dice, step + 1);
      record["validation"] = dice;
    }
    return loss;
  });
  draw_curves(training.log_path(), out);
  if (code != 0) return code;

  best.finish(plan.steps);
  network.precision().refresh();
  const SegmentationScores scores = test(segmenter, cohort, scheme, config, out);
  OrderedJson metrics = scores_json(scores);
  metrics["run"] = {{"seed", config.run.seed},
                    {"pretrained", request.pretrained},
                    {"train_images", cohort.train.size()},
                    {"validation_images", cohort.validation.size()},
                    {"steps", plan.steps},
                    {"model_step", best.step()},
                    {"validation_dice", best.score().value_or(std::nan(""))}};
  write_metrics(out + "/metrics.json", metrics);
  std::printf(
      "%s%s\n%s\nfinetune_segmentation: wrote %s/model.safetensors, metrics.json, split.json, loss.svg, overlays/, "
      "log.jsonl\n",
      table_text(scores_table(scores)).c_str(), scores.dice_text().c_str(), scores.hd95_text().c_str(), out.c_str());
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
    Request request;
    ProgramOptions options;
    app.add_option("data", request.data, "folder of NIfTI images and labels")->required();
    app.add_option("out", request.out, "output folder")->required();
    app.add_option("-p,--pretrained", request.pretrained,
                   "model.safetensors of pretrain; without it, training from scratch");
    app.add_option("--split", request.split, "split.json of an earlier run, to compare on the same subjects");
    app.add_flag("--resume", request.resume, "continue the run in OUT from its newest checkpoint");
    options.add_to(app);
    app.footer(
        "Example:  finetune_segmentation data/phantoms runs/seg -p runs/pretrain/model.safetensors -c "
        "configs/demo.json\n"
        "          ... --set segmentation.training.train_fraction=0.1    for few labelled subjects (figure 3c)\n"
        "Labels: structures of one name are one class; without names, each value that occurs is one (at most 255).\n"
        "Ctrl-C saves and leaves; the same command with --resume continues.");
    parse_command_line<CLI::ParseError>(app, argc, argv, options);
    return run(request, options.load());
  });
}
