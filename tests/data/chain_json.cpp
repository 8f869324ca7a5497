#include "m3i/data/chain_json.hpp"

#include "catch.hpp"
#include "m3i/core/random.hpp"
#include "m3i/imaging/chain.hpp"

using namespace m3i;
using Catch::Contains;

namespace {

const TransformChain everything{{steps::Orient{"PIR"}, steps::Spacing{{0.1 + 0.2, 1. / 3, 7}, Sampling::cubic, true},
                                 steps::CropForeground{-0.25, 3.5}, steps::Resize{{9, 8, 7}, Sampling::nearest},
                                 steps::PadToAtLeast{{10, 11, 12}, -1}, steps::PadToCube{1e-300},
                                 steps::Clip{-1000, 3000}, steps::Window{40, 1e-3}, steps::Ct{"lung"}, steps::Minmax{},
                                 steps::Percentile{0.1, 99.9}, steps::Zscore{true}, steps::FitCube{16}}};

}  // namespace

TEST_CASE("chain json: every step comes back to the bit, and does the same", "[data][fast]") {
  const std::string json = chain_json(everything);
  CHECK(parse_chain(json) == everything);
  CHECK(chain_json(parse_chain(json)) == json);
  CHECK(everything.steps.size() == std::variant_size_v<TransformStep>);
  CHECK(chain_json({{steps::Orient{}, steps::Window{40, 400}}}) ==
        R"([{"step":"orient","codes":"RAS"},{"step":"window","center":40.0,"width":400.0}])");
  CHECK(parse_chain("[]") == TransformChain{});

  Random random(1);
  const Volume<float> v{normal_tensor<float>({6, 5, 8}, random), Affine::scaling({1, 1.5, 3}), nullptr};
  const auto a = apply(everything, v), b = apply(parse_chain(json), v);
  CHECK(a.volume.voxels.to_vector() == b.volume.voxels.to_vector());
  CHECK(a.volume.affine == b.volume.affine);
}

TEST_CASE("chain json: fields that are not there keep their defaults", "[data][fast]") {
  CHECK(parse_chain(R"([{"step": "zscore"}, {"step": "resize", "size": [4, 5, 6]}])") ==
        TransformChain{{steps::Zscore{}, steps::Resize{{4, 5, 6}}}});
}

TEST_CASE("chain json: what is wrong is named by step and field", "[data][fast][errors]") {
  const auto refused = [](const char* json, const char* words) {
    CHECK_THROWS_WITH(parse_chain(json, "m.safetensors"), Contains("m.safetensors") && Contains(words));
  };
  refused("[", "malformed JSON");
  refused("{}", "expected a list of steps");
  refused("[3]", "step 1: is 3");
  refused(R"([{"codes": "RAS"}])", "expected an object with \"step\"");
  refused(R"([{"step": "minmax"}, {"step": "spacin"}])", "step 2: no step \"spacin\"; did you mean spacing?");
  refused(R"([{"step": "something else"}])", "there are orient, spacing");
  refused(R"([{"step": "spacing", "mn": [1, 1, 1]}])", "step 1 (spacing): no field \"mn\"; did you mean mm?");
  refused(R"([{"step": "minmax", "low": 1}])", "step 1 (minmax): no field \"low\"; it has none");
  refused(R"([{"step": "spacing", "mm": [1, 1]}])", "mm is [1,1], expected a list of 3 numbers");
  refused(R"([{"step": "spacing", "mm": [1, 1, "1"]}])", "mm is \"1\", expected a number");
  refused(R"([{"step": "spacing", "mm": [1, 1, 0]}])", "mm is 0, expected > 0");
  refused(R"([{"step": "spacing", "sampling": "spline"}])", "expected one of linear, nearest, cubic");
  refused(R"([{"step": "spacing", "antialias": 1}])", "antialias is 1, expected true or false");
  refused(R"([{"step": "resize", "size": [1, 2, 2.5]}])", "size is 2.5, expected a whole number");
  refused(R"([{"step": "resize", "size": [1, 2, 18446744073709551615]}])", "expected a whole number");
  refused(R"([{"step": "resize", "size": [1, 2, 70000]}])", "size is 70000, expected in [1, 65536]");
  refused(R"([{"step": "orient", "codes": 7}])", "codes is 7, expected text");
  refused(R"([{"step": "orient", "codes": "XYZ"}])", "step 1 (orient)");
  refused(R"([{"step": "ct", "preset": "knee"}])", "soft_tissue");
  refused(R"([{"step": "window", "width": 1, "width": 2}])", "appears twice");
}
