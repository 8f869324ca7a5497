/// predict and evaluate with models of whole volumes and of patches.

#include "m3i/imaging/nifti.hpp"
#include "m3i/imaging/nifti_write.hpp"
#include "m3i/io/json.hpp"
#include "programs.hpp"

using namespace programs;
using namespace m3i;

namespace {

/// Phantoms and two tiny models, made when first asked for.
class Models {
 public:
  static const Models& get() {
    static const Models models;
    return models;
  }
  std::string phantoms() const { return folder_ / "phantoms"; }
  std::string image(int subject) const {
    std::vector<std::string> files;
    for (const auto& item : fs::directory_iterator(phantoms() + "/imagesTr")) files.push_back(item.path().string());
    std::sort(files.begin(), files.end());
    return files.at(std::size_t(subject));
  }
  std::string run(const std::string& fit) const { return folder_ / fit; }
  std::string model(const std::string& fit) const { return run(fit) + "/model.safetensors"; }

 private:
  Models() {
    done("make_phantoms", {phantoms(), "--subjects", "6", "--size", "16", "--body", "head"});
    const Arguments few{"--set", "segmentation.training.max_steps=2", "--set", "data.split=4,1,1"};
    done("finetune_segmentation", with_tiny({phantoms(), run("cube")}, few));
    Arguments patches = few;
    for (const char* s : {"data.fit=patch", "data.spacing_mm=5", "segmentation.patch.per_volume=2"})
      patches.push_back("--set"), patches.push_back(s);
    done("finetune_segmentation", with_tiny({phantoms(), run("patch")}, patches));
  }
  Scratch folder_;
};

/// An image with what a header may hold: oblique, an sform and a qform that differ, codes, units, a description.
std::string odd_image(const std::string& path) {
  Volume<float> v = read_nifti<float>(Models::get().image(0));
  NiftiHeader h = *v.header;
  h.sform_code = 4, h.qform_code = 1;
  h.srow = {-3, 0.4, 0, 20, 0.3, 0, 4, -31, 0, 5, 0.2, 7};
  h.quatern = {0.1, 0.2, 0.3}, h.qoffset = {1, 2, 3};
  h.pixdim = {-1, 3, 5, 4, 2.5, 1, 1, 1};
  std::string("made for a test").copy(h.descrip.data(), h.descrip.size());
  v.affine = Affine{{-3, 0.4, 0, 20, 0.3, 0, 4, -31, 0, 5, 0.2, 7, 0, 0, 0, 1}};
  write_nifti(path, v, &h);
  return path;
}

}  // namespace

TEST_CASE("predict: labels have the input's header geometry, whatever it is", "[examples]") {
  const Scratch folder;
  const std::string image = odd_image(folder / "odd.nii");
  const auto given = read_nifti<float>(image);
  for (const std::string fit : {"cube", "patch"}) {
    const std::string path = folder / (fit + ".nii.gz");
    const Answer answer = done("predict", {Models::get().model(fit), image, path, "--threads", "1"});
    CHECK_THAT(answer.errors, Catch::Contains("memory besides the network and the volume"));
    const auto labels = read_labels<std::uint8_t>(path);
    CHECK(labels.shape() == given.shape());
    const NiftiHeader &a = *given.header, &b = *labels.header;
    CHECK(a.srow == b.srow);
    CHECK(a.quatern == b.quatern);
    CHECK(a.qoffset == b.qoffset);
    CHECK(a.sform_code == b.sform_code);
    CHECK(a.qform_code == b.qform_code);
    CHECK(std::equal(a.pixdim.begin(), a.pixdim.begin() + 4, b.pixdim.begin()));
    CHECK(a.xyzt_units == b.xyzt_units);
    CHECK(a.descrip == b.descrip);
  }
}

TEST_CASE("predict: window batch and threads do not change the labels; evaluate agrees with the test", "[examples]") {
  const Scratch folder;
  const Models& models = Models::get();
  const Arguments base{models.model("patch"), models.image(1)};
  const auto predicted = [&](const std::string& name, const Arguments& more) {
    Arguments all = base;
    all.push_back(folder / name);
    all.insert(all.end(), more.begin(), more.end());
    done("predict", all);
    return read_labels<std::uint8_t>(folder / name).voxels.to_vector();
  };
  const auto one = predicted("one.nii", {"--threads", "1"});
  CHECK(predicted("batch.nii", {"--threads", "2", "--window-batch", "5"}) == one);
  const auto mirrored = predicted("mirror.nii", {"--mirror", "xz", "--largest-component", "--overlap", "0.25"});
  CHECK(mirrored != one);

  done("evaluate", {models.model("patch"), models.phantoms(), folder / "scores", "--split",
                    models.run("patch") + "/split.json", "--part", "test"});
  CHECK(read_json(folder / "scores/metrics.json").at("dice_mean") ==
        read_json(models.run("patch") + "/metrics.json").at("dice_mean"));
  refuses("predict", {models.model("patch"), models.image(1), folder / "x.nii", "--mirror", "q"},
          {"--mirror", "\"q\""});
}

