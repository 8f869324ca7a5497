#include "m3i/train/samples.hpp"

#include <filesystem>

#include <unistd.h>

#include "catch.hpp"
#include "m3i/data/phantom_set.hpp"

using namespace m3i;
using Catch::Contains;

namespace {

struct Phantoms {
  std::string folder = (std::filesystem::temp_directory_path() / text("m3i-cohort-", long(::getpid()))).string();
  explicit Phantoms(Index count = 10) {
    write_phantom_set(folder, count, 1, {.size = {16, 16, 16}, .body = BodyPart::head});
  }
  ~Phantoms() { std::filesystem::remove_all(folder); }
};

MethodConfig small_config() {
  MethodConfig c;
  c.network.image_size = 8;
  c.data.spacing_mm = 14;
  return c;
}

std::size_t diseased(const Cohort& c, const std::vector<Index>& entries) {
  return std::size_t(
      std::count_if(entries.begin(), entries.end(), [&](Index e) { return c.entry(e).class_label == 1; }));
}

}  // namespace

TEST_CASE("cohort: subjects are split 7 : 1 : 2, and a share of the training subjects keeps both classes",
          "[train][fast]") {
  const Phantoms phantoms;
  const MethodConfig config = small_config();
  const Cohort all = load_cohort(phantoms.folder, "", Task::classification, config);
  CHECK(all.train.size() == 7);
  CHECK(all.validation.size() == 1);
  CHECK(all.test.size() == 2);
  CHECK(all.part("all").size() == 10);
  CHECK_THROWS_AS(all.part("half"), ConfigError);
  std::vector<Index> before;
  for (const double share : {0.3, 0.6, 1.0}) {
    const Cohort some = load_cohort(phantoms.folder, "", Task::classification, config, share);
    CHECK(some.train.size() == std::size_t(share * 7 + 0.5));
    CHECK(std::includes(some.train.begin(), some.train.end(), before.begin(), before.end()));
    CHECK((diseased(some, some.train) > 0 && diseased(some, some.train) < some.train.size()));
    CHECK(some.test == all.test);
    before = some.train;
  }
}

TEST_CASE("cohort: a split file decides, and must fit the data", "[train][fast][errors]") {
  const Phantoms phantoms(6);
  const MethodConfig config = small_config();
  Cohort first = load_cohort(phantoms.folder, "", Task::segmentation, config);
  const std::string path = phantoms.folder + "/split.json";
  std::swap(first.split.validation, first.split.test);
  write_split(path, first.split);
  const Cohort again = load_cohort(phantoms.folder, path, Task::segmentation, config);
  CHECK(again.test == first.validation);
  CHECK(cohort_hash(again) != cohort_hash(first));
  first.split.test.push_back("nobody");
  write_split(path, first.split);
  CHECK_THROWS_WITH(load_cohort(phantoms.folder, path, Task::segmentation, config),
                    Contains("not in the data set: \"nobody\""));
}

TEST_CASE("cohort: folds, the data set's own parts and strata of labels", "[train][fast]") {
  const Phantoms phantoms(6);
  MethodConfig config = small_config();
  config.data.split_by = choice::SplitBy::folds;
  config.data.folds = 3;
  std::set<Index> tested;
  for (config.data.fold = 0; config.data.fold < 3; ++config.data.fold) {
    const Cohort c = load_cohort(phantoms.folder, "", Task::segmentation, config);
    CHECK(c.test.size() == 2);
    tested.insert(c.test.begin(), c.test.end());
    CHECK(c.split.method == text("fold ", config.data.fold, " of 3"));
  }
  CHECK(tested.size() == 6);

  SubjectList list = find_subjects(phantoms.folder);
  list.entries[0].part = "validation";
  list.entries[1].fold = 2;
  for (std::size_t i : {2u, 3u}) list.entries[i].part = "test";
  write_dataset_json(phantoms.folder + "/dataset.json", list, "phantoms");
  config.data.split_by = choice::SplitBy::given;
  config.data.fold = 2;
  config.data.stratify = choice::Stratify::labels;
  const Cohort given = load_cohort(phantoms.folder, "", Task::segmentation, config);
  CHECK(given.split.validation.size() == 2);
  CHECK(given.split.test == std::vector<std::string>{list.entries[2].subject, list.entries[3].subject});
}

