#include "m3i/imaging/nifti.hpp"
#include "m3i/imaging/nifti_write.hpp"
#include "programs.hpp"

#include <cmath>

using namespace programs;
using namespace m3i;

namespace {

Volume<float> ramp(Size3 size) {
  Volume<float> v{Tensor<float>(shape_of(size)), Affine::scaling({2, 2, 2}), nullptr};
  for (Index i = 0; i < v.voxels.size(); ++i) v.voxels.data()[i] = float(i % 97);
  return v;
}

/// A folder of one good image and its labels, to spoil.
struct Folder {
  Scratch scratch;
  std::string data = scratch / "data", image = data + "/one.nii.gz", labels = data + "/one_label.nii.gz",
              out = scratch / "out";

  Folder() {
    fs::create_directories(data);
    write_nifti(image, ramp({16, 16, 16}));
    Volume<float> half = ramp({16, 16, 16});
    for (Index i = 0; i < half.voxels.size(); ++i) half.voxels.data()[i] = i % 2 == 0 ? 1.0f : 0.0f;
    write_nifti(labels, half);
  }
  void triplets_refused(const std::vector<std::string>& words) const {
    refuses("make_triplets", {data, out}, words);
    CHECK_FALSE(fs::exists(out));  // nothing was written
  }
};

std::string triplet_line(const std::string& volume, Index slice, Index slices) {
  return R"({"id":"a)" + std::to_string(slice) + R"(","subject":"s","volume":")" + volume +
         R"(","plane":"axial","slice":)" + std::to_string(slice) + R"(,"slices":)" + std::to_string(slices) +
         R"(,"caption":"an axial slice"})" + "\n";
}

Arguments pretrain_arguments(const std::string& triplets, const std::string& out, const Arguments& more = {}) {
  return with_tiny({triplets, out, "--towers", World::get().towers()}, more);
}

}  // namespace

TEST_CASE("make_triplets: a missing or empty folder is refused", "[examples]") {
  const Folder f;
  refuses("make_triplets", {f.scratch / "nowhere", f.out}, {"nowhere", "no such folder"});
  fs::create_directories(f.scratch / "empty");
  refuses("make_triplets", {f.scratch / "empty", f.out}, {"empty", "holds no image"});
  CHECK_FALSE(fs::exists(f.out));
}

TEST_CASE("make_triplets: what is no NIfTI, NaN, constant, or cut off is refused by name, all of them at once",
          "[examples]") {
  const Folder f;
  spit(f.data + "/text.nii.gz", "this is no volume");
  Volume<float> nan = ramp({16, 16, 16});
  nan.voxels.data()[7] = std::nanf("");
  write_nifti(f.data + "/nan.nii.gz", nan);
  Volume<float> flat = ramp({16, 16, 16});
  std::fill_n(flat.voxels.data(), flat.voxels.size(), 3.0f);
  write_nifti(f.data + "/flat.nii", flat);
  const std::string whole = slurp(f.data + "/flat.nii");
  spit(f.data + "/short.nii", whole.substr(0, whole.size() / 2));
  f.triplets_refused({"text.nii.gz", "nan.nii.gz", "flat.nii", "short.nii", "--skip-bad"});

  const Answer answer = done("make_triplets", {f.data, f.out, "--skip-bad"});
  CHECK_THAT(answer.out, Catch::Contains("1 triplets of 1 volumes") && Catch::Contains("left out") &&
                             Catch::Contains("nan.nii.gz"));
}

TEST_CASE("make_triplets: labels on another grid and labels that are no whole numbers are refused", "[examples]") {
  const Folder f;
  Volume<float> other = ramp({16, 16, 15});
  std::fill_n(other.voxels.data(), other.voxels.size(), 1.0f);
  write_nifti(f.labels, other);
  f.triplets_refused({"one_label.nii.gz", "one.nii.gz", "15"});
  Volume<float> fraction = ramp({16, 16, 16});
  fraction.voxels.data()[3] = 0.5f;
  write_nifti(f.labels, fraction);
  f.triplets_refused({"one_label.nii.gz", "0.5"});
}