TEST_CASE("predict: a bad image of a folder is named, and the others get labels", "[examples]") {
  const Scratch folder;
  const Models& models = Models::get();
  fs::create_directories(folder / "in");
  fs::copy(models.image(0), folder / "in/a.nii.gz");
  spit(folder / "in/b.nii.gz", slurp(models.image(1)).substr(0, 2000));
  fs::copy(models.image(2), folder / "in/c.nii.gz");
  const Answer answer = run("predict", {models.model("cube"), folder / "in", folder / "out"});
  INFO(answer.out << answer.errors);
  CHECK(answer.code == 1);
  CHECK_THAT(answer.errors, Catch::Contains("1 of 3 images have no labels") && Catch::Contains("in/b.nii.gz"));
  CHECK(snapshot(folder / "out").size() == 2);
  CHECK_NOTHROW(read_labels<std::uint8_t>(folder / "out/a.nii.gz"));
  CHECK_NOTHROW(read_labels<std::uint8_t>(folder / "out/c.nii.gz"));
  refuses("predict", {models.model("cube"), folder / "in/b.nii.gz", folder / "b.nii.gz"}, {"b.nii.gz"});
  CHECK_FALSE(fs::exists(folder / "b.nii.gz"));
}

TEST_CASE("predict: labels of a folder go to a folder", "[examples]") {
  const Scratch folder;
  const std::string file = folder / "labels.nii.gz";
  refuses("predict", {Models::get().model("cube"), Models::get().phantoms(), file}, {file, "is a folder"});
  CHECK_FALSE(fs::exists(file));
}

TEST_CASE("predict: stopped by Ctrl-C it leaves whole files only", "[examples]") {
  const Scratch folder;
  const Models& models = Models::get();
  fs::create_directories(folder / "in");
  for (int i = 0; i < 200; ++i) fs::copy(models.image(i % 6), folder / ("in/" + std::to_string(i) + ".nii.gz"));
  Running program("predict", {models.model("patch"), folder / "in", folder / "out", "--overlap", "0.8"});
  Running::until([&] { return fs::exists(folder / "out") && !fs::is_empty(folder / "out"); });
  program.send(SIGINT);
  const Answer answer = program.wait();
  INFO(answer.out << answer.errors);
  CHECK(answer.code == 130);
  CHECK_THAT(answer.errors, Catch::Contains("stopping"));
  const auto files = snapshot(folder / "out");
  CHECK(files.size() >= 1);
  CHECK(files.size() < 200);
  for (const auto& file : files) CHECK_NOTHROW(read_labels<std::uint8_t>(file.first));
}

TEST_CASE("predict: a model trained in one type is applied in another", "[examples]") {
  const Scratch folder;
  const std::string image = Models::get().image(0);
  const Arguments few{"--set", "segmentation.training.max_steps=2", "--set", "data.split=4,1,1", "--dtype", "bf16"};
  done("finetune_segmentation", with_tiny({Models::get().phantoms(), folder / "bf16"}, few));
  for (const std::string& model : {Models::get().model("cube"), folder / "bf16/model.safetensors"}) {
    const std::string exact = folder / "exact.nii", rounded = folder / "rounded.nii";
    done("predict", {model, image, exact});
    for (const std::string dtype : {"bf16", "f16"}) {
      done("predict", {model, image, rounded, "--dtype", dtype});
      const auto a = read_labels<std::int32_t>(exact).voxels, b = read_labels<std::int32_t>(rounded).voxels;
      REQUIRE(a.shape() == b.shape());
      Index equal = 0;
      for (Index i = 0; i < a.size(); ++i) equal += a.data()[i] == b.data()[i];
      CHECK(double(equal) > 0.9 * double(a.size()));
    }
  }
  refuses("predict", {Models::get().model("cube"), image, folder / "no.nii", "--dtype", "half"},
          {"--dtype", "half", "f32", "bf16", "f16"});
}
