#include "m3i/data/triplets.hpp"

#include "catch.hpp"
#include "folder.hpp"
#include "m3i/imaging/phantom.hpp"

using namespace m3i;

static TripletSource phantom_source(Index subject, Index size = 32) {
  PhantomOptions o;
  o.size = {size, size, size};
  const auto p = make_phantom(1, subject, o);
  TripletSource s;
  s.subject = p.id;
  s.volume_path = p.id + ".nii.gz";
  s.image = p.image;
  s.labels = p.labels;
  s.structures = p.structures;
  s.modality = name(p.modality);
  s.body_part = name(p.body);
  s.finding = p.finding;
  s.finding_label = p.finding_label;
  s.healthy = !p.disease;
  return s;
}
static const char* good =
    R"({"id":"a","subject":"s","volume":"v.nii","plane":"axial","slice":3,"slices":4,"caption":"An axial scan."})";

TEST_CASE("triplets: slices have enough foreground, captions state what is visible", "[fast]") {
  std::array<int, 3> planes{};
  for (Index subject = 0; subject < 20; ++subject) {
    const auto source = phantom_source(subject);
    TripletOptions options;
    options.slices_per_volume = 3;
    const auto triplets = make_triplets(source, options);
    REQUIRE(triplets.size() == 3);
    for (const Triplet& t : triplets) {
      CAPTURE(t.id, t.caption);
      ++planes[std::size_t(t.plane)];
      CHECK(t.slice >= 0);
      CHECK(t.slice < t.slices);
      CHECK(t.slices == 32);
      CHECK(t.bin() == slice_bin(t.slice, 32));
      CHECK(t.wrong.empty());
      CHECK(t.caption.find(source.modality) != std::string::npos);
      const auto picture = triplet_picture(source.image, t);
      CHECK(foreground_fraction(picture, 0.1) >= 0.1);
      for (const float v : picture.span())
        if (!(v >= 0 && v <= 1)) FAIL("pixel " << v);
    }
  }
  for (const int n : planes) CHECK(n > 8);  // of 60, drawn uniformly
}

TEST_CASE("triplets: a subject's triplets depend on the seed and the subject alone", "[fast]") {
  const auto source = phantom_source(3);
  const auto a = make_triplets(source, {}), b = make_triplets(source, {});
  CHECK(a[0].id == b[0].id);
  CHECK(a[0].caption == b[0].caption);
  Index same = 0;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    TripletOptions o;
    o.seed = seed;
    same += make_triplets(source, o)[0].id == a[0].id;
  }
  CHECK(same < 4);
}

TEST_CASE("triplets: the finding is said only where it shows", "[fast]") {
  Index with = 0, without = 0;
  for (Index subject = 0; subject < 30; ++subject) {
    auto source = phantom_source(subject);
    if (source.finding.empty()) continue;
    TripletOptions o;
    o.slices_per_volume = 5;
    for (const Triplet& t : make_triplets(source, o)) {
      const auto slice = extract_slice(to_ras(*source.labels).voxels, t.plane, t.slice);
      Index area = 0;
      for (const auto l : slice.span()) area += l == source.finding_label;
      const bool said = t.caption.find(source.finding) != std::string::npos;
      CHECK(said == (area > 0));
      (said ? with : without) += 1;
    }
  }
  CHECK(with > 5);
  CHECK(without > 5);
}

TEST_CASE("triplets: a reoriented volume gives the same pictures", "[fast]") {
  auto source = phantom_source(5);
  const auto before = make_triplets(source, {});
  OrientationMap map;
  map.axis = {2, 0, 1};
  map.flip = {true, false, true};
  const auto upright = source.image;
  source.image = reorient(source.image, map);
  source.labels = reorient(*source.labels, map);
  const auto after = make_triplets(source, {});
  CHECK(after[0].id == before[0].id);
  CHECK(after[0].caption == before[0].caption);
  CHECK(triplet_picture(source.image, after[0]).to_vector() == triplet_picture(upright, before[0]).to_vector());
}

TEST_CASE("triplets: written and read back unchanged", "[fast]") {
  TemporaryFolder folder;
  TripletOptions o;
  o.slices_per_volume = 3;
  o.noise_rate = 0.5;
  auto triplets = make_triplets(phantom_source(2), o);
  triplets[0].caption = "quotes \" and \\ and \n and \xc3\xa4";
  triplets[1].picture = "pictures/x.png";
  write_triplets(folder / "t.jsonl", triplets);
  const auto back = read_triplets(folder / "t.jsonl");
  REQUIRE(back.size() == triplets.size());
  for (std::size_t i = 0; i < back.size(); ++i) {
    CHECK(back[i].id == triplets[i].id);
    CHECK(back[i].subject == triplets[i].subject);
    CHECK(back[i].volume == triplets[i].volume);
    CHECK(back[i].plane == triplets[i].plane);
    CHECK(back[i].slice == triplets[i].slice);
    CHECK(back[i].slices == triplets[i].slices);
    CHECK(back[i].caption == triplets[i].caption);
    CHECK(back[i].picture == triplets[i].picture);
    CHECK(back[i].describer == triplets[i].describer);
    CHECK(back[i].wrong == triplets[i].wrong);
    CHECK(back[i].window_low == triplets[i].window_low);
    CHECK(back[i].window_high == triplets[i].window_high);
  }
}

