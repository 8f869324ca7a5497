#include "m3i/data/check.hpp"

#include "catch.hpp"
#include "folder.hpp"
#include "m3i/data/check_cache.hpp"
#include "m3i/data/check_json.hpp"
#include "m3i/data/surprises.hpp"

using namespace m3i;

static SubjectList list_of(const TemporaryFolder& f) {
  SubjectList list;
  list.folder = f / "";
  return list;
}
static void add(SubjectList& list,
                const std::string& subject,
                const std::string& image,
                const std::string& labels = "") {
  SubjectEntry e;
  e.subject = subject;
  e.image = image;
  e.labels = labels;
  list.entries.push_back(e);
}

TEST_CASE("check: a sound data set has no problem", "[fast]") {
  TemporaryFolder f;
  auto list = list_of(f);
  add(list, "a", f.volume("a.nii"), f.labels("a_label.nii"));
  add(list, "b", f.volume("b.nii", 5));
  list.structures = {"background", "x"};
  const auto report = check_dataset(list);
  CHECK(report.text().empty());
  CHECK(report.sound());
  CHECK(report.checked == 2);
  CHECK_NOTHROW(require_sound_dataset(list));
}

TEST_CASE("check: every problem is reported at once, with the file's name", "[fast]") {
  TemporaryFolder f;
  auto list = list_of(f);
  list.structures = {"background", "x"};
  Volume<float> bad{Tensor<float>::full({4, 5, 6}, 1), {}, nullptr};
  add(list, "constant", f.volume("constant.nii", bad));
  bad.voxels.data()[7] = std::nanf("");
  add(list, "nan", f.volume("nan.nii", bad));
  add(list, "missing", f / "missing.nii");
  add(list, "text", f.write("text.nii", "hello"));
  add(list, "grid", f.volume("grid.nii"), f.labels("grid_label.nii", 1, {4, 5, 7}));
  Volume<float> half{Tensor<float>::full({4, 5, 6}, 0.5f), {}, nullptr};
  add(list, "half", f.volume("half.nii", 100), f.volume("half_label.nii", half));
  add(list, "unnamed", f.volume("unnamed.nii", 200), f.labels("unnamed_label.nii", 2));
  add(list, "frames",
      f.volume("frames.nii", Volume<float>{Tensor<float>::zeros({4, 5, 6, 1}).reshape({4, 5, 6}), {}, nullptr}));
  add(list, "twice", f.volume("twice.nii", 300));
  add(list, "twice", f / "twice.nii");
  add(list, "copy", f.volume("copy.nii", 300));
  const auto report = check_dataset(list, {true, true, false});
  CHECK_FALSE(report.sound());
  const std::string all = report.text(1000);
  for (const char* part : {"constant.nii", "nan.nii", "missing.nii", "text.nii", "grid_label.nii: not on the grid",
                           "half_label.nii: is not a label volume", "unnamed_label.nii: holds label 2", "listed twice",
                           "copy.nii: has the same voxels as", "has no label volume", "has no class"}) {
    CAPTURE(part, all);
    CHECK(all.find(part) != std::string::npos);
  }
  CHECK_THROWS_AS(require_sound_dataset(list), FileError);
  CHECK_THAT(report.text(1), Catch::Contains("more"));
}

TEST_CASE("check: an empty set and a class without name are problems", "[fast]") {
  TemporaryFolder f;
  auto list = list_of(f);
  CHECK_THAT(check_dataset(list).text(), Catch::Contains("empty"));
  add(list, "a", f.volume("a.nii"));
  list.classes = {"healthy", "ill"};
  list.entries[0].class_label = 2;
  CHECK_THAT(check_dataset(list).text(), Catch::Contains("class 2 has no name"));
}

TEST_CASE("check: two images of one subject may be equal", "[fast]") {
  TemporaryFolder f;
  auto list = list_of(f);
  add(list, "a", f.volume("a1.nii"));
  add(list, "a", f.volume("a2.nii"));
  CHECK(check_dataset(list).sound());
}

