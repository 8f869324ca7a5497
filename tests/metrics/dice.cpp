#include "m3i/metrics/dice.hpp"

#include "catch.hpp"
#include "m3i/core/random.hpp"

using namespace m3i;
using Labels = Tensor<std::uint8_t>;

static Labels random_labels(const Shape& shape, Index classes, std::uint64_t seed) {
  Random random(seed);
  Labels out(shape);
  for (auto& v : out.span()) v = std::uint8_t(random.below(classes));
  return out;
}

TEST_CASE("dice: the closed form on a small case", "[fast]") {
  const auto p = Labels::from({0, 1, 1, 2, 2, 2}, {6}), r = Labels::from({0, 1, 2, 2, 2, 0}, {6});
  const auto scores = dice_scores(p, r, 3, EmptyDice::nan);
  CHECK(scores.per_class == std::vector<double>{2.0 / 3, 4.0 / 6});
  CHECK(scores.counts[1].prediction == 2);
  CHECK(scores.counts[1].reference == 1);
  CHECK(scores.counts[1].both == 1);
  CHECK(scores.mean == Approx(2.0 / 3));
}

TEST_CASE("dice: an absent class follows the named policy", "[fast]") {
  const auto none = Labels::from({0, 0}, {2}), one = Labels::from({0, 1}, {2});
  CHECK(std::isnan(dice_scores(none, none, 2, EmptyDice::nan).mean));
  CHECK(std::isnan(dice_scores(one, none, 2, EmptyDice::nan).mean));
  CHECK(dice_scores(none, one, 2, EmptyDice::nan).mean == 0);
  CHECK(dice_scores(none, none, 2, EmptyDice::one).mean == 1);
  CHECK(dice_scores(one, none, 2, EmptyDice::one).mean == 0);
}

TEST_CASE("dice: symmetric, 1 against itself, equal for any number of threads", "[fast]") {
  const auto a = random_labels({70, 80, 90}, 5, 1), b = random_labels({70, 80, 90}, 5, 2);
  const auto ab = dice_scores(a, b, 5, EmptyDice::one), ba = dice_scores(b, a, 5, EmptyDice::one);
  CHECK(ab.per_class == ba.per_class);
  CHECK(dice_scores(a, a, 5, EmptyDice::one).mean == 1);
  const int threads = thread_count();
  set_thread_count(1);
  CHECK(dice_scores(a, b, 5, EmptyDice::one).per_class == ab.per_class);
  set_thread_count(threads);
  for (std::uint8_t label = 0; label < 5; ++label) {
    const auto counts = overlap_of_label(a, b, label);
    CHECK(counts.both == ab.counts[label].both);
    CHECK(counts.prediction == ab.counts[label].prediction);
    CHECK(counts.reference == ab.counts[label].reference);
  }
}

TEST_CASE("dice: bad input is refused with both sides named", "[fast]") {
  const auto p = Labels::from({0, 3}, {2}), r = Labels::from({0, 1}, {2});
  CHECK_THROWS_WITH(dice_scores(p, r, 3, EmptyDice::nan), Catch::Contains("label 3") && Catch::Contains("[0, 3)"));
  CHECK_THROWS_WITH(dice_scores(p, Labels::zeros({3}), 3, EmptyDice::nan),
                    Catch::Contains("[2]") && Catch::Contains("[3]"));
  CHECK_THROWS_AS(dice_scores(p, r, 1, EmptyDice::nan), ShapeError);
  CHECK_THROWS_AS(overlap_counts(p, r, 0), ShapeError);
  CHECK_THROWS_AS(overlap_of_label(p, Labels::zeros({3}), std::uint8_t(1)), ShapeError);
}

TEST_CASE("dice, iou: a policy for each way of being empty", "[fast]") {
  const OverlapCounts some{6, 4, 3}, both{0, 0, 0}, missed{0, 4, 0}, invented{6, 0, 0};
  CHECK(dice(some, EmptyPolicy()) == Approx(0.6));
  CHECK(iou(some, EmptyPolicy()) == Approx(3.0 / 7));
  for (const auto& c : {both, missed, invented}) {  // the two policies in use, in other words
    CHECK(dice(c, EmptyPolicy{EmptySurface::perfect, EmptySurface::zero, EmptySurface::zero}) ==
          dice(c, EmptyDice::one));
    const double skipped = dice(c, EmptyPolicy()), monai = dice(c, EmptyDice::nan);
    CHECK((skipped == monai || (std::isnan(skipped) && std::isnan(monai))));
  }
  CHECK(iou(both, EmptySurface::perfect) == 1);
  CHECK(iou(missed, EmptySurface::nan) == 0);
  CHECK(iou(missed, EmptySurface::diagonal) == 0);
  CHECK_THROWS_WITH(dice(both, EmptySurface::error), Catch::Contains("dice: both masks are empty"));
}
