#include "m3i/train/model_file.hpp"

#include <filesystem>

#include <unistd.h>

#include "catch.hpp"
#include "m3i/nn/linear.hpp"

using namespace m3i;
using Catch::Contains;

namespace {

struct Scratch {
  std::string path = (std::filesystem::temp_directory_path() / text("m3i-model-", long(::getpid()))).string();
  Scratch() { std::filesystem::create_directories(path); }
  ~Scratch() { std::filesystem::remove_all(path); }
  std::string file(const char* name) const { return path + "/" + name; }
};

ModelInfo info(const char* kind) {
  ModelInfo out{kind, {}, {"background", "skull", "left \"eye\""}, {0, 26, 41}, {{"step", "12"}}};
  out.config.data.spacing_mm = 2.5;
  out.config.run.seed = 77;
  return out;
}

}  // namespace

TEST_CASE("model file: what is written is read back", "[train][fast]") {
  const Scratch scratch;
  const Linear<float> layer(3, 2);
  write_model<float>(scratch.file("m.safetensors"), layer, info("segmentation"));
  const ModelFile file = read_model(scratch.file("m.safetensors"));
  CHECK(file.info.kind == "segmentation");
  CHECK(file.info.names == info("segmentation").names);
  CHECK(file.info.values == std::vector<std::int32_t>{0, 26, 41});
  CHECK(file.info.notes.at("step") == "12");
  CHECK(config_difference(file.info.config, info("segmentation").config).empty());
  CHECK(file.weights->metadata().at("m3i.preprocessing").find("2.5 mm isotropic") != std::string::npos);
  REQUIRE(file.info.chain.has_value());
  CHECK(*file.info.chain == preprocessing_chain(info("segmentation").config));
  CHECK(preprocessing_text(file.info) == file.weights->metadata().at("m3i.preprocessing"));
  const Linear<float> other(3, 2);
  load_module<float>(other, *file.weights);
  CHECK(other.weight.value().to_vector() == layer.weight.value().to_vector());
}

TEST_CASE("model file: what is no model says what it is and what was expected", "[train][fast][errors]") {
  const Scratch scratch;
  const Linear<float> layer(3, 2);
  write_safetensors(scratch.file("plain.safetensors"), state_arrays<float>(layer), {{"format", "pt"}});
  CHECK_THROWS_WITH(read_model(scratch.file("plain.safetensors")),
                    Contains("plain.safetensors") && Contains("no m3i.kind"));
  write_safetensors(scratch.file("c.safetensors"), state_arrays<float>(layer), {{"format", "m3i-checkpoint-1"}});
  CHECK_THROWS_WITH(read_model(scratch.file("c.safetensors")), Contains("training checkpoint"));
  CHECK_THROWS_AS(read_model(scratch.file("missing.safetensors")), FileError);

  const auto refused = [&](std::map<std::string, std::string> changed, const char* words) {
    std::map<std::string, std::string> metadata{{"m3i.kind", "segmentation"},
                                                {"m3i.config", "{}"},
                                                {"m3i.names", "[\"a\", \"b\"]"},
                                                {"m3i.label_values", "[0, 1]"}};
    for (const auto& [key, value] : changed) metadata[key] = value;
    write_safetensors(scratch.file("x.safetensors"), state_arrays<float>(layer), metadata);
    CHECK_THROWS_WITH(read_model(scratch.file("x.safetensors")), Contains(words));
  };
  refused({{"m3i.kind", "regression"}}, "m3i.kind is \"regression\"");
  refused({{"m3i.config", "{\"nothing\": 1}"}}, "no such key");
  refused({{"m3i.config", "{"}}, "not valid JSON");
  refused({{"m3i.chain", "[{\"step\": \"resise\"}]"}}, "m3i.chain: step 1: no step \"resise\"; did you mean resize?");
  refused({{"m3i.names", "[\"a\"]"}}, "m3i.names has 1");
  refused({{"m3i.names", "{}"}}, "expected a list");
  refused({{"m3i.names", "[1, 2]"}}, "expected strings");
  refused({{"m3i.label_values", "[0, 0]"}}, "rising");
  refused({{"m3i.label_values", "[1, 2]"}}, "rising");
  refused({{"m3i.label_values", "[0, 1, 2]"}}, "m3i.label_values");
  refused({{"m3i.label_values", "[0, 99999999999]"}}, "whole numbers");
}

