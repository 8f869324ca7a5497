#include "m3i/data/phantom_set.hpp"

#include "catch.hpp"
#include "folder.hpp"
#include "m3i/data/check.hpp"
#include "m3i/data/triplets.hpp"

using namespace m3i;

static PhantomOptions small() {
  PhantomOptions o;
  o.size = {24, 24, 24};
  return o;
}

TEST_CASE("phantom set: what is written is found again, and is sound", "[fast]") {
  TemporaryFolder f;
  auto options = small();
  options.random_orientation = true;
  const auto written = write_phantom_set(f / "set", 8, 3, options);
  const auto found = find_subjects(f / "set");
  REQUIRE(found.entries.size() == 8);
  CHECK(check_dataset(found, {true, true, false}).text().empty());
  Index ill = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    CHECK(found.entries[i].subject == written.entries[i].subject);
    CHECK(found.entries[i].image == written.entries[i].image);
    CHECK(found.entries[i].structures.size() >= 7);
    ill += *found.entries[i].class_label;
    const auto p = make_phantom(3, Index(i), options);
    CHECK(read_nifti(found.entries[i].image).voxels.to_vector() == p.image.voxels.to_vector());
    CHECK(read_labels<std::uint8_t>(found.entries[i].labels).voxels.to_vector() == p.labels.voxels.to_vector());
  }
  CHECK(ill == 4);
}

TEST_CASE("phantom set: triplets are made from it, wherever they are written", "[fast]") {
  TemporaryFolder f;
  auto options = small();
  options.body = BodyPart::abdomen;
  write_phantom_set(f / "set", 4, 3, options);
  const auto list = find_subjects(f / "set");
  CHECK(list.structures == structure_names(BodyPart::abdomen));
  std::filesystem::create_directories(f / "out/deep");
  const std::string jsonl = f / "out/deep/triplets.jsonl";
  std::vector<Triplet> all;
  for (const auto& entry : list.entries)
    for (auto& t : make_triplets(load_triplet_source(list, entry, jsonl), {})) all.push_back(t);
  write_triplets(jsonl, all);
  const auto back = read_triplets(jsonl);
  CHECK(back.size() == 4);
  CHECK_NOTHROW(check_triplets(back, jsonl));
  for (const auto& t : back) CHECK(t.caption.find("abdomen") != std::string::npos);
  all.push_back(all[0]);
  CHECK_THROWS_WITH(write_triplets(jsonl, all), Catch::Contains("occurs twice"));
}

TEST_CASE("phantom set: bad arguments are refused", "[fast]") {
  TemporaryFolder f;
  CHECK_THROWS_AS(write_phantom_set(f / "x", 0, 1, small()), ConfigError);
  CHECK_THROWS_AS(write_phantom_set(f / "x", 1, 1, small(), -1), ConfigError);
  CHECK_THROWS_WITH(write_phantom_set(f / "x", 1, 1, small(), 0, ".png"), Catch::Contains(".png"));
  CHECK_THROWS_AS(write_phantom_set(f.write("file", "x"), 1, 1, small()), FileError);
}
