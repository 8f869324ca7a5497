#include "m3i/train/config.hpp"

#include <cstdio>
#include <filesystem>
#include <set>

#include "catch.hpp"
#include "m3i/core/atomic_file.hpp"
#include "m3i/train/method_config.hpp"

using namespace m3i;
using Catch::Contains;
using Catch::Matchers::Equals;

namespace config_test {  // named: nvcc warns of unused members of unnamed ones

enum class Fruit { apple, pear };
inline auto enum_names(Fruit) { return std::array{"apple", "pear"}; }

struct Inner {
  double rate = 0.5;
  std::vector<Index> depths{2, 2};

  template <class Self, class Field>
  static void fields(Self& self, Field&& field) {
    field("rate", self.rate, "a rate", above_upto(0, 1));
    field("depths", self.depths, "blocks", at_least(1));
  }
  void check(const ConfigCheck& check) const { check(!depths.empty(), "depths", "is empty"); }
};

struct Sample {
  Index count = 3;
  std::uint64_t seed = 0;
  bool fast = false;
  std::string name = "m3i";
  Fruit fruit = Fruit::apple;
  std::optional<double> limit;
  std::array<double, 3> split{7, 1, 2};
  std::vector<Fruit> fruits{Fruit::apple};
  Inner inner;

  template <class Self, class Field>
  static void fields(Self& self, Field&& field) {
    field("count", self.count, "how many", at_least(1));
    field("seed", self.seed, "a seed");
    field("fast", self.fast, "quick or not");
    field("name", self.name, "a name");
    field("fruit", self.fruit, "a fruit");
    field("limit", self.limit, "a limit", above(0));
    field("split", self.split, "a split", at_least(0));
    field("fruits", self.fruits, "several");
    field("inner", self.inner, "more");
  }
};

}  // namespace config_test

