#include "m3i/train/label_scheme.hpp"

#include <filesystem>

#include <unistd.h>

#include "catch.hpp"

using namespace m3i;
using Catch::Contains;

namespace {

/// Label volumes of one row in a folder of their own.
struct LabelFiles {
  SubjectList list;
  LabelFiles() {
    list.folder = (std::filesystem::temp_directory_path() / text("m3i-labels-", long(::getpid()))).string();
    std::filesystem::create_directories(list.folder);
  }
  ~LabelFiles() { std::filesystem::remove_all(list.folder); }
  void add(const std::vector<std::int32_t>& values, const std::vector<std::string>& names = {}) {
    SubjectEntry e;
    e.labels = text(list.folder, "/", list.entries.size(), ".nii");
    e.structures = names;
    write_labels(e.labels,
                 Volume<std::int32_t>{Tensor<std::int32_t>::from(values, {Index(values.size()), 1, 1}), {}, nullptr});
    list.entries.push_back(e);
  }
  std::vector<Index> all() const {
    std::vector<Index> out;
    for (std::size_t i = 0; i < list.entries.size(); ++i) out.push_back(Index(i));
    return out;
  }
};

Tensor<std::int32_t> row(const std::vector<std::int32_t>& values) {
  return Tensor<std::int32_t>::from(values, {Index(values.size())});
}

}  // namespace

TEST_CASE("label scheme: without names, the values that occur are the classes", "[train][fast]") {
  LabelFiles files;
  files.add({0, 41, 0});
  files.add({26, 26, 100});
  const LabelScheme scheme = make_label_scheme(files.list, files.all());
  CHECK(scheme.values == std::vector<std::int32_t>{0, 26, 41, 100});
  CHECK(scheme.names == std::vector<std::string>{"background", "label 26", "label 41", "label 100"});
  const LabelTable table(scheme, {});
  const auto classes = table.classes(row({0, 100, 26, 41, 0}), "x.nii");
  CHECK(classes.to_vector() == std::vector<std::uint8_t>{0, 3, 1, 2, 0});
  CHECK(label_values(scheme, classes).to_vector() == std::vector<std::int32_t>{0, 100, 26, 41, 0});
  CHECK_THROWS_WITH(table.classes(row({0, 7}), "x.nii"),
                    Contains("x.nii: holds label 7") && Contains("0, 26, 41, 100"));
}

TEST_CASE("label scheme: structures of one name are one class, whatever their numbers", "[train][fast]") {
  LabelFiles files;
  files.add({0, 1, 2}, {"background", "liver", "spleen"});
  files.add({0, 1, 2}, {"background", "spleen", "lung"});
  const LabelScheme scheme = make_label_scheme(files.list, files.all());
  CHECK(scheme.names == std::vector<std::string>{"background", "liver", "spleen", "lung"});
  CHECK(scheme.values == std::vector<std::int32_t>{0, 1, 2, 3});
  CHECK(LabelTable(scheme, files.list.entries[1].structures).classes(row({0, 1, 2}), "x").to_vector() ==
        std::vector<std::uint8_t>{0, 2, 3});
  // Names that the network has never heard leave the values to decide.
  CHECK(LabelTable(scheme, {"background", "a", "b"}).classes(row({0, 1, 2}), "x").to_vector() ==
        std::vector<std::uint8_t>{0, 1, 2});
}

TEST_CASE("label scheme: what cannot be classes is refused", "[train][fast][errors]") {
  LabelFiles empty;
  empty.add({0, 0});
  CHECK_THROWS_WITH(make_label_scheme(empty.list, empty.all()), Contains("background only"));

  LabelFiles some;
  some.add({0, 1}, {"background", "liver"});
  some.add({0, 1});
  CHECK_THROWS_WITH(make_label_scheme(some.list, some.all()), Contains("name all or none"));

  LabelFiles twice;
  twice.add({0, 1}, {"background", "liver", "liver"});
  CHECK_THROWS_WITH(make_label_scheme(twice.list, twice.all()), Contains("two of its labels are named \"liver\""));

  LabelFiles many;
  std::vector<std::int32_t> values;
  for (std::int32_t v = 0; v <= 256; ++v) values.push_back(3 * v);
  many.add(values);
  CHECK_THROWS_WITH(make_label_scheme(many.list, many.all()), Contains("256 structures, expected at most 255"));
}
