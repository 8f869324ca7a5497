#include "m3i/data/loader.hpp"

#include <atomic>
#include <chrono>
#include <set>

#include "catch.hpp"

using namespace m3i;

static LoaderOptions options(int threads, Index ahead = 4) {
  LoaderOptions o;
  o.threads = threads;
  o.ahead = ahead;
  o.seed = 5;
  return o;
}
static std::vector<Index> take(Loader<Index>& loader, Index n) {
  std::vector<Index> out;
  for (Index i = 0; i < n; ++i) out.push_back(loader.next().value);
  return out;
}
static Index uneven(const LoaderPlace& p) {  // some items take longer than others
  std::this_thread::sleep_for(std::chrono::microseconds(p.item % 3 * 200));
  return p.item + 1000 * p.epoch;
}

TEST_CASE("loader: the order is the same for any number of threads", "[fast]") {
  std::vector<Index> expected;
  for (const int threads : {0, 1, 2, 7}) {
    for (const Index ahead : {1, 3, 50}) {
      Loader<Index> loader(11, uneven, options(threads, ahead));
      const auto got = take(loader, 40);
      if (expected.empty()) expected = got;
      CAPTURE(threads, ahead);
      CHECK(got == expected);
    }
  }
}

TEST_CASE("loader: every epoch visits every item once, in an order of its own", "[fast]") {
  Loader<Index> loader(20, uneven, options(2));
  std::set<std::vector<Index>> orders;
  for (Index epoch = 0; epoch < 5; ++epoch) {
    std::vector<Index> order;
    for (Index i = 0; i < 20; ++i) {
      const auto loaded = loader.next();
      CHECK(loaded.place.epoch == epoch);
      CHECK(loaded.place.position == i);
      CHECK(loaded.value == loaded.place.item + 1000 * epoch);
      order.push_back(loaded.place.item);
    }
    CHECK(order == epoch_order(20, 5, epoch));
    orders.insert(order);
    std::sort(order.begin(), order.end());
    for (Index i = 0; i < 20; ++i) CHECK(order[std::size_t(i)] == i);
  }
  CHECK(orders.size() == 5);
}

TEST_CASE("loader: without shuffling the order is that of the data set", "[fast]") {
  auto o = options(2);
  o.shuffle = false;
  Loader<Index> loader(
      3, [](const LoaderPlace& p) { return p.item; }, o);
  CHECK(take(loader, 7) == std::vector<Index>{0, 1, 2, 0, 1, 2, 0});
}

TEST_CASE("loader: resumes where it was", "[fast]") {
  for (const Index stop : {0, 3, 11, 25}) {
    Loader<Index> whole(11, uneven, options(2));
    take(whole, stop);
    const LoaderPlace at = whole.next_place();
    auto o = options(3);
    o.epoch = at.epoch;
    o.position = at.position;
    Loader<Index> rest(11, uneven, o);
    CHECK(take(rest, 15) == take(whole, 15));
  }
}

TEST_CASE("loader: an error comes when its item is reached, names the file, and keeps coming", "[fast]") {
  for (const int threads : {0, 1, 4}) {
    auto o = options(threads, 8);
    o.shuffle = false;
    const auto load = [](const LoaderPlace& p) -> Index {
      if (p.item == 3) throw std::runtime_error("is damaged");
      if (p.item == 4) fail<NumericError>("a later error");
      return p.item;
    };
    Loader<Index> loader(9, load, o, [](Index i) { return text("case_", i, ".nii.gz"); });
    CHECK(take(loader, 3) == std::vector<Index>{0, 1, 2});
    CHECK_THROWS_WITH(loader.next(), "case_3.nii.gz: is damaged");
    CHECK_THROWS_AS(loader.next(), FileError);
    CHECK(loader.next_place().position == 3);
  }
}

TEST_CASE("loader: errors keep their type, and a name that is there already is not repeated", "[fast]") {
  const auto thrown = [](auto throwing) {
    Loader<int> loader(
        1,
        [throwing](const LoaderPlace&) -> int {
          throwing();
          return 0;
        },
        options(1), [](Index) { return std::string("a.nii"); });
    loader.next();
  };
  CHECK_THROWS_AS(thrown([] { fail<NumericError>("x"); }), NumericError);
  CHECK_THROWS_AS(thrown([] { fail<ShapeError>("x"); }), ShapeError);
  CHECK_THROWS_AS(thrown([] { fail<ConfigError>("x"); }), ConfigError);
  CHECK_THROWS_AS(thrown([] { fail<DeviceError>("x"); }), DeviceError);
  CHECK_THROWS_WITH(thrown([] { fail<FileError>("a.nii: is cut off"); }), "a.nii: is cut off");
  CHECK_THROWS_WITH(thrown([] { fail<ShapeError>("x"); }), "a.nii: x");
}

TEST_CASE("loader: no more items than asked for are in work, and the end does not wait for them all", "[fast]") {
  std::atomic<Index> started{0};
  {
    Loader<Index> loader(
        1000,
        [&](const LoaderPlace& p) {
          ++started;
          return p.item;
        },
        options(3, 5));
    loader.next();
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    CHECK(started <= 6);
  }
  const Index after = started;
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK(started == after);
}

TEST_CASE("loader: works with items that can only be moved, and when destroyed at once", "[fast]") {
  Loader<std::unique_ptr<int>> loader(
      3, [](const LoaderPlace&) { return std::make_unique<int>(4); }, options(2));
  CHECK(*loader.next().value == 4);
  for (int i = 0; i < 50; ++i) Loader<Index>(5, uneven, options(3));
}

TEST_CASE("loader: bad arguments are refused", "[fast]") {
  CHECK_THROWS_WITH(Loader<Index>(0, uneven), Catch::Contains("empty"));
  CHECK_THROWS_AS(Loader<Index>(5, uneven, options(-1)), ConfigError);
  CHECK_THROWS_AS(Loader<Index>(5, uneven, options(1, 0)), ConfigError);
  auto o = options(1);
  o.position = 5;
  CHECK_THROWS_WITH(Loader<Index>(5, uneven, o), Catch::Contains("position 5 of 5"));
  o.position = 0;
  o.epoch = -1;
  CHECK_THROWS_AS(Loader<Index>(5, uneven, o), ConfigError);
}

TEST_CASE("loader: parts of the batches together are the sequence of one process", "[fast]") {
  Loader<Index> whole(10, uneven, options(2));
  std::vector<std::unique_ptr<Loader<Index>>> parts;
  for (Index r = 0; r < 2; ++r) {
    auto o = options(2);
    o.shard = {4, 2 * r, 2};
    parts.push_back(std::make_unique<Loader<Index>>(10, uneven, o));
  }
  for (Index i = 0; i < 40; ++i) {
    const auto expected = whole.next(), got = parts[std::size_t(i % 4 / 2)]->next();
    CHECK(got.value == expected.value);
    CHECK(got.place.epoch == expected.place.epoch);
  }
  auto o = options(1);
  o.shard = {4, 2, 2}, o.position = 8;
  CHECK(Loader<Index>(10, uneven, o).next().place.epoch == 1);
  o.position = 6;
  CHECK_THROWS_WITH(Loader<Index>(10, uneven, o), Catch::Contains("between two batches"));
}
