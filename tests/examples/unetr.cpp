/// The programs with UNETR in the place of nnFormer.

#include "m3i/imaging/nifti.hpp"
#include "m3i/io/json.hpp"
#include "m3i/io/safetensors.hpp"
#include "programs.hpp"

using namespace programs;

namespace {

Arguments with_unetr(Arguments arguments, const Arguments& settings = {}, const Arguments& more = {}) {
  for (const char* s :
       {"network.backbone=unetr", "network.unetr.hidden=16", "network.unetr.layers=4", "network.unetr.heads=2",
        "network.unetr.mlp=32", "network.unetr.feature_size=4", "pretrain.max_steps=3",
        "segmentation.training.max_steps=3", "classification.training.max_steps=3"})
    arguments.insert(arguments.end(), {"--set", s});
  for (const std::string& s : settings) arguments.insert(arguments.end(), {"--set", s});
  return with_tiny(arguments, more);
}

}  // namespace

TEST_CASE("unetr: pretrain, embed, fine-tune and predict hand over to each other", "[examples]") {
  const Scratch folder;
  const World& world = World::get();
  const Arguments pretrain{world.triplets(), folder / "pretrain", "--towers", world.towers()};
  CHECK_THAT(done("pretrain", with_unetr(pretrain)).out, Catch::Contains("unetr 32, hidden 16, feature size 4: "));
  const std::string pretrained = folder / "pretrain/model.safetensors";
  refuses("pretrain", with_tiny(pretrain, {"--resume"}), {"checkpoints", "another network", "unetr 32"});

  done("embed", {pretrained, world.triplets(), folder / "embed", "--towers", world.towers()});
  CHECK(m3i::read_json(folder / "embed/embeddings.json").at("count") == 10);
  const m3i::SafeTensors embeddings(folder / "embed/embeddings.safetensors");
  CHECK(embeddings.entry("encoder").shape == m3i::Shape{10, 16});

  for (const std::string task : {"segmentation", "classification"}) {
    const Answer answer =
        done("finetune_" + task,
             with_unetr({world.phantoms(), folder / task, "--pretrained", pretrained}, {"run.dtype=bf16"}));
    CHECK_THAT(answer.out, Catch::Contains("unetr 32") && Catch::Contains(" 0 missing, 0 unexpected"));
    CHECK(m3i::read_json(folder / (task + "/metrics.json")).at("count") == 2);
  }
  const auto split = m3i::read_json(folder / "segmentation/split.json");
  const std::string subject = split.at("test")[0].get<std::string>(),
                    image = world.phantoms() + "/imagesTr/" + subject + ".nii.gz", labels = folder / "labels.nii.gz";
  done("predict", {folder / "segmentation/model.safetensors", image, labels});
  CHECK(m3i::read_labels<std::uint8_t>(labels).shape() == m3i::read_nifti<float>(image).shape());
  done("predict", {folder / "classification/model.safetensors", image, folder / "classes.json"});
  CHECK(m3i::read_json(folder / "classes.json").at("cases").size() == 1);
}

TEST_CASE("unetr: patches of large volumes, predicted window by window", "[examples]") {
  const Scratch folder;
  const World& world = World::get();
  done("finetune_segmentation", with_unetr({world.phantoms(), folder / "patch"},
                                           {"data.fit=patch", "data.spacing_mm=5", "segmentation.patch.per_volume=2"}));
  CHECK(m3i::read_json(folder / "patch/metrics.json").at("count") == 2);
}

TEST_CASE("unetr: settings that make no network, and models of the other backbone, are refused", "[examples]") {
  const Scratch folder;
  const World& world = World::get();
  const auto refused = [&](const std::string& setting, const std::vector<std::string>& words) {
    refuses("finetune_segmentation", with_unetr({world.phantoms(), folder / "out"}, {}, {"--set", setting}), words);
  };
  refused("network.image_size=24", {"network.image_size: is 24", "multiple of 16"});
  refused("network.unetr.heads=3", {"network.unetr.heads: is 3", "hidden 16"});
  refused("network.unetr.layers=5", {"network.unetr.layers: is 5", "multiple of 4"});
  refused("network.drop_path=0.2", {"network.drop_path: is 0.2"});
  refused("segmentation.deep_supervision=true", {"segmentation.deep_supervision", "unetr", "one output"});
  refused("network.backbone=swin", {"network.backbone", "one of nnformer, unetr"});
  refused("network.unetr.patch=8", {"network.unetr.patch: no such key"});

  const Arguments few{"--set", "segmentation.training.max_steps=1", "--set", "data.split=6,2,2"};
  done("finetune_segmentation", with_tiny({world.phantoms(), folder / "nnformer"}, few));
  const std::string model = folder / "nnformer/model.safetensors";
  for (const char* program : {"finetune_segmentation", "finetune_classification"})
    refuses(program, with_unetr({world.phantoms(), folder / "out", "--pretrained", model}),
            {"another network", "network.backbone: \"nnformer\" against \"unetr\""});
  CHECK_FALSE(fs::exists(folder / "out"));
}
