#include "m3i/text/describe.hpp"

#include <set>

#include "catch.hpp"

using namespace m3i;

static SliceFacts abdomen() {
  SliceFacts f;
  f.modality = "CT";
  f.body_part = "abdomen";
  f.plane = "axial";
  f.structures = {"liver", "spleen", "kidneys", "stomach", "aorta", "spine"};
  f.finding = "a liver lesion";
  return f;
}
static bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST_CASE("describe: a right caption states the facts in fewer than 100 words", "[fast]") {
  for (std::uint64_t n = 0; n < 300; ++n) {
    const Description d = describe(abdomen(), {}, n);
    CAPTURE(d.text);
    CHECK(d.wrong.empty());
    CHECK(count_words(d.text) < 100);
    CHECK(count_words(d.text) > 15);
    CHECK(has(d.text, "CT"));
    CHECK(has(d.text, "abdomen"));
    CHECK((has(d.text, "axial") || has(d.text, "transverse")));
    CHECK(has(d.text, "liver"));
    CHECK(has(d.text, "a liver lesion"));
    CHECK(d.text.back() == '.');
    CHECK_FALSE(has(d.text, "  "));
  }
}

TEST_CASE("describe: the same number gives the same text, others vary the wording", "[fast]") {
  std::set<std::string> texts;
  for (std::uint64_t n = 0; n < 200; ++n) {
    CHECK(describe(abdomen(), {}, n).text == describe(abdomen(), {}, n).text);
    texts.insert(describe(abdomen(), {}, n).text);
  }
  CHECK(texts.size() > 100);
  CHECK(describe(abdomen(), {0, 1}, 0).text != describe(abdomen(), {0, 2}, 0).text);
}

TEST_CASE("describe: the noise rate is the share of wrong captions, and the right ones stay as they are", "[fast]") {
  Index wrong = 0;
  for (std::uint64_t n = 0; n < 1000; ++n) {
    const Description noisy = describe(abdomen(), {0.3, 5}, n), clean = describe(abdomen(), {0, 5}, n);
    wrong += !noisy.wrong.empty();
    if (noisy.wrong.empty()) CHECK(noisy.text == clean.text);
    CHECK(count_words(noisy.text) < 100);
  }
  CHECK(wrong > 250);
  CHECK(wrong < 350);
}

TEST_CASE("describe: what is called wrong is wrong", "[fast]") {
  std::set<std::string> seen;
  for (std::uint64_t n = 0; n < 300; ++n) {
    const Description d = describe(abdomen(), {1, 0}, n);
    CAPTURE(d.text);
    REQUIRE_FALSE(d.wrong.empty());
    for (const std::string& what : d.wrong) {
      seen.insert(what);
      if (what == "plane") CHECK_FALSE((has(d.text, "axial") || has(d.text, "transverse")));
      if (what == "modality") CHECK_FALSE(has(d.text, "CT"));
      if (what == "body part") CHECK_FALSE(has(d.text, "of the abdomen"));
      if (what == "structures") CHECK_FALSE(has(d.text, "The liver"));
      if (what == "finding") CHECK_FALSE(has(d.text, "a liver lesion"));
    }
  }
  CHECK(seen.size() == 5);
}

TEST_CASE("describe: what is unknown is called unspecified, not invented", "[fast]") {
  for (std::uint64_t n = 0; n < 50; ++n) {
    const std::string text = describe({}, {}, n).text;
    CAPTURE(text);
    CHECK(has(text, "unspecified body region"));
    CHECK_FALSE(has(text, "CT"));
    CHECK_FALSE(has(text, "MRI"));
    CHECK_FALSE(has(text, "abnormality"));
    CHECK_FALSE(has(text, "regular"));
    CHECK_FALSE(has(text, "a MR"));
  }
  for (std::uint64_t n = 0; n < 50; ++n) CHECK_FALSE(describe({}, {1, 0}, n).wrong.empty());
}

TEST_CASE("describe: any text as a structure's name is accepted", "[fast]") {
  SliceFacts f;
  f.structures = {"", "a \"quoted\" name", "Ärzte"};
  CHECK(has(describe(f, {}, 1).text, "quoted"));
}

TEST_CASE("guess: words of the path, then the range of intensities", "[fast]") {
  const auto guess = [](const char* path, double low = 0, double high = 255) {
    const SliceFacts f = guess_facts(path, low, high);
    return f.modality + "|" + f.body_part;
  };
  CHECK(guess("/data/head_t1_subject01.nii.gz") == "T1-weighted MRI|head");
  CHECK(guess("/data/abdomen_ct_01.nii.gz") == "CT|abdomen");
  CHECK(guess("brain/sub-01_T2w.nii.gz") == "T2-weighted MRI|head");
  CHECK(guess("chest/x_flair.nii") == "FLAIR MRI|chest");
  CHECK(guess("scan.nii", -1024, 1800) == "CT|");
  CHECK(guess("scan.nii", 0, 1800) == "|");
  CHECK(guess("factory/doctor/object.nii") == "|");  // no word is "ct"
  CHECK(guess("chest_scans/head.nii") == "|head");   // the nearer word counts
  CHECK(guess("") == "|");
}

TEST_CASE("describe: a noise rate outside [0, 1] is refused", "[fast]") {
  CHECK_THROWS_WITH(describe({}, {1.5, 0}, 0), Catch::Contains("noise rate 1.5"));
  CHECK_THROWS_AS(describe({}, {std::nan(""), 0}, 0), ConfigError);
}

TEST_CASE("describe: the place of the slice is said in the words of its plane", "[fast]") {
  SliceFacts f;
  const auto says = [&](const char* plane, double position, const char* words) {
    f.plane = plane;
    f.position = position;
    for (std::uint64_t n = 0; n < 20; ++n) CHECK(has(describe(f, {}, n).text, words));
  };
  says("axial", 0, "near the lower end");
  says("axial", 0.3, "in the lower part");
  says("axial", 0.5, "around the middle");
  says("coronal", 0.7, "in the anterior part");
  says("coronal", 0.1, "near the posterior end");
  says("sagittal", 1, "near the right end");
  f.position = -1;
  for (std::uint64_t n = 0; n < 20; ++n) CHECK_FALSE(has(describe(f, {}, n).text, "of the volume"));
}
