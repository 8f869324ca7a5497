#include "m3i/data/subjects.hpp"

#include "catch.hpp"
#include "folder.hpp"

using namespace m3i;

static std::string pairs(const SubjectList& list) {
  std::string out;
  for (const auto& e : list.entries)
    out += e.subject + ":" + std::filesystem::path(e.image).filename().string() + "+" +
           std::filesystem::path(e.labels).filename().string() + (e.class_label ? text("=", *e.class_label) : "") + " ";
  return out;
}

TEST_CASE("subjects: a plain folder is paired by names", "[fast]") {
  TemporaryFolder f;
  for (const char* name : {"b.nii", "b_labels4.nii.gz", "b_labels4_fast.nii", "b_aal.nii", "a_t1.nii.gz", "a_t2.nii",
                           "deep/c.nii", "deep/c_seg.nii", ".hidden.nii", ".git/d.nii", "notes.txt", "orphan_mask.nii"})
    f.write(name, "");
  const auto list = find_subjects(f / "");
  CHECK(pairs(list) == "a_t1:a_t1.nii.gz+ a_t2:a_t2.nii+ b:b.nii+b_labels4.nii.gz c:c.nii+c_seg.nii ");
  REQUIRE(list.left_out.size() == 3);
  CHECK_THAT(list.left_out[2], Catch::Contains("orphan_mask.nii"));
}

TEST_CASE("subjects: the imagesTr/labelsTr layout, with channels", "[fast]") {
  TemporaryFolder f;
  for (const char* name : {"imagesTr/p1_0000.nii.gz", "imagesTr/p1_0001.nii.gz", "imagesTr/p2_0000.nii.gz",
                           "labelsTr/p1.nii.gz", "labelsTr/p2.nii.gz", "imagesTs/p3_0000.nii.gz"})
    f.write(name, "");
  CHECK(pairs(find_subjects(f / "")) ==
        "p1:p1_0000.nii.gz+p1.nii.gz p1:p1_0001.nii.gz+p1.nii.gz "
        "p2:p2_0000.nii.gz+p2.nii.gz p3:p3_0000.nii.gz+ ");
}

TEST_CASE("subjects: four digits at the end number a channel or the case itself", "[fast]") {
  TemporaryFolder f;
  for (const char* name : {"imagesTr/amos_0001.nii.gz", "imagesTr/amos_0004.nii.gz", "labelsTr/amos_0001.nii.gz",
                           "labelsTr/amos_0004.nii.gz", "imagesTs/amos_0002.nii.gz"})
    f.write(name, "");
  const std::string labelled =
      "amos_0001:amos_0001.nii.gz+amos_0001.nii.gz amos_0004:amos_0004.nii.gz+amos_0004.nii.gz ";
  CHECK(pairs(find_subjects(f / "")) == labelled + "amos_0002:amos_0002.nii.gz+ ");
  f.write("dataset.json", R"({"training":[{"image":"imagesTr/amos_0001.nii.gz","label":"labelsTr/amos_0001.nii.gz"},
    {"image":"imagesTr/amos_0004.nii.gz","label":"labelsTr/amos_0004.nii.gz"}],"test":["imagesTs/amos_0002.nii.gz"]})");
  CHECK(pairs(find_subjects(f / "")) == labelled + "amos_0002:amos_0002.nii.gz+ ");
  f.write("dataset.json", R"({"training":[{"image":"a_0000.nii","label":"a.nii"},{"image":"c_0001.nii","label":1},
    {"image":"c_0002.nii","label":0}]})");
  CHECK(pairs(find_subjects(f / "")) == "a:a_0000.nii+a.nii c_0001:c_0001.nii+=1 c_0002:c_0002.nii+=0 ");
  for (const char* folder : {"imagesTr", "imagesTs"}) std::filesystem::remove_all(f / folder);
  for (const char* name : {"imagesTr/amos_0001_0000.nii.gz", "imagesTr/amos_0004_0000.nii.gz"}) f.write(name, "");
  f.write("dataset.json", R"({"channel_names":{"0":"CT"},"file_ending":".nii.gz"})");
  const auto list = find_subjects(f / "");
  CHECK(pairs(list) ==
        "amos_0001:amos_0001_0000.nii.gz+amos_0001.nii.gz amos_0004:amos_0004_0000.nii.gz+amos_0004.nii.gz ");
}

