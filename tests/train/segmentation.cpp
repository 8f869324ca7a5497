#include "m3i/train/segmentation.hpp"

#include <filesystem>

#include <unistd.h>

#include "catch.hpp"
#include "m3i/testing.hpp"
#include "m3i/train/classification.hpp"
#include "m3i/train/scores_report.hpp"
#include "m3i/train/table_text.hpp"
#include "tiny_config.hpp"

using namespace m3i;
using Catch::Contains;

namespace {

struct Scratch {
  std::string path = (std::filesystem::temp_directory_path() / text("m3i-finetune-", long(::getpid()))).string();
  Scratch() { std::filesystem::create_directories(path); }
  ~Scratch() { std::filesystem::remove_all(path); }
};

std::vector<float> flat(const Var<float>& v) { return v.value().to_vector(); }

}  // namespace

TEST_CASE("segmentation: coarser outputs count half as much each, against thinned labels", "[train][fast]") {
  const auto fine = Var<double>(testing::wave<double>({1, 4, 4, 4, 3})),
             coarse = Var<double>(testing::wave<double>({1, 2, 2, 2, 3}));
  std::vector<std::int64_t> numbers(64);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = std::int64_t(i * i % 3);
  const auto labels = Tensor<std::int64_t>::from(numbers, {1, 4, 4, 4});
  const auto thin = thinned_labels(labels, {1, 2, 2, 2});
  CHECK(thin.data()[0] == labels.data()[(1 * 4 + 1) * 4 + 1]);
  CHECK(thin.data()[7] == labels.data()[(3 * 4 + 3) * 4 + 3]);
  CHECK(thinned_labels(labels, {1, 4, 4, 4}).to_vector() == labels.to_vector());
  SegmentationConfig c;
  for (const auto kind : {choice::SegmentationLoss::dice, choice::SegmentationLoss::dice_cross_entropy}) {
    c.loss = kind;
    const double a = segmentation_loss(fine, labels, c).value().item(),
                 b = segmentation_loss(coarse, thin, c).value().item();
    CHECK(segmentation_loss(std::vector{fine}, labels, c).value().item() == a);
    CHECK(segmentation_loss(std::vector{fine, coarse}, labels, c).value().item() == Approx((a + 0.5 * b) / 1.5));
  }
}

TEST_CASE("fine-tuning: encoder and decoder come from the file, the head does not", "[train][fast]") {
  const Scratch scratch;
  const MethodConfig config = tiny_config();
  const std::string path = scratch.path + "/pretrained.safetensors";
  const SegmentationModel<float> pretrained(config, 1);  // restoration has one channel
  write_model<float>(path, pretrained, {"pretrained", config, {}, {}, {}});
  const ModelFile file = read_model(path);

  const SegmentationModel<float> model(config, 5);
  const auto& network = std::get<NnFormer<float>>(model.network.network);
  const auto& source = std::get<NnFormer<float>>(pretrained.network.network);
  const auto head = flat(network.final[0].up.weight);
  const LoadReport report = load_pretrained(model, file);
  CHECK(report.complete());
  CHECK(flat(network.final[0].up.weight) == head);
  CHECK(flat(network.decoder.layers[0].Upsample.up.weight) == flat(source.decoder.layers[0].Upsample.up.weight));
  CHECK(flat(network.model_down.patch_embed.proj1.conv1.weight) ==
        flat(source.model_down.patch_embed.proj1.conv1.weight));

  const ClassificationModel<float> classifier(config, 2);
  CHECK(load_pretrained(classifier, file).complete());
  CHECK(flat(std::get<NnFormerEncoder<float>>(classifier.network.network).norm3.weight) ==
        flat(source.model_down.norm3.weight));

  // A classification model has no decoder to start a segmentation from.
  write_model<float>(path, classifier, {"classification", config, {"a", "b"}, {}, {}});
  CHECK_THROWS_WITH(load_pretrained(model, read_model(path)), Contains("missing: decoder"));
  CHECK_THROWS_WITH(load_segmentation_model(read_model(path), Device::cpu()), Contains("is a classification model"));
  CHECK_NOTHROW(load_classification_model(read_model(path), Device::cpu()));
}

TEST_CASE("fine-tuning: the plan counts items over epochs", "[train][fast]") {
  FinetuneConfig c;
  c.epochs = 3, c.batch_size = 4, c.validate_every = 1, c.freeze_epochs = 1;
  const FinetunePlan plan(6, c);  // epochs end after 6, 12, 18 items; steps take 4
  CHECK(plan.steps == 5);
  std::vector<Index> epochs, validated, frozen;
  for (Index s = 0; s < plan.steps; ++s) {
    epochs.push_back(plan.epoch(s));
    if (plan.validates(s)) validated.push_back(s);
    if (plan.head_only(s)) frozen.push_back(s);
  }
  CHECK(epochs == std::vector<Index>{0, 0, 1, 2, 2});
  CHECK(validated == std::vector<Index>{1, 2, 4});
  CHECK(frozen == std::vector<Index>{0, 1});
  CHECK(FinetunePlan(2, c).batch == 2);
  c.max_steps = 2;
  CHECK(FinetunePlan(6, c).steps == 2);
}

