/// m3i::api answers what the programs answer, to a program that knows nothing else of m3i.

#include "m3i/api.hpp"

#include "../examples/programs.hpp"

#ifdef M3I_CUDA
#error "m3i::api must not hand m3i's compile definitions on"
#endif

namespace api = m3i::api;
using namespace programs;

namespace {

/// Tiny models of all three kinds, trained by api::run.
class Models {
 public:
  static const Models& get() {
    static const Models models;
    return models;
  }
  std::string file(const std::string& kind) const { return folder_ / kind + "/model.safetensors"; }
  std::string image(int i) const {
    std::vector<std::string> files;
    for (const auto& item : fs::directory_iterator(World::get().phantoms() + "/imagesTr"))
      files.push_back(item.path().string());
    std::sort(files.begin(), files.end());
    return files.at(std::size_t(i));
  }

 private:
  Models() {
    const auto train = [&](const std::string& program, const std::string& kind, const std::string& data,
                           const Arguments& more) {
      INFO(program);
      REQUIRE(api::run(program, with_tiny({data, folder_ / kind}, more)) == 0);
    };
    const World& world = World::get();
    const Arguments split{"--set", "data.split=6,2,2"};
    Arguments segment = split, classify = split;
    segment.insert(segment.end(), {"--set", "segmentation.training.max_steps=2"});
    classify.insert(classify.end(), {"--set", "classification.training.max_steps=2", "--ranks", "2"});
    train("finetune_segmentation", "segmentation", world.phantoms(), segment);
    train("finetune_classification", "classification", world.phantoms(), classify);
    train("pretrain", "pretrained", world.triplets(), {"--towers", world.towers(), "--set", "pretrain.max_steps=2"});
  }
  Scratch folder_;
};

}  // namespace

TEST_CASE("api: segments as predict does, to the byte", "[api]") {
  const Scratch folder;
  const Models& models = Models::get();
  done("predict", {models.file("segmentation"), models.image(0), folder / "program.nii.gz"});
  const api::Model model(models.file("segmentation"));
  CHECK(model.kind() == "segmentation");
  CHECK(model.names().size() == model.values().size());
  CHECK_THAT(model.preprocessing(), Catch::Contains("mm"));
  const api::Scan scan = api::read_scan(models.image(0));
  const api::Labels labels = model.segment(scan);
  CHECK(labels.size == scan.size);
  CHECK(labels.affine == scan.affine);
  api::write_labels(folder / "api.nii.gz", labels);
  CHECK(slurp(folder / "api.nii.gz") == slurp(folder / "program.nii.gz"));
}

TEST_CASE("api: classifies as predict does", "[api]") {
  const Scratch folder;
  const Models& models = Models::get();
  done("predict", {models.file("classification"), models.image(1), folder / "classes.json"});
  const auto p = api::Model(models.file("classification")).classify(api::read_scan(models.image(1)));
  REQUIRE(p.size() >= 2);
  double sum = 0;
  const std::string json = slurp(folder / "classes.json");
  for (const double v : p) {
    sum += v;
    char digits[32];
    std::snprintf(digits, sizeof digits, "%.6g", v);
    CHECK_THAT(json, Catch::Contains(std::string(digits).substr(0, 7)));
  }
  CHECK(sum == Approx(1).margin(1e-5));
}

TEST_CASE("api: embeds with the encoder of any model", "[api]") {
  const Models& models = Models::get();
  const api::Scan first = api::read_scan(models.image(0)), second = api::read_scan(models.image(1));
  for (const char* kind : {"pretrained", "segmentation", "classification"}) {
    api::Model model(models.file(kind));
    api::Model moved = std::move(model);
    CHECK(moved.kind() == kind);
    const auto a = moved.embed(first);
    CHECK(a.size() == 64);  // 8 channels, doubled three times
    CHECK(a == moved.embed(first));
    CHECK(a != moved.embed(second));
  }
}

TEST_CASE("api: a model of UNETR segments and embeds", "[api]") {
  const Scratch folder;
  Arguments settings;
  for (const char* s :
       {"network.backbone=unetr", "network.unetr.hidden=16", "network.unetr.layers=4", "network.unetr.heads=2",
        "network.unetr.mlp=32", "network.unetr.feature_size=4", "segmentation.training.max_steps=2"})
    settings.insert(settings.end(), {"--set", s});
  const World& world = World::get();
  REQUIRE(api::run("finetune_segmentation", with_tiny({world.phantoms(), folder / "unetr"}, settings)) == 0);
  const std::string file = folder / "unetr/model.safetensors", image = Models::get().image(0);
  done("predict", {file, image, folder / "program.nii.gz"});
  const api::Model model(file);
  const api::Scan scan = api::read_scan(image);
  api::write_labels(folder / "api.nii.gz", model.segment(scan));
  CHECK(slurp(folder / "api.nii.gz") == slurp(folder / "program.nii.gz"));
  CHECK(model.embed(scan).size() == 16);
}

TEST_CASE("api: what is wrong is named", "[api][errors]") {
  using Catch::Contains;
  const Models& models = Models::get();
  const api::Model pretrained(models.file("pretrained"));
  api::Scan scan = api::read_scan(models.image(0));
  CHECK_THROWS_WITH(pretrained.segment(scan),
                    Contains("segment") && Contains("pretrained") && Contains("model.safetensors"));
  CHECK_THROWS_WITH(pretrained.classify(scan), Contains("classification"));
  CHECK_THROWS_WITH(api::Model("nowhere.safetensors"), Contains("nowhere.safetensors"));
  CHECK_THROWS_WITH(api::Model(models.file("pretrained"), {"cuda:99"}), Contains("cuda:99"));
  CHECK_THROWS_WITH(api::Model(models.file("pretrained"), {"cpu", "f8"}), Contains("f8") && Contains("bf16"));
  CHECK_THROWS_WITH(api::read_scan("nowhere.nii"), Contains("nowhere.nii"));
  scan.voxels.pop_back();
  CHECK_THROWS_WITH(pretrained.embed(scan), Contains("embed") && Contains("size[0]"));
  scan.size = {std::int64_t(1) << 40, 1, 1};
  CHECK_THROWS_WITH(pretrained.embed(scan), Contains("2^20"));
  CHECK_THROWS_WITH(api::run("paint", {}), Contains("paint") && Contains("finetune_segmentation"));
  CHECK(api::run("pretrain", {"--no-such-option"}) == 2);
  CHECK(api::programs().size() == 4);
  CHECK_FALSE(api::build().empty());
}