TEST_CASE("subjects: images of a BIDS subject belong together", "[fast]") {
  TemporaryFolder f;
  f.write("sub-01/anat/sub-01_T1w.nii.gz", "");
  f.write("sub-01/anat/sub-01_T2w.nii.gz", "");
  CHECK(pairs(find_subjects(f / "")) == "sub-01:sub-01_T1w.nii.gz+ sub-01:sub-01_T2w.nii.gz+ ");
}

TEST_CASE("subjects: dataset.json of the Decathlon and of nnU-Net", "[fast]") {
  TemporaryFolder f;
  f.write("dataset.json", R"({"name":"x","labels":{"0":"background","1":"liver"},"numTraining":1,
    "training":[{"image":"./imagesTr/a.nii.gz","label":"./labelsTr/a.nii.gz"}],"test":["./imagesTs/b.nii.gz"]})");
  const auto list = find_subjects(f / "");
  CHECK(pairs(list) == "a:a.nii.gz+a.nii.gz b:b.nii.gz+ ");
  CHECK(list.entries[0].image == f / "imagesTr/a.nii.gz");
  CHECK(list.structures == std::vector<std::string>{"background", "liver"});
  f.write("dataset.json", R"({"labels":{"liver":1,"background":0},"training":[{"image":"a.nii"}]})");
  CHECK(find_subjects(f / "").structures == std::vector<std::string>{"background", "liver"});
}

TEST_CASE("subjects: written and read back unchanged", "[fast]") {
  TemporaryFolder f;
  SubjectList list;
  list.folder = f / "";
  list.structures = {"background", "liver"};
  list.classes = {"healthy", "ill"};
  SubjectEntry e;
  e.subject = "p1";
  e.image = f / "images/p1.nii.gz";
  e.labels = f / "labels/p1.nii.gz";
  e.class_label = 1;
  e.modality = "CT";
  e.body_part = "abdomen";
  e.finding = "a liver lesion";
  e.finding_label = 9;
  e.structures = {"background", "x"};
  list.entries = {e, {"p2", f / "images/p2.nii.gz", "", {}, "", "", "", 0, {}, {}, "", {}}};
  write_dataset_json(f / "dataset.json", list, "phantoms");
  const auto back = find_subjects(f / "");
  CHECK(pairs(back) == pairs(list));
  CHECK(back.structures == list.structures);
  CHECK(back.classes == list.classes);
  CHECK(back.entries[0].image == e.image);
  CHECK(back.entries[0].labels == e.labels);
  CHECK(back.entries[0].modality == e.modality);
  CHECK(back.entries[0].body_part == e.body_part);
  CHECK(back.entries[0].finding == e.finding);
  CHECK(back.entries[0].finding_label == 9);
  CHECK(back.entries[0].structures == e.structures);
}

TEST_CASE("subjects: classes.json adds class labels", "[fast]") {
  TemporaryFolder f;
  f.write("a.nii", "");
  f.write("b.nii", "");
  f.write("classes.json", R"({"a":1,"b":0})");
  CHECK(pairs(find_subjects(f / "")) == "a:a.nii+=1 b:b.nii+=0 ");
  f.write("classes.json", R"({"a":1,"c":0})");
  CHECK_THROWS_WITH(find_subjects(f / ""), Catch::Contains("\"c\" is no subject"));
  f.write("classes.json", R"({"a":-1})");
  CHECK_THROWS_WITH(find_subjects(f / ""), Catch::Contains("class number"));
  f.write("classes.json", "[]");
  CHECK_THROWS_AS(find_subjects(f / ""), FileError);
  f.write("dataset.json", R"({"training":[{"image":"a.nii","class":1},{"image":"b.nii"}]})");
  f.write("classes.json", R"({"a":1,"b":0})");
  CHECK(pairs(find_subjects(f / "")) == "a:a.nii+=1 b:b.nii+=0 ");
  f.write("classes.json", R"({"a":0,"b":0})");
  CHECK_THROWS_WITH(find_subjects(f / ""), Catch::Contains("\"a\" is class 0") && Catch::Contains("list says 1"));
}