TEST_CASE("fine-tuning: the best model is kept, also over a restart; without scores the last", "[train][fast]") {
  const Scratch scratch;
  const MethodConfig config = tiny_config();
  const std::string path = scratch.path + "/model.safetensors";
  const ModelInfo info{"segmentation", config, {"background", "x"}, {0, 1}, {}};
  const SegmentationModel<float> model(config, 2);
  const Var<float>& bias = std::get<NnFormer<float>>(model.network.network).final[0].up.bias;
  const auto set = [&](float v) { bias.set_value(Tensor<float>::full(bias.shape(), v)); };
  using Best = BestModel<float, SegmentationModel<float>>;
  {
    Best best(path, model, info, "score");
    set(1);
    best.offer(0.1 + 0.2, 5);
    set(2);
    best.offer(0.3, 6);  // less than 0.1 + 0.2
    best.offer(std::nan(""), 7);
  }
  Best best(path, model, info, "score");
  best.resume();
  CHECK(best.score() == 0.1 + 0.2);
  best.offer(0.1 + 0.2, 8);  // not better
  best.finish(9);
  CHECK(flat(bias)[0] == 1);
  CHECK(best.step() == "5");

  Best unscored(scratch.path + "/last.safetensors", model, info, "score");
  set(3);
  unscored.finish(9);
  CHECK(flat(bias)[0] == 3);
  Best again(scratch.path + "/last.safetensors", model, info, "score");
  again.resume();
  CHECK(!again.score());
}

TEST_CASE("fine-tuning: a step that is not finite changes nothing", "[train][fast]") {
  const Var<float> w(Tensor<float>::full({2}, 1.0f), true);
  Trainer<float> trainer({w}, {}, 10);
  OneProcess one;
  DataParallel<float> parallel(one, {w});
  MixedPrecision f32;
  OrderedJson record;
  CHECK(std::isnan(descend(sum(log(w - 1.0)), trainer, parallel, f32, record)));  // log(0)
  CHECK(flat(w) == std::vector<float>{1, 1});
  CHECK(trainer.steps() == 0);
  CHECK(descend(sum(w), trainer, parallel, f32, record) == 2);
  CHECK(flat(w)[0] < 1);
}

TEST_CASE("scores: absent, missed and invented structures are told apart", "[train][fast]") {
  const auto volume = [](std::vector<std::uint8_t> v) {
    return Tensor<std::uint8_t>::from(v, {Index(v.size()), 1, 1});
  };
  SegmentationScores scores{Hausdorff95::monai, {"background", "a", "b, \"c\"", "d"}, {0, 1, 5, 9}, {}};
  // a: 2 of 3 voxels; b: missed; d: invented.
  scores.cases.push_back(score_case(scores, volume({1, 1, 0, 0, 3}), volume({1, 1, 1, 2, 0}), {2, 1, 1}));
  scores.cases.back().subject = "s";
  const auto& s = scores.cases[0].structures;
  CHECK(s[0].dice == Approx(0.8));
  CHECK(s[0].hd95 == Approx(1.8));  // the 95th percentile of 0, 0 and 2 mm
  CHECK(s[1].missed());
  CHECK(s[1].dice == 0);
  CHECK(std::isnan(s[1].hd95));
  CHECK(s[2].spurious());
  CHECK(std::isnan(s[2].dice));
  const OrderedJson json = scores_json(scores);
  CHECK(json["dice_mean"].get<double>() == Approx(0.4));
  CHECK(json["hd95_mean_mm"].get<double>() == Approx(1.8));
  CHECK(json["missed"] == 1);
  CHECK(json["spurious"] == 1);
  CHECK(json["structures"][1]["label"] == 5);
  CHECK_THAT(json.dump(), Contains("\"hd95_mm\":null"));
  CHECK(json["absent"] == 0);
  CHECK(json["structures"][0]["hd95_median_mm"].get<double>() == Approx(1.8));
  CHECK(json["structures"][1]["hd95_skipped"] == 1);
  CHECK(json["structures"][2]["dice_skipped"] == 1);
  CHECK(json["cases"][0]["structures"][1]["empty"] == "prediction");
  CHECK_THAT(scores_csv(scores),
             Contains("structure,label,dice,hd95_mm,iou,nsd_at_1_mm,assd_mm,hd_mm,voxels_reference,"));
  CHECK_THAT(scores_csv(scores), Contains("s,,\"b, \"\"c\"\"\",5,0,,0,0,,,1,0,prediction\n"));

  scores.convention = Hausdorff95::nnformer;
  scores.cases[0] = score_case(scores, volume({1, 1, 0, 0, 3}), volume({1, 1, 1, 2, 0}), {2, 1, 1});
  CHECK(scores.cases[0].structures[2].dice == 0);
  CHECK(scores.cases[0].structures[2].hd95 == 0);
  CHECK(scores_json(scores).contains("hd95_mean_voxels"));
  CHECK_THROWS_AS(parse_convention("mine"), ConfigError);
}