TEST_CASE("triplets: every bad line is refused with file and line", "[fast]") {
  TemporaryFolder folder;
  const auto refuses = [&](const std::string& line, const std::string& why) {
    const auto path = folder.write("t.jsonl", std::string(good) + "\n\n" + line + "\n");
    CAPTURE(line);
    CHECK_THROWS_WITH(read_triplets(path), Catch::Contains(path + ":3") && Catch::Contains(why));
    CHECK_THROWS_AS(read_triplets(path), FileError);
  };
  const auto changed = [](const std::string& from, const std::string& to) {
    std::string line = good;
    line.replace(line.find("\"id\":\"a\""), 8, "\"id\":\"b\"");
    return line.replace(line.find(from), from.size(), to);
  };
  refuses(good, "occurs twice");
  refuses(changed("\"slice\":3", "\"slice\":4"), "slice 4 lies outside");
  refuses(changed("\"slice\":3", "\"slice\":-1"), "slice -1 lies outside");
  refuses(changed("\"slices\":4", "\"slices\":0"), "0 axial slices");
  refuses(changed("\"slice\":3", "\"slice\":1.5"), "expected a whole number");
  refuses(changed("\"slice\":3", "\"slice\":18446744073709551615"), "expected a whole number");
  refuses(changed("\"slice\":3", "\"slice\":\"3\""), "expected a whole number");
  refuses(changed("axial", "oblique"), "oblique");
  refuses(changed("\"An axial scan.\"", "\"\""), "\"caption\" is empty");
  refuses(changed("\"caption\"", "\"captoin\""), "\"caption\" is missing");
  refuses(changed("\"subject\":\"s\",", ""), "\"subject\" is missing");
  refuses(changed("\"s\"", "7"), "expected a string");
  refuses(changed("}", ",\"extra\":1}"), "unknown key \"extra\"");
  refuses(changed("}", ",\"window\":[1]}"), "expected 2 numbers");
  refuses(changed("}", ",\"window\":[2,1]}"), "upside down");
  refuses(changed("}", ",\"wrong\":[1]}"), "list of strings");
  refuses(changed("}", ""), "malformed JSON");
  refuses(changed("}", ",\"slice\":1}"), "twice");
  refuses("[1]", "expected a JSON object");
  refuses("null", "expected a JSON object");
}

TEST_CASE("triplets: missing, empty and blank files are refused", "[fast]") {
  TemporaryFolder folder;
  CHECK_THROWS_AS(read_triplets(folder / "none.jsonl"), FileError);
  CHECK_THROWS_WITH(read_triplets(folder.write("empty.jsonl", "")), Catch::Contains("no triplet"));
  CHECK_THROWS_WITH(read_triplets(folder.write("blank.jsonl", "\n \n")), Catch::Contains("no triplet"));
  CHECK(read_triplets(folder.write("crlf.jsonl", std::string(good) + "\r\n")).size() == 1);
  CHECK(read_triplets(folder.write("open.jsonl", good)).size() == 1);  // no newline at the end
}

TEST_CASE("triplets: are checked against their volumes", "[fast]") {
  TemporaryFolder folder;
  folder.volume("v.nii", 0, {5, 6, 4});
  const auto path = folder.write("t.jsonl", good);
  CHECK_NOTHROW(check_triplets(read_triplets(path), path));
  folder.volume("v.nii", 0, {5, 6, 7});
  CHECK_THROWS_WITH(check_triplets(read_triplets(path), path), Catch::Contains("4 axial slices, it has 7"));
  folder.write("v.nii", "no volume");
  CHECK_THROWS_WITH(check_triplets(read_triplets(path), path), Catch::Contains("v.nii"));
  std::filesystem::remove(folder / "v.nii");
  CHECK_THROWS_AS(check_triplets(read_triplets(path), path), FileError);
}

TEST_CASE("triplets: unusable volumes and options are refused", "[fast]") {
  TripletSource s;
  s.subject = "x";
  s.volume_path = "x.nii";
  s.image = {Tensor<float>::full({4, 4, 4}, 2), {}, nullptr};
  CHECK_THROWS_WITH(make_triplets(s, {}), Catch::Contains("x.nii"));
  s.image.voxels = Tensor<float>::full({4, 4, 4}, 2);
  s.image.voxels.data()[5] = std::nanf("");
  CHECK_THROWS_WITH(make_triplets(s, {}), Catch::Contains("nan"));
  auto good_source = phantom_source(0);
  good_source.labels->affine(0, 3) += 5;
  CHECK_THROWS_WITH(make_triplets(good_source, {}), Catch::Contains("grid"));
  TripletOptions o;
  o.slices_per_volume = 0;
  CHECK_THROWS_AS(make_triplets(phantom_source(0), o), ConfigError);
  o = {};
  o.min_foreground = 1;
  CHECK_THROWS_AS(make_triplets(phantom_source(0), o), ConfigError);
  o = {};
  o.noise_rate = 2;
  CHECK_THROWS_AS(make_triplets(phantom_source(0), o), ConfigError);
  o = {};
  o.window_percent[0] = 99.9;
  const auto mr = phantom_source(1);
  CHECK_THROWS_AS(
      [&] {
        o.ct_windows = false;
        make_triplets(mr, o);
      }(),
      ConfigError);
}

TEST_CASE("triplets: a volume that is nearly all air gives its best slice", "[fast]") {
  TripletSource s;
  s.subject = "x";
  s.volume_path = "x.nii";
  s.image = {Tensor<float>::zeros({20, 20, 20}), {}, nullptr};
  for (Index i = 0; i < 4; ++i) s.image.voxels.data()[i * 400 + 7] = 1;
  const auto t = make_triplets(s, {});
  REQUIRE(t.size() == 1);
  TripletOptions many;
  many.slices_per_volume = 100;
  CHECK(make_triplets(s, many).size() <= 60);  // there are no more
}