TEST_CASE("make_triplets: several frames are refused, or the first is used on request", "[examples]") {
  const Folder f;
  // A NIfTI-1 file with two frames: the header of one frame, changed, and the voxels twice.
  Volume<float> one = ramp({12, 10, 9});
  write_nifti(f.data + "/single.nii", one);
  std::string bytes = slurp(f.data + "/single.nii");
  bytes[40] = 4;  // dim[0]
  bytes[48] = 2;  // dim[4]
  bytes += bytes.substr(352);
  spit(f.data + "/frames.nii", bytes);
  fs::remove(f.data + "/single.nii");
  f.triplets_refused({"frames.nii", "--first-frame"});
  done("make_triplets", {f.data, f.out, "--first-frame"});
  CHECK(read_nifti(f.out + "/volumes/frames_frame0.nii.gz").shape() == Shape{12, 10, 9});
}

TEST_CASE("make_triplets: own captions reach the triplets, and one that fits nothing is refused with its line",
          "[examples]") {
  const Folder f;
  const std::string captions = f.scratch / "captions.jsonl";
  spit(captions, "{\"volume\":\"one.nii.gz\",\"caption\":\"my own words\"}\n");
  done("make_triplets", {f.data, f.out, "--captions", captions});
  CHECK_THAT(slurp(f.out + "/triplets.jsonl"), Catch::Contains("my own words"));
  const auto before = snapshot(f.out);
  spit(captions,
       "{\"volume\":\"one.nii.gz\",\"caption\":\"my own words\"}\n{\"volume\":\"two.nii.gz\",\"caption\":\"x\"}\n");
  refuses("make_triplets", {f.data, f.out, "--captions", captions, "--overwrite"}, {"captions.jsonl:2", "two.nii.gz"});
  CHECK(snapshot(f.out) == before);  // the earlier result is as it was
}

TEST_CASE("make_phantoms and make_triplets: a folder that is not empty is refused without --overwrite", "[examples]") {
  const Folder f;
  const auto before = snapshot(f.data);
  refuses("make_phantoms", {f.data}, {f.data, "not empty", "--overwrite"});
  refuses("make_triplets", {World::get().phantoms(), f.data}, {f.data, "not empty", "--overwrite"});
  CHECK(snapshot(f.data) == before);
}

TEST_CASE("programs: no input is written over, and what is no demonstration is refused", "[examples]") {
  const Folder f;
  const std::string a = f.data + "/a.csv", b = f.data + "/b.csv";
  spit(a, "subject,structure,dice\ns,x,0.5\n");
  spit(b, "subject,structure,dice\ns,x,0.6\n");
  const auto before = snapshot(f.data);
  refuses("picture", {f.image, f.image}, {"one.nii.gz", ".png"});
  refuses("check_dataset", {f.data, "--report", f.labels}, {"one_label.nii.gz", "is an input"});
  refuses("compare", {a, b, "--json", f.data + "/../data/b.csv"}, {"b.csv", "is an input"});
  CHECK(snapshot(f.data) == before);
  refuses("demo_report", {f.data, f.out}, {f.data, "demonstration"});
  CHECK_FALSE(fs::exists(f.out));
}

TEST_CASE("pretrain: triplets that do not fit their volumes are refused before anything is written", "[examples]") {
  const Folder f;
  const std::string path = f.scratch / "triplets.jsonl", out = f.out;
  refuses("pretrain", pretrain_arguments(f.scratch / "none.jsonl", out), {"none.jsonl"});
  spit(path, "");
  refuses("pretrain", pretrain_arguments(path, out), {"triplets.jsonl"});
  spit(path, "{not json}\n");
  refuses("pretrain", pretrain_arguments(path, out), {"triplets.jsonl:1"});
  spit(path, triplet_line("data/one.nii.gz", 16, 16));
  refuses("pretrain", pretrain_arguments(path, out), {"triplets.jsonl:1", "slice 16", "outside"});
  spit(path, triplet_line("data/one.nii.gz", 18, 20));
  refuses("pretrain", pretrain_arguments(path, out), {"one.nii.gz", "20", "16"});
  spit(path, triplet_line("data/two.nii.gz", 3, 16));
  refuses("pretrain", pretrain_arguments(path, out), {"two.nii.gz"});
  spit(path, triplet_line("data/one.nii.gz", 3, 16));
  refuses("pretrain", pretrain_arguments(path, out), {"1 triplets", "batch_size"});
  CHECK_FALSE(fs::exists(out));
}

