#include "m3i/imaging/nifti.hpp"
#include "programs.hpp"

using namespace programs;
using namespace m3i;

TEST_CASE("check_dataset: names every bad file, writes a report, and leaves with 1", "[examples]") {
  Scratch scratch;
  const std::string data = scratch / "data", report = scratch / "report.json";
  fs::create_directories(data);
  Volume<float> v{Tensor<float>({4, 5, 6}), {}, nullptr};
  for (Index i = 0; i < 120; ++i) v.voxels.data()[i] = float(i);
  write_nifti(data + "/a.nii.gz", v);
  const Answer sound = run("check_dataset", {data, "--cases"});
  CHECK(sound.code == 0);
  CHECK_THAT(sound.out, Catch::Contains("1 images of 1 subjects") && Catch::Contains("a.nii.gz  4 x 5 x 6") &&
                            Catch::Contains("0 problem(s), 0 surprise(s), 1 of 1 images can be used"));

  write_nifti(data + "/a_label.nii.gz", v);
  v.voxels.data()[3] = 0.5f;
  write_nifti(data + "/b.nii.gz", v);
  write_nifti(data + "/b_label.nii.gz", v);
  spit(data + "/c.nii.gz", "no volume");
  spit(data + "/dataset.json", R"({"labels":{"0":"background","1":"x"},"numTraining":9,"training":[
    {"image":"a.nii.gz","label":"a_label.nii.gz"},{"image":"b.nii.gz","label":"b_label.nii.gz"},
    {"image":"c.nii.gz"},{"image":"d.nii.gz"}]})");
  const Answer bad = run("check_dataset", {data + "/dataset.json", "--labels", "--report", report});
  CHECK(bad.code == 1);
  for (const char* part :
       {"a_label.nii.gz: holds label 119", "b_label.nii.gz: is not a label volume: voxel (0, 0, 3) is 0.5",
        "c.nii.gz: is not a NIfTI file", "c.nii.gz: has no label volume", "d.nii.gz: cannot be opened",
        "numTraining is 9, 4 are there", "0 of 4 images can be used"})
    CHECK_THAT(bad.out, Catch::Contains(part));
  CHECK_THAT(slurp(report), Catch::Contains("\"usable\": false") && Catch::Contains("\"orientation\": \"RAS\""));
  CHECK(run("check_dataset", {data + "/none"}).code == 2);

  const auto line = [](const std::string& id, int slices) {
    return R"({"id":")" + id + R"(","subject":"s","volume":"data/a.nii.gz","plane":"axial","slice":0,"slices":)" +
           std::to_string(slices) + ",\"caption\":\"x\"}\n";
  };
  spit(scratch / "t.jsonl", line("one", 6) + line("two", 7) + line("three", 8));
  const Answer triplets = run("check_dataset", {scratch / "t.jsonl"});
  CHECK(triplets.code == 1);
  CHECK_THAT(triplets.out, Catch::Contains("\"two\" says") && Catch::Contains("\"three\" says") &&
                               Catch::Contains("has 8 axial slices, it has 6"));
}