TEST_CASE("scores: the policy for empty masks is followed, counted and named", "[train][fast]") {
  const auto volume = [](std::vector<std::uint8_t> v) {
    return Tensor<std::uint8_t>::from(v, {Index(v.size()), 1, 1});
  };
  SegmentationScores scores{Hausdorff95::medpy, {"background", "a", "b", "c"}, {0, 1, 2, 3}, {}};
  scores.nsd_tolerance = 2.5;
  scores.empty = parse_empty("perfect,infinite,diagonal");
  scores.cases.push_back(score_case(scores, volume({1, 0, 0, 0}), volume({0, 2, 0, 0}), {3, 4, 12}));
  const auto& s = scores.cases[0].structures;
  CHECK((s[0].dice == 0 && s[0].nsd == 0 && s[0].hd95 == Approx(std::sqrt(12 * 12 + 4 * 4 + 12 * 12))));
  CHECK((s[1].dice == 0 && std::isinf(s[1].hd) && std::isinf(s[1].assd)));
  CHECK((s[2].dice == 1 && s[2].iou == 1 && s[2].nsd == 1 && s[2].hd95 == 0));
  const OrderedJson json = scores_json(scores);
  CHECK(json["hd95_mean_mm"] == "inf");
  CHECK(json["nsd_mean_at_2.5_mm"].get<double>() == Approx(1.0 / 3));
  CHECK((json["absent"] == 1 && json["missed"] == 1 && json["spurious"] == 1));
  CHECK(json["conventions"]["empty_distances"] == "perfect,infinite,diagonal");
  CHECK_THAT(scores.hd95_text(), Contains("HD95 (medpy, mm); empty masks: perfect,infinite,diagonal"));
  CHECK_THAT(scores_csv(scores), Contains(",inf,"));
  CHECK_THAT(table_text(scores_table(scores)), Contains("inf"));
}

TEST_CASE("scores: no case gives null, not a number", "[train][fast]") {
  const SegmentationScores scores{Hausdorff95::monai, {"background", "a"}, {0, 1}, {}};
  CHECK_THAT(scores_json(scores).dump(), Contains("\"dice_mean\":null"));
  CHECK_THAT(table_text(scores_table(scores)), Contains("n/a"));
}

TEST_CASE("classification: with one class the AUC is undefined and says why", "[train][fast]") {
  std::vector<ClassifiedCase> cases;
  for (int i = 0; i < 6; ++i) cases.push_back({text("s", i), "", i % 2, {0.95 - 0.1 * i, 0.05 + 0.1 * i}});
  const OrderedJson both = classification_metrics(cases, {"healthy", "ill"}, 0);
  CHECK(both["auc"].get<double>() == Approx(6.0 / 9));
  CHECK(both["accuracy"].get<double>() == Approx(4.0 / 6));
  CHECK(both["accuracy_interval"].size() == 2);
  CHECK(both["confusion"].dump() == "[[3,0],[2,1]]");
  CHECK(both["per_class"][1]["sensitivity"].get<double>() == Approx(1.0 / 3));
  CHECK(both["per_class"][1]["precision"] == 1);
  CHECK_THAT(classification_csv(cases, {"healthy", "very, ill"}),
             Contains("correct,probability healthy,\"probability very, ill\"\ns0,,healthy,healthy,1,0.95,"));
  for (auto& c : cases) c.label = 1;
  const OrderedJson one = classification_metrics(cases, {"healthy", "ill"}, 0);
  CHECK(one["auc"].is_null());
  CHECK_THAT(one["auc_error"].get<std::string>(), Contains("both classes are needed"));
  CHECK_THAT(metric_text(one, "auc"), Contains("undefined"));
  const OrderedJson none = classification_metrics({}, {"healthy", "ill"}, 0);
  CHECK(none["accuracy"].is_null());
  CHECK(none.contains("accuracy_error"));
  CHECK(class_names({"a"}, 3) == std::vector<std::string>{"a", "class 1", "class 2"});
}

TEST_CASE("table: columns of numbers are set to the right", "[train][fast]") {
  Table table({"name", "Dice"});
  table.add({"skull", "0.5 ± 0.1"});
  table.add({"eye", "1"});
  CHECK(table_text(table) == "name        Dice\nskull  0.5 ± 0.1\neye            1\n");
}