TEST_CASE("check: facts and surprises are told", "[fast]") {
  TemporaryFolder f;
  auto list = list_of(f);
  list.structures = {"background", "x", "never"};
  for (int i = 0; i < 6; ++i) {
    Volume<float> v{Tensor<float>({4, 5, 6}), {}, nullptr};
    for (Index k = 0; k < 120; ++k) v.voxels.data()[k] = float(k % 7) * (i == 5 ? 1000.f : 1.f) + float(i);
    if (i == 3) v.affine = Affine::scaling({1, 1, 5});
    if (i == 2) v.affine = Affine::scaling({-1, -1, 1});
    add(list, text("s", i / 2), f.volume(text("i", i, ".nii"), v));
  }
  list.entries[0].labels = f.labels("l0.nii");
  list.entries[1].labels = f.labels("l1.nii");
  list.entries[4].labels = f.labels("l4.nii", 0);
  list.entries[0].class_label = 0;
  list.surprises = {"numTraining is wrong"};
  const auto report = check_dataset(list);
  CHECK(report.text().empty());
  CHECK(report.cases[0].size == Size3{4, 5, 6});
  CHECK(report.cases[0].labels == std::vector<std::pair<Index, Index>>{{0, 119}, {1, 1}});
  CHECK(report.cases[0].foreground == 0);
  CHECK(report.cases[2].orientation == "LPS");
  std::string all;
  const auto surprises = dataset_surprises(list, report);
  for (const auto& line : surprises) all += line + "\n";
  for (const char* part : {"numTraining is wrong", "LPS 1 image, i2.nii; RAS 5 images, as i0.nii, i1.nii, i3.nii, ...",
                           "i3.nii: voxels more than 3 times", "i5.nii: mean foreground intensity",
                           "i3.nii: voxel size", "1 image, i4.nii: labels that are all background",
                           "label 2 (never) occurs in no", "2 images, as i0.nii, i1.nii: the same labels",
                           "3 of 3 subjects have more than one image", "class 0 has 1 subject(s)"}) {
    CAPTURE(part, all);
    CHECK(all.find(part) != std::string::npos);
  }
  const Json json = dataset_report_json(list, report, surprises);
  CHECK(json["usable"] == 6);
  CHECK(json["subjects"] == 3);
  CHECK(json["cases"][3]["spacing_mm"][2] == 5);
  CHECK(json["cases"][0]["label_voxels"]["1"] == 1);
}

TEST_CASE("check: the result for the same files is kept, and made again when one of them changes", "[fast]") {
  TemporaryFolder f;
  auto list = list_of(f);
  add(list, "a", f.volume("a.nii"), f.labels("a_label.nii", 3));
  add(list, "b", f.volume("b.nii", 7));
  add(list, "c", f.volume("\xff.nii", 9));  // a name that is no UTF-8
  const std::string folder = f / "cache";
  const auto kept = [&] { return std::distance(std::filesystem::directory_iterator(folder), {}); };
  const DatasetReport first = require_sound_dataset(list, {}, folder), again = require_sound_dataset(list, {}, folder);
  CHECK(kept() == 1);
  CHECK(detail::facts_json(again.cases[1]) == detail::facts_json(first.cases[1]));
  CHECK(again.cases[0].labels_hash == first.cases[0].labels_hash);
  CHECK_THROWS_AS(require_sound_dataset(list, {.need_labels = true}, folder), FileError);
  CHECK(kept() == 1);  // only what is sound is kept

  const std::string path = std::filesystem::directory_iterator(folder)->path().string();
  f.write("cache/" + std::filesystem::path(path).filename().string(), "{\"key\": 1}");
  CHECK(require_sound_dataset(list, {}, folder).cases.size() == 3);
  CHECK(read_json(path).at("cases").size() == 3);
  f.volume("b.nii", 8);
  CHECK(require_sound_dataset(list, {}, folder).cases[1].low == 8);
  CHECK(kept() == 2);
  std::filesystem::remove(f / "b.nii");
  CHECK_THROWS_WITH(require_sound_dataset(list, {}, folder), Catch::Contains("b.nii: cannot be opened"));
}