TEST_CASE("subjects: bad folders and bad dataset.json are refused", "[fast]") {
  TemporaryFolder f;
  CHECK_THROWS_WITH(find_subjects(f / "none"), Catch::Contains("no such folder"));
  CHECK_THROWS_WITH(find_subjects(f.write("file", "x")), Catch::Contains("is a file"));
  CHECK_THROWS_WITH(find_subjects(f / ""), Catch::Contains("holds no image"));
  f.write("x_label.nii", "");
  CHECK_THROWS_WITH(find_subjects(f / ""), Catch::Contains("looks like labels only"));
  const auto refuses = [&](const std::string& json, const std::string& why) {
    f.write("dataset.json", json);
    CAPTURE(json);
    CHECK_THROWS_WITH(find_subjects(f / ""), Catch::Contains("dataset.json") && Catch::Contains(why));
    CHECK_THROWS_AS(find_subjects(f / ""), FileError);
  };
  refuses("", "malformed JSON");
  refuses("[]", "training");
  refuses("{}", "training");
  refuses(R"({"training":{}})", "training");
  refuses(R"({"training":[7]})", "training[0]");
  refuses(R"({"training":[{}]})", "\"image\" is missing");
  refuses(R"({"training":[{"image":"a.png"}]})", "not a .nii");
  refuses(R"({"training":[{"image":"a.nii","lable":"b.nii"}]})", "unknown key \"lable\"");
  refuses(R"({"training":[{"image":"a.nii","class":-2}]})", "class -2");
  refuses(R"({"training":[{"image":"a.nii","class":"ill"}]})", "whole number");
  refuses(R"({"training":[{"image":"a.nii","finding_label":999}]})", "999");
  refuses(R"({"labels":{"0":"background","2":"x"},"training":[{"image":"a.nii"}]})", "number 1 has no name");
  refuses(R"({"labels":{"zero":"background"},"training":[{"image":"a.nii"}]})", "label number");
  refuses(R"({"labels":7,"training":[{"image":"a.nii"}]})", "names by number");
  refuses(R"({"labels":{"a":-1},"training":[{"image":"a.nii"}]})", "label number");
  refuses(R"({"training":[],"test":{}})", "must be a list");
  f.write("dataset.json", R"({"training":[]})");
  CHECK_THROWS_WITH(find_subjects(f / ""), Catch::Contains("holds no image"));
}

TEST_CASE("subjects: MONAI data lists have validation, folds, classes as labels, and channels", "[fast]") {
  TemporaryFolder f;
  const auto path = f.write("lists/five.json", R"({"training":[{"image":"../a.nii","label":"../a_seg.nii","fold":0},
    {"image":["b_0.nii","b_1.nii"],"label":1,"fold":3}],"validation":[{"image":"c.nii","label":["c_seg.nii"]}],
    "testing":["d.nii","._d.nii"]})");
  CHECK_THROWS_WITH(find_subjects(path),
                    Catch::Contains("training[1]: has 2 channels") && Catch::Contains("data.channel, from 0 to 1"));
  const auto refuses = [&](Index channel) { CHECK_THROWS_AS(find_subjects(path, {channel}), FileError); };
  refuses(2), refuses(-1), refuses(1);  // the other images have one channel
  const auto list = find_subjects(path, {0});
  CHECK(pairs(list) == "a:a.nii+a_seg.nii b_0:b_0.nii+=1 c:c.nii+c_seg.nii d:d.nii+ ");
  CHECK(list.entries[0].image == f / "a.nii");
  CHECK(list.entries[1].channels == std::vector<std::string>{f / "lists/b_0.nii", f / "lists/b_1.nii"});
  CHECK(list.entries[1].fold == 3);
  CHECK(list.entries[2].part == "validation");
  CHECK(list.entries[3].part == "test");
  REQUIRE(list.left_out.size() == 1);
  CHECK_THAT(list.left_out[0], Catch::Contains("._d.nii") && Catch::Contains("macOS"));
}

