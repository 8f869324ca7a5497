#include "m3i/imaging/nifti.hpp"
#include "m3i/io/json.hpp"
#include "programs.hpp"

using namespace programs;

TEST_CASE("programs: pretrain, fine-tune, predict, evaluate and embed hand over to each other", "[examples]") {
  const Scratch folder;
  const World& world = World::get();
  const std::string pretrained = folder / "pretrain/model.safetensors";
  done("pretrain", with_tiny({world.triplets(), folder / "pretrain", "--towers", world.towers()},
                             {"--set", "pretrain.max_steps=3"}));

  const Arguments short_runs{"--set",        "segmentation.training.max_steps=3",
                             "--set",        "classification.training.max_steps=3",
                             "--pretrained", pretrained};
  for (const std::string task : {"segmentation", "classification"}) {
    done("finetune_" + task, with_tiny({world.phantoms(), folder / task}, short_runs));
    CHECK(m3i::read_json(folder / (task + "/metrics.json")).at("count") == 2);
  }

  const auto split = m3i::read_json(folder / "segmentation/split.json");
  const std::string subject = split.at("test")[0].get<std::string>();
  const std::string image = world.phantoms() + "/imagesTr/" + subject + ".nii.gz",
                    labels = folder / (subject + ".nii.gz");
  done("predict", {folder / "segmentation/model.safetensors", image, labels});
  const auto given = m3i::read_nifti<float>(image);
  const auto predicted = m3i::read_labels<std::uint8_t>(labels);
  CHECK(predicted.shape() == given.shape());
  CHECK(predicted.affine.m == given.affine.m);

  done("evaluate", {folder / "segmentation/model.safetensors", world.phantoms(), folder / "scores", "--split",
                    folder / "segmentation/split.json", "--part", "test"});
  const auto own = m3i::read_json(folder / "segmentation/metrics.json"),
             again = m3i::read_json(folder / "scores/metrics.json");
  CHECK(own.at("dice_mean") == again.at("dice_mean"));

  done("embed", {pretrained, world.triplets(), folder / "embed", "--towers", world.towers()});
  const auto embeddings = m3i::read_json(folder / "embed/embeddings.json");
  CHECK(embeddings.at("count") == 10);
  CHECK(embeddings.at("points").size() == 10);
  CHECK(embeddings.at("volume_text").at("modality_gap").get<double>() >= 0);

  done("demo_report", {folder / "", folder / "report.html"});
  const std::string page = slurp(folder / "report.html");
  CHECK_THAT(page, Catch::Contains("</html>"));
  CHECK(page.find("http://") ==
        page.find("http://www.w3.org/2000/svg"));  // no outside resource, only the name space of SVG
  CHECK(page.find("https://") == std::string::npos);
}

TEST_CASE("make_phantoms: the same seed gives the same bytes, another one others", "[examples]") {
  const Scratch folder;
  for (const char* name : {"a", "b"})
    done("make_phantoms", {folder / name, "--subjects", "2", "--size", "16", "--seed", "3", "--body", "chest"});
  done("make_phantoms", {folder / "c", "--subjects", "2", "--size", "16", "--seed", "4", "--body", "chest"});
  const auto contents = [&](const char* name) {
    std::vector<std::string> out;
    for (const auto& [path, bytes] : snapshot(folder / name)) out.push_back(bytes);
    return out;
  };
  CHECK(contents("a") == contents("b"));
  CHECK(contents("a") != contents("c"));
}
