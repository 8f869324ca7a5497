#include "m3i/train/model_file.hpp"

#include <filesystem>

#include <unistd.h>

#include "catch.hpp"
#include "m3i/nn/linear.hpp"

using namespace m3i;
using Catch::Matchers::Contains;

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
  refused({{"m3i.names", "[\"a\"]"}}, "m3i.names has 1");
  refused({{"m3i.names", "{}"}}, "expected a list");
  refused({{"m3i.names", "[1, 2]"}}, "expected strings");
  refused({{"m3i.label_values", "[0, 0]"}}, "rising");
  refused({{"m3i.label_values", "[1, 2]"}}, "rising");
  refused({{"m3i.label_values", "[0, 1, 2]"}}, "m3i.label_values");
  refused({{"m3i.label_values", "[0, 99999999999]"}}, "whole numbers");
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
}