TEST_CASE("subjects: nnU-Net version 2, from its folders and from its list of cases", "[fast]") {
  TemporaryFolder f;
  for (const char* name : {"imagesTr/p1_0000.nii.gz", "imagesTr/p1_0001.nii.gz", "imagesTr/p2_0001.nii.gz",
                           "imagesTr/odd.nii.gz", "imagesTr/._p1_0000.nii.gz", "imagesTr/p1_0002.nii.gz",
                           "labelsTr/p1.nii.gz", "imagesTs/p3_0000.nii.gz", "imagesTs/p3_0001.nii.gz"})
    f.write(name, "");
  const std::string start = R"({"channel_names":{"0":"T1","1":"FLAIR"},"labels":{"background":0,"tumour":1},)";
  f.write("dataset.json", start + R"("numTraining":3,"file_ending":".nii.gz"})");
  CHECK_THROWS_WITH(find_subjects(f / ""), Catch::Contains("2 channels (T1, FLAIR)"));
  const auto list = find_subjects(f / "", {1});
  CHECK(pairs(list) == "p1:p1_0001.nii.gz+p1.nii.gz p2:p2_0001.nii.gz+p2.nii.gz p3:p3_0001.nii.gz+ ");
  CHECK(list.entries[1].channels[0] == f / "imagesTr/p2_0000.nii.gz");  // missing, and named all the same
  CHECK(list.left_out.size() == 2);
  REQUIRE(list.surprises.size() == 1);
  CHECK_THAT(list.surprises[0], Catch::Contains("numTraining is 3, 2 are there"));

  f.write("dataset.json", start + R"("file_ending":".nii.gz","dataset":{"x":{"images":["a.nii.gz","b.nii.gz"],
    "label":"c.nii.gz"}}})");
  CHECK(pairs(find_subjects(f / "", {0})) == "x:a.nii.gz+c.nii.gz ");
  const auto refuses = [&](const std::string& json, const std::string& why) {
    f.write("dataset.json", json);
    CAPTURE(json);
    CHECK_THROWS_WITH(find_subjects(f / "", {0}), Catch::Contains(why));
    CHECK_THROWS_AS(find_subjects(f / "", {0}), FileError);
  };
  refuses(start + R"("file_ending":".png"})", "file_ending \".png\"");
  refuses(R"({"channel_names":{"0":"CT"},"labels":{"background":0,"whole":[1,2]}})", "\"whole\" is a region");
  refuses(R"({"channel_names":{"0":"CT"},"labels":{"background":0,"ignore":1}})", "\"ignore\"");
  refuses(R"({"channel_names":{"0":"CT"},"dataset":{"x":{"label":"c.nii.gz"}}})", "\"images\" is missing");
}

TEST_CASE("subjects: nnU-Net version 1 leaves the channel's number out of dataset.json", "[fast]") {
  TemporaryFolder f;
  for (const char* name : {"imagesTr/p_0000.nii.gz", "imagesTr/p_0001.nii.gz", "imagesTr/q.nii.gz"}) f.write(name, "");
  f.write("dataset.json", R"({"modality":{"0":"T1","1":"T2"},"training":[{"image":"./imagesTr/p.nii.gz",
    "label":"./labelsTr/p.nii.gz"}]})");
  CHECK(pairs(find_subjects(f / "", {1})) == "p:p_0001.nii.gz+p.nii.gz ");
  CHECK_THROWS_WITH(find_subjects(f / ""), Catch::Contains("2 channels (T1, T2)"));
  f.write("dataset.json", R"({"modality":{"0":"CT"},"training":[{"image":"imagesTr/p.nii.gz"},
    {"image":"imagesTr/q.nii.gz"},{"image":"imagesTr/none.nii.gz"}]})");
  CHECK(pairs(find_subjects(f / "")) == "p:p_0000.nii.gz+ q:q.nii.gz+ none:none.nii.gz+ ");
  CHECK(find_subjects(f / "").entries[0].modality == "CT");
}