TEST_CASE("cohort: images without a target are left out and named; problems are reported together",
          "[train][fast][errors]") {
  const Phantoms phantoms(5);
  SubjectList list = find_subjects(phantoms.folder);
  list.entries[0].labels.clear();
  const std::string json = phantoms.folder + "/dataset.json";
  write_dataset_json(json, list, "phantoms");
  const Cohort four = load_cohort(phantoms.folder, "", Task::segmentation, small_config());
  CHECK(four.list.entries.size() == 4);
  CHECK_THAT(cohort_text(four), Contains("1 files left out") && Contains("has no labels"));

  for (auto& e : list.entries) e.labels.clear();
  write_dataset_json(json, list, "phantoms");
  CHECK_THROWS_WITH(load_cohort(phantoms.folder, "", Task::segmentation, small_config()), Contains("5 problem(s)"));
}

TEST_CASE("samples: batches carry images, classes and entries, and are the same for any number of threads",
          "[train][fast]") {
  const Phantoms phantoms(4);
  MethodConfig config = small_config();
  const Cohort cohort = load_cohort(phantoms.folder, "", Task::segmentation, config);
  const LabelScheme scheme = make_label_scheme(cohort.list, cohort.part("all"));
  const SampleSource samples(cohort, config, scheme);
  const auto entries = cohort.part("all");
  std::vector<VolumeBatch> seen;
  for (const Index workers : {1, 3}) {
    config.data.workers = workers;
    TrainingBatches batches(samples, cohort, entries, true, config, config.segmentation.training, {3, 0, 3}, 0);
    batches.next(Device::cpu());
    seen.push_back(batches.next(Device::cpu()));
  }
  CHECK(seen[0].images.shape() == Shape{3, 8, 8, 8, 1});
  CHECK(seen[0].labels.shape() == Shape{3, 8, 8, 8});
  CHECK(seen[0].entries == seen[1].entries);
  CHECK(seen[0].images.to_vector() == seen[1].images.to_vector());
  CHECK(seen[0].labels.to_vector() == seen[1].labels.to_vector());
  const auto labels = seen[0].labels.to_vector();
  CHECK(*std::max_element(labels.begin(), labels.end()) < scheme.classes());
  // Resumed at the second batch.
  TrainingBatches later(samples, cohort, entries, true, config, config.segmentation.training, {3, 0, 3}, 3);
  CHECK(later.next(Device::cpu()).images.to_vector() == seen[0].images.to_vector());
}

TEST_CASE("samples: a cache folder instead of memory changes no bit, and augmentation follows its preset",
          "[train][fast]") {
  const Phantoms phantoms(3);
  MethodConfig config = small_config();
  config.segmentation.training.augment.preset = choice::Augment::nnunet;
  config.segmentation.training.augment.elastic = {{0.5, 0, 1}};
  config.data.fit = choice::Fit::patch;
  config.data.crop_foreground = true;  // labels then depend on the image
  const Cohort cohort = load_cohort(phantoms.folder, "", Task::segmentation, config);
  const LabelScheme scheme = make_label_scheme(cohort.list, cohort.part("all"));
  const auto batch = [&](Index workers) {
    config.data.workers = workers;
    const SampleSource samples(cohort, config, scheme);
    TrainingBatches batches(samples, cohort, cohort.part("all"), true, config, config.segmentation.training, {3, 0, 3},
                            0);
    batches.next(Device::cpu());
    const VolumeBatch b = batches.next(Device::cpu());
    auto values = b.images.to_vector();
    for (const std::int64_t label : b.labels.to_vector()) values.push_back(float(label));
    return values;
  };
  const auto expected = batch(2);
  config.data.cache_gib = 0;
  CHECK(batch(1) == expected);
  config.data.cache_folder = phantoms.folder + "/cache";
  CHECK(batch(8) == expected);
  const auto files = [&] {
    std::set<std::pair<std::string, std::filesystem::file_time_type>> out;
    for (const auto& f : std::filesystem::directory_iterator(config.data.cache_folder))
      out.emplace(f.path().string(), f.last_write_time());
    return out;
  };
  const auto written = files();
  CHECK(written.size() == 6);  // three images, three label volumes
  config.data.cache_gib = 1;
  CHECK(batch(2) == expected);
  CHECK(files() == written);
  config.segmentation.training.augment.zoom = {{0.5, 2, 1}};
  CHECK_THROWS_WITH(check_config(config.segmentation.training.augment, "c.json", "segmentation.training.augment."),
                    Contains("c.json: segmentation.training.augment.") && Contains("zoom from 2 to 1"));
}

TEST_CASE("samples: balanced entries show every class as often as the largest", "[train][fast]") {
  Cohort cohort;
  for (const Index label : {0, 0, 0, 1, 0, 2, 2}) {
    cohort.list.entries.emplace_back();
    cohort.list.entries.back().class_label = label;
  }
  const auto balanced = balanced_entries(cohort, cohort.part("all"));
  CHECK(balanced == std::vector<Index>{0, 1, 2, 4, 3, 3, 3, 3, 5, 6, 5, 6});
}
