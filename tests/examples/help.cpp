#include "programs.hpp"

using namespace programs;

TEST_CASE("programs: --help leaves with 0 and names every argument and an example", "[examples]") {
  const std::vector<std::pair<std::string, Arguments>> all{
      {"make_phantoms", {"out", "--subjects", "--size", "--seed", "--body", "--modality", "--overwrite"}},
      {"make_triplets",
       {"data", "out", "--slices", "--noise", "--captions", "--skip-bad", "--first-frame", "--config", "--set"}},
      {"fit_clip", {"triplets", "out", "--resume", "--config", "--set"}},
      {"pretrain", {"triplets", "out", "--towers", "--resume", "--config", "--set", "--show-config"}},
      {"finetune_segmentation", {"data", "out", "--pretrained", "--split", "--resume"}},
      {"finetune_classification", {"data", "out", "--pretrained", "--split", "--resume"}},
      {"check_dataset", {"data", "--report", "--labels", "--classes", "--channel", "--first-frame", "--cases"}},
      {"predict", {"model"}},
      {"evaluate", {"--help"}},
      {"embed", {"model", "triplets", "out", "--towers", "--plot", "--color"}},
      {"picture", {"image", "out", "--labels", "--truth", "--window", "--plane", "--montage"}},
      {"compare", {"files", "--metric", "--structure", "--unit", "--json"}},
      {"demo_report", {"demo", "out"}}};
  for (const auto& [name, words] : all) {
    const Answer answer = done(name, {"--help"});
    CHECK(answer.errors.empty());
    for (const std::string& word : words) CHECK_THAT(answer.out, Catch::Contains(word));
    CHECK_THAT(answer.out, Catch::Contains("Example"));
  }
}

TEST_CASE("programs: --version names the version and the instruction set", "[examples]") {
  CHECK_THAT(done("predict", {"--version"}).out, Catch::Contains("m3i ") && Catch::Contains("compiled for "));
}

TEST_CASE("programs: a missing or unknown argument is refused with a hint to --help", "[examples]") {
  for (const char* name :
       {"make_phantoms", "make_triplets", "fit_clip", "pretrain", "finetune_segmentation", "finetune_classification",
        "predict", "evaluate", "embed", "demo_report", "check_dataset", "picture", "compare"}) {
    refuses(name, {}, {"--help"});
    refuses(name, {"--no-such-option"}, {"--help"});
  }
}

TEST_CASE("pretrain: --show-config prints every key with its meaning", "[examples]") {
  const Answer answer = done("pretrain", {"--show-config", "--set", "pretrain.epochs=7"});
  for (const char* word : {"pretrain:", "epochs", "7", "passes over the triplets", "optimizer", "psat"})
    CHECK_THAT(answer.out, Catch::Contains(word));
}
