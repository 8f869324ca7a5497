#include "m3i/io/state.hpp"

#include <numeric>

#include "catch.hpp"
#include "scratch.hpp"

using namespace m3i;

namespace {
Tensor<float> counting(const Shape& shape) {
  Tensor<float> t(shape);
  std::iota(t.data(), t.data() + t.size(), 0.f);
  return t;
}
/// A slot that stores what it is given.
StateSlot<float> slot(const std::string& name, const Shape& shape, Tensor<float>& to, Layout layout = Layout::same) {
  return {name, shape, layout, [&to](const Tensor<float>& t) { to = t; }};
}
}  // namespace

TEST_CASE("layout: the second axis goes last and comes back", "[io]") {
  const auto w = counting({2, 3, 2, 1, 4});
  const auto m = oidhw_to_odhwi(w);
  CHECK(m.shape() == Shape{2, 2, 1, 4, 3});
  for (Index o = 0; o < 2; ++o)
    for (Index i = 0; i < 3; ++i)
      for (Index s = 0; s < 8; ++s) REQUIRE(m.data()[(o * 8 + s) * 3 + i] == w.data()[(o * 3 + i) * 8 + s]);
  CHECK(odhwi_to_oidhw(m).to_vector() == w.to_vector());
  CHECK(odhwi_to_oidhw(m).shape() == w.shape());
  CHECK(second_axis_to_last(counting({4, 5})).shape() == Shape{4, 5});
  CHECK(second_axis_to_last(counting({4})).shape() == Shape{4});
  CHECK(second_axis_to_last(Shape{2, 3, 4}) == Shape{2, 4, 3});
  CHECK(last_axis_to_second(Shape{2, 4, 3}) == Shape{2, 3, 4});
  CHECK(last_axis_to_second(Shape{}) == Shape{});
  CHECK(last_axis_to_second(Shape{7}) == Shape{7});
}

TEST_CASE("state: slots are filled, foreign weights in m3i's layout", "[io]") {
  const Scratch scratch;
  write_safetensors(scratch / "a",
                    {{"net.conv", counting({2, 3, 1, 1, 2})}, {"net.bias", counting({2})}, {"other", counting({1})}});
  const SafeTensors file(scratch / "a");
  Tensor<float> conv, bias;
  const std::vector<StateSlot<float>> slots = {slot("conv", {2, 1, 1, 2, 3}, conv, Layout::channels_second),
                                               slot("bias", {2}, bias)};
  LoadOptions options;
  options.prefix = "net.";
  const LoadReport report = load_state(file, slots, options);
  CHECK(report.complete());
  CHECK(report.matched == std::vector<std::string>{"conv", "bias"});
  CHECK(conv.to_vector() == oidhw_to_odhwi(counting({2, 3, 1, 1, 2})).to_vector());
  CHECK(bias.to_vector() == std::vector<float>{0, 1});
}

TEST_CASE("state: strict loading names everything that differs and sets nothing", "[io][errors]") {
  const Scratch scratch;
  write_safetensors(scratch / "a", {{"same", counting({2})}, {"wide", counting({2, 5, 3})}, {"extra", counting({1})}});
  const SafeTensors file(scratch / "a");
  Tensor<float> same, wide, absent;
  const std::vector<StateSlot<float>> slots = {
      slot("same", {2}, same), slot("wide", {2, 3, 4}, wide, Layout::channels_second), slot("absent", {1}, absent)};
  CHECK_THROWS_WITH(load_state(file, slots),
                    Catch::Contains("1 matched, 1 missing, 1 unexpected, 1 of another shape") &&
                        Catch::Contains("missing: absent") && Catch::Contains("unexpected: extra") &&
                        Catch::Contains("wide is [2, 3, 5] in the file, the network has [2, 3, 4]"));
  CHECK_FALSE(same.defined());

  LoadOptions options;
  options.strict = false;
  options.ignore = {"ext"};
  const LoadReport report = load_state(file, slots, options);
  CHECK(report.unexpected.empty());
  CHECK(report.missing == std::vector<std::string>{"absent"});
  CHECK(same.to_vector() == std::vector<float>{0, 1});
  CHECK_FALSE(wide.defined());
}

TEST_CASE("state: names can be translated", "[io]") {
  const Scratch scratch;
  write_safetensors(scratch / "a", {{"visual.proj", counting({2})}});
  Tensor<float> value;
  LoadOptions options;
  options.rename = [](const std::string& name) { return "visual." + name; };
  CHECK(load_state<float>(SafeTensors(scratch / "a"), {slot("proj", {2}, value)}, options).complete());
  CHECK(value.defined());
}

TEST_CASE("state: a long report is cut and counts the rest", "[io]") {
  LoadReport report;
  for (int i = 0; i < 20; ++i) report.missing.push_back("w" + std::to_string(i));
  CHECK_THAT(report.text(), Catch::Contains("w7") && !Catch::Contains("w8") && Catch::Contains("and 12 more"));
}
