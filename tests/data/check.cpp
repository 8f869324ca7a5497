#include "m3i/data/check.hpp"

#include "catch.hpp"
#include "folder.hpp"

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