namespace {

using namespace config_test;

std::string error_of(const std::string& json) {
  Sample sample;
  try {
    read_config(sample, parse_config(json, "a.json"), "a.json");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

std::string set_error(const std::string& assignment) {
  Sample sample;
  try {
    set_config(sample, assignment);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("config: a file sets what it names and leaves the rest", "[train][fast]") {
  Sample sample;
  read_config(sample,
              parse_config(R"({
    "count": 5,            // comments are welcome
    "seed": 18446744073709551615,
    "fast": true, "fruit": "pear", "limit": 2, "split": [1, 2, 3.5], "fruits": ["pear", "apple"],
    "inner": {"depths": [1, 2, 3]}
  })",
                           "a.json"),
              "a.json");
  CHECK(sample.count == 5);
  CHECK(sample.seed == 18446744073709551615u);
  CHECK(sample.fast);
  CHECK(sample.name == "m3i");
  CHECK(sample.fruit == Fruit::pear);
  CHECK(sample.limit.value() == 2);
  CHECK(sample.split == std::array<double, 3>{1, 2, 3.5});
  CHECK(sample.fruits == std::vector{Fruit::pear, Fruit::apple});
  CHECK(sample.inner.depths == std::vector<Index>{1, 2, 3});
  CHECK(sample.inner.rate == 0.5);
}

TEST_CASE("config: an unknown key names file, path and the nearest key", "[train][fast][errors]") {
  CHECK_THAT(error_of(R"({"cuont": 5})"), Equals("a.json: cuont: no such key; did you mean count?"));
  CHECK_THAT(error_of(R"({"inner": {"depth": [1]}})"),
             Equals("a.json: inner.depth: no such key; did you mean inner.depths?"));
  CHECK_THAT(error_of(R"({"rate": 1})"), Equals("a.json: rate: no such key; did you mean inner.rate?"));
  CHECK_THAT(error_of(R"({"inner": {"xyzzyx": 1}})"),
             Equals("a.json: inner.xyzzyx: no such key; inner may have rate, depths"));
  CHECK_THAT(error_of(R"({"inner.rate": 1})"), Contains("no such key"));
}

TEST_CASE("config: a wrong value names key, found and expected", "[train][fast][errors]") {
  CHECK_THAT(error_of(R"({"count": 2.5})"), Equals("a.json: count: found 2.5 (number), expected integer >= 1"));
  CHECK_THAT(error_of(R"({"count": 0})"), Equals("a.json: count: found 0 (integer), expected integer >= 1"));
  CHECK_THAT(error_of(R"({"count": 99999999999999999999})"), Contains("expected integer >= 1"));
  CHECK_THAT(error_of(R"({"count": 18446744073709551615})"), Contains("expected integer >= 1"));
  CHECK_THAT(error_of(R"({"seed": -1})"), Contains("found -1 (integer), expected integer >= 0"));
  CHECK_THAT(error_of(R"({"fast": 1})"), Contains("found 1 (integer), expected true or false"));
  CHECK_THAT(error_of(R"({"name": 1})"), Contains("expected text"));
  CHECK_THAT(error_of(R"({"fruit": "paer"})"),
             Equals(R"(a.json: fruit: found "paer" (text), expected one of apple, pear; did you mean pear?)"));
  CHECK_THAT(error_of(R"({"limit": 0})"), Contains("expected number > 0"));
  CHECK_THAT(error_of(R"({"split": [1, 2]})"), Contains("found [1,2] (list), expected list of 3 (number >= 0)"));
  CHECK_THAT(error_of(R"({"split": [1, -2, 3]})"),
             Equals("a.json: split[1]: found -2 (integer), expected number >= 0"));
  CHECK_THAT(error_of(R"({"inner": {"rate": 0}})"),
             Equals("a.json: inner.rate: found 0 (integer), expected number in (0, 1]"));
  CHECK_THAT(error_of(R"({"inner": 3})"), Equals("a.json: inner: found 3 (integer), expected a section { ... }"));
  CHECK_THAT(error_of("[]"), Contains("a.json: the file: found [] (list)"));
}

TEST_CASE("config: malformed JSON names the file and the line", "[train][fast][errors]") {
  CHECK_THAT(error_of("{\n\"count\": 5,\n}"), Contains("a.json: not valid JSON: parse error at line 3"));
  CHECK_THAT(error_of(""), Contains("a.json: not valid JSON"));
  CHECK_THAT(error_of(R"({"inner": {"rate": 1, "rate": 0.5}})"), Contains("key rate stands twice"));
  CHECK(error_of(R"({"count": 1, "inner": {}, "fast": true})") == "no error");
  CHECK_THAT(error_of(R"({"limit": NaN})"), Contains("not valid JSON"));
  CHECK_THAT(error_of(R"({"limit": 1e999})"), Contains("not valid JSON"));
  CHECK_THAT(error_of("{\"name\": \"\xff\"}"), Contains("not valid JSON"));
  CHECK_THAT(error_of(std::string(100000, '[')), Contains("not valid JSON"));
}

TEST_CASE("config: a failed reading changes nothing", "[train][fast]") {
  Sample sample;
  CHECK_THROWS_AS(read_config(sample, parse_config(R"({"count": 9, "fast": 3})", "a.json"), "a.json"), ConfigError);
  CHECK(sample.count == 3);
}

TEST_CASE("config: overrides from the command line", "[train][fast]") {
  Sample sample;
  set_config(sample, "count=12");
  set_config(sample, "fast=true");
  set_config(sample, "name=a=b");
  set_config(sample, "fruit=pear");
  set_config(sample, "limit=1e-3");
  set_config(sample, "inner.depths=1,2");
  set_config(sample, "fruits=pear,apple");
  CHECK(sample.count == 12);
  CHECK(sample.fast);
  CHECK(sample.name == "a=b");
  CHECK(sample.fruit == Fruit::pear);
  CHECK(sample.limit.value() == 1e-3);
  CHECK(sample.inner.depths == std::vector<Index>{1, 2});
  CHECK(sample.fruits == std::vector{Fruit::pear, Fruit::apple});
  set_config(sample, "inner.depths=[4]");
  set_config(sample, "limit=null");
  CHECK(sample.inner.depths == std::vector<Index>{4});
  CHECK(!sample.limit);
}

TEST_CASE("config: wrong overrides are refused", "[train][fast][errors]") {
  CHECK_THAT(set_error("count"), Equals("--set count: expected key=value"));
  CHECK_THAT(set_error("=3"), Contains("expected key=value"));
  CHECK_THAT(set_error("inner.rtae=1"), Equals("--set: inner.rtae: no such key; did you mean inner.rate?"));
  CHECK_THAT(set_error("inner={}"), Contains("is a section"));
  CHECK_THAT(set_error("count=many"), Equals(R"(--set: count: found "many" (text), expected integer >= 1)"));
  CHECK_THAT(set_error("fruit=plum"), Contains("expected one of apple, pear"));
  CHECK_THAT(set_error("inner.depths=1,x"), Contains(R"(inner.depths[0]: found "1" (text), expected integer)"));
  CHECK_THAT(set_error("inner.depths=1,0"), Contains("inner.depths[1]: found 0 (integer), expected integer >= 1"));
}

TEST_CASE("config: printing keeps the order, and reads back to the same values", "[train][fast]") {
  Sample sample;
  sample.limit = 2e-5;
  sample.name = "quote \" and \n line";
  const std::string text = config_text(sample);
  CHECK(text.find("\"count\"") < text.find("\"seed\""));
  CHECK(text.find("\"fruits\"") < text.find("\"inner\""));
  CHECK_THAT(text, Contains("\"depths\": [2, 2]"));
  Sample again;
  read_config(again, parse_config(text, "printed"), "printed");
  CHECK(config_text(again) == text);
  CHECK(config_difference(sample, again).empty());
  again.inner.rate = 0.25;
  CHECK(config_difference(sample, again) == std::vector<std::string>{"inner.rate: 0.5 against 0.25"});
}

TEST_CASE("config: files that cannot be read are file errors", "[train][fast][errors]") {
  CHECK_THROWS_WITH(load_config<Sample>("/no/such.json"), Contains("/no/such.json: no such file"));
  CHECK_THROWS_WITH(load_config<Sample>("/tmp"), Contains("/tmp: not a file"));
  CHECK(load_config<Sample>("", {"count=4"}).count == 4);
  CHECK_THROWS_WITH(load_config<Sample>("", {"inner.depths=[]"}), Equals("configuration: inner.depths: is empty"));
}

TEST_CASE("method config: defaults pass their own checks, and every key is documented once", "[train][fast]") {
  MethodConfig config;
  CHECK_NOTHROW(check_config(config, "defaults"));
  std::set<std::string> seen;
  for (const auto& s : settings(config)) {
    INFO(s.key);
    CHECK(seen.insert(s.key).second);
    CHECK(!s.doc.empty());
    if (!s.section) CHECK_NOTHROW(s.set(s.get(), {"default", s.key}));  // each default lies in its own range
  }
  const std::string description = describe_config(config);
  CHECK_THAT(description, Contains("pretrain.mpot.epsilon") && Contains("number > 0"));
  CHECK_THAT(description, Contains(R"(["coronal","sagittal","axial"]  planes that)"));  // long values are not cut
}

TEST_CASE("method config: fields that contradict each other are refused", "[train][fast][errors]") {
  const auto error = [](std::vector<std::string> overrides) {
    try {
      load_config<MethodConfig>("", overrides);
    } catch (const ConfigError& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  CHECK(error({}) == "no error");
  CHECK_THAT(error({"network.depths=2,2"}), Contains("network.heads: has 4 stages, depths has 2"));
  CHECK_THAT(error({"network.embedding=100"}), Contains("stage 0 has 100 channels, which 3 heads do not divide"));
  CHECK_THAT(error({"network.image_size=16"}), Contains("expected at least 32"));
  CHECK_THAT(error({"network.backbone=unet"}), Contains("did you mean unetr?"));
  CHECK_THAT(error({"network.backbone=unetr", "network.image_size=40"}),
             Contains("network.image_size: is 40, expected a multiple of 16"));
  CHECK_THAT(error({"network.backbone=unetr", "network.drop_path=0.1"}),
             Contains("network.drop_path: is 0.1, but UNETR"));
  CHECK_THAT(error({"network.backbone=unetr", "segmentation.deep_supervision=true"}),
             Contains("segmentation.deep_supervision: is true, but network.backbone is unetr"));
  CHECK_THAT(error({"network.unetr.heads=5"}), Contains("network.unetr.heads: is 5, which does not divide hidden 768"));
  CHECK_THAT(error({"network.unetr.layers=6"}), Contains("network.unetr.layers: is 6, expected a multiple of 4"));
  CHECK_NOTHROW(load_config<MethodConfig>("", {"network.backbone=unetr", "network.image_size=16"}));
  CHECK_THAT(error({"psat.heads=7"}), Contains("psat.heads"));
  CHECK_THAT(error({"pretrain.batch_size=1"}), Contains("at least 2"));
  CHECK_THAT(error({"pretrain.mpot.gradient=unrolled"}), Contains("dykstra"));
  CHECK_THAT(error({"pretrain.alignment=none", "pretrain.reconstruction.kind=none"}),
             Contains("nothing would be learned"));
  CHECK_THAT(error({"clip.patch=50"}), Contains("clip.patch"));
  CHECK_THAT(error({"data.low_percentile=99", "data.high_percentile=1"}), Contains("data.low_percentile"));
}

TEST_CASE("method config: the shipped files load, and paper.json names every key", "[train][fast]") {
  const auto folder = std::filesystem::path(__FILE__).parent_path().parent_path().parent_path() / "configs";
  for (const char* name : {"paper.json", "demo.json", "small.json", "real.json", "patch.json", "unetr.json"}) {
    INFO(name);
    CHECK_NOTHROW(load_config<MethodConfig>((folder / name).string()));
  }
  const std::string paper = (folder / "paper.json").string();
  const auto config = load_config<MethodConfig>(paper);
  CHECK(detail::read_config_file(paper, 1 << 20) == config_text(config));  // complete, and in the printed form
  CHECK(config.network.embedding == 96);
  CHECK(config.network.windows == std::vector<Index>{4, 4, 8, 4});
  CHECK(config.psat.queries == 300);
  CHECK(config.psat.width == 512);
  CHECK(config.pretrain.optimizer.kind == choice::Optimizer::adam);
  CHECK(config.pretrain.optimizer.learning_rate == 2e-5);
  CHECK(config.pretrain.epochs == 300);
  CHECK(config.pretrain.batch_size == 4);
  CHECK(config.network.image_size == 128);
  CHECK(config.data.split == std::array<double, 3>{7, 1, 2});
}

TEST_CASE("method config: augmentation is a preset and what differs from it", "[train][fast]") {
  const auto augment = [](const std::vector<std::string>& changes) {
    std::vector<std::string> all;
    for (const std::string& c : changes) all.push_back("segmentation.training.augment." + c);
    return load_config<MethodConfig>("", all).segmentation.training.augment.options(3);
  };
  const AugmentOptions light = augment({});
  CHECK((light.scale == 0.1 && light.shift == 0.05 && light.noise == 0.02 && light.flip[0] == 0 && light.seed == 3));
  const AugmentOptions own = augment({"preset=nnunet", "flip=0,0.5,0", "rotate=0.3,-10,10", "gamma=null"});
  CHECK(own.flip == std::array<double, 3>{0, 0.5, 0});
  CHECK((own.rotate.probability == 0.3 && own.rotate.high == 10 && own.zoom.probability == 0.2));
  CHECK((own.gamma.probability == 0.3 && own.scale == 0));
  CHECK_THROWS_WITH(augment({"zoom=0.5,2,1"}),
                    Contains("segmentation.training.augment") && Contains("zoom from 2 to 1"));
}