TEST_CASE("model file: the stored chain is used, an older file's comes from its configuration", "[train][fast]") {
  const Scratch scratch;
  ModelInfo own = info("segmentation");
  own.chain = TransformChain{{steps::Orient{"LPS"}, steps::Ct{"lung"}, steps::PadToAtLeast{{8, 8, 8}}}};
  write_model<float>(scratch.file("own.safetensors"), Linear<float>(3, 2), own);
  CHECK(preprocessing_chain(read_model(scratch.file("own.safetensors")).info) == *own.chain);
  CHECK(preprocessing_text(read_model(scratch.file("own.safetensors")).info) ==
        "LPS order, intensities from -1350 to 150 HU (lung) to [0, 1], padded to at least 8^3");
  write_safetensors(scratch.file("old.safetensors"), state_arrays<float>(Linear<float>(3, 2)),
                    {{"m3i.kind", "pretrained"}, {"m3i.config", "{\"data\": {\"spacing_mm\": 3}}"}});
  const ModelInfo old = read_model(scratch.file("old.safetensors")).info;
  CHECK_FALSE(old.chain.has_value());
  CHECK(preprocessing_text(old).find("3 mm isotropic") != std::string::npos);
}

TEST_CASE("preprocessing: the configuration's chain follows fit, intensity and crop", "[train][fast]") {
  MethodConfig c;
  CHECK(preprocessing_chain(c) ==
        TransformChain{{steps::Orient{}, steps::Spacing{}, steps::Minmax{}, steps::FitCube{}}});
  c.data.low_percentile = 1;  // as configurations said it before data.intensity
  CHECK(preprocessing_chain(c).steps[2] == TransformStep(steps::Percentile{1, 100}));
  c.data.fit = choice::Fit::patch;
  c.data.crop_foreground = true;
  c.network.image_size = 32;
  c.data.intensity = choice::Intensity::zscore_nonzero;
  CHECK(preprocessing_chain(c) == TransformChain{{steps::Orient{}, steps::Spacing{}, steps::CropForeground{},
                                                  steps::Zscore{true}, steps::PadToAtLeast{{32, 32, 32}}}});
  const auto names = enum_names(choice::Intensity{});
  std::size_t presets = 0;
  for (std::size_t i = 0; i < names.size(); ++i) {
    c.data.intensity = choice::Intensity(i);
    const TransformChain chain = preprocessing_chain(c);
    check_chain(chain);
    for (const TransformStep& step : chain.steps)
      if (const auto* ct = std::get_if<steps::Ct>(&step)) presets += names[i] == "ct_" + ct->preset;
  }
  CHECK(presets == ct_windows.size());
}

TEST_CASE("model file: another network is refused by key, another preprocessing is told", "[train][fast][errors]") {
  const Scratch scratch;
  write_model<float>(scratch.file("m.safetensors"), Linear<float>(3, 2), info("segmentation"));
  const ModelFile file = read_model(scratch.file("m.safetensors"));
  MethodConfig config = file.info.config;
  config.network.drop_path = 0.1;
  config.run.seed = 5;
  CHECK(compare_model(file, config).empty());
  config.data.spacing_mm = 1;
  CHECK(compare_model(file, config) == std::vector<std::string>{"data.spacing_mm: 2.5 against 1.0"});
  config.network.embedding = 48;
  CHECK_THROWS_WITH(compare_model(file, config), Contains("network.embedding: 96 against 48"));
  CHECK_THROWS_AS(compare_model(file, config), ConfigError);

  config = file.info.config;
  config.network.unetr.hidden = 96;  // not the file's business: it is an nnFormer
  CHECK(compare_model(file, config).empty());
  config.network.backbone = choice::Backbone::unetr;
  CHECK_THROWS_WITH(compare_model(file, config), Contains("another network") &&
                                                     Contains("network.backbone: \"nnformer\" against \"unetr\"") &&
                                                     !Contains("unetr.hidden"));
}