TEST_CASE("pretrain: a wrong configuration is refused by file and key", "[examples]") {
  const Folder f;
  const std::string config = f.scratch / "config.json", triplets = World::get().triplets();
  const auto with = [&](const std::string& text) {
    spit(config, text);
    return Arguments{triplets, f.out, "--towers", World::get().towers(), "--config", config};
  };
  refuses("pretrain", with(R"({"pretrain":{"epoch":3}})"), {"config.json", "pretrain.epoch", "pretrain.epochs"});
  refuses("pretrain", with(R"({"pretrain":{"epochs":"three"}})"), {"config.json", "pretrain.epochs", "three"});
  refuses("pretrain", with(R"({"pretrain":{"mpot":{"mass":1.5}}})"), {"config.json", "pretrain.mpot.mass", "1.5"});
  refuses("pretrain", with("{"), {"config.json"});
  refuses("pretrain", pretrain_arguments(triplets, f.out, {"--set", "network.heads=1,2,2"}), {"network.heads"});
  refuses("pretrain", pretrain_arguments(triplets, f.out, {"--set", "run.device=cuda:99"}), {"cuda:99"});
  refuses("pretrain", pretrain_arguments(triplets, f.out, {"--set", "network.in_channels=2"}), {"network.in_channels"});
  refuses("pretrain", with_tiny({triplets, f.out, "--towers", f.data}), {f.data});
  refuses("pretrain", with_tiny({triplets, f.out, "--towers", World::get().towers() + "/.."}),
          {"did you mean", "towers"});
  refuses("pretrain", pretrain_arguments(f.data, f.out), {f.data, "triplets.jsonl"});
  CHECK_FALSE(fs::exists(f.out));
}

TEST_CASE("pretrain: a folder that holds a run is refused, and a checkpoint of another network too", "[examples]") {
  const Folder f;
  const std::string triplets = World::get().triplets();
  done("pretrain", pretrain_arguments(triplets, f.out, {"--set", "pretrain.max_steps=2"}));
  const auto before = snapshot(f.out);
  refuses("pretrain", pretrain_arguments(triplets, f.out), {f.out, "--resume"});
  CHECK(run("pretrain", pretrain_arguments(triplets, f.out)).out.empty());  // before the features
  refuses("pretrain", pretrain_arguments(triplets, f.out, {"--resume", "--set", "network.embedding=16"}),
          {"checkpoints", "another network"});
  refuses("pretrain", pretrain_arguments(triplets, f.out, {"--resume", "--set", "run.seed=5"}), {"run.seed"});
  refuses("pretrain", pretrain_arguments(triplets, f.out, {"--resume", "--set", "pretrain.max_steps=1"}),
          {"after step 2", "1 steps"});
  CHECK(snapshot(f.out) == before);
}

TEST_CASE("fine-tuning: a subject in two parts of the split and a model of another network are refused", "[examples]") {
  const Folder f;
  const std::string phantoms = World::get().phantoms(), split = f.scratch / "split.json";
  spit(split, R"({"train":["head_ct_0000"],"validation":[],"test":["head_ct_0000"]})");
  for (const char* name : {"finetune_segmentation", "finetune_classification"}) {
    refuses(name, with_tiny({phantoms, f.out, "--split", split}), {"split.json"});
    refuses(name, with_tiny({phantoms, f.out, "--pretrained", f.image}), {"one.nii.gz"});
    refuses(name, with_tiny({f.scratch / "nowhere", f.out}), {"nowhere"});
  }
  CHECK_FALSE(fs::exists(f.out));
}

TEST_CASE("embed: towers of another width and files that are no model are refused", "[examples]") {
  const Folder f;
  refuses("embed", {f.image, World::get().triplets(), f.out, "--towers", World::get().towers()}, {"one.nii.gz"});
  refuses(
      "embed",
      {World::get().towers() + "/model.safetensors", World::get().triplets(), f.out, "--towers", World::get().towers()},
      {"model.safetensors", "m3i.kind"});
  CHECK_FALSE(fs::exists(f.out));
}
