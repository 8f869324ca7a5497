#include "m3i/data/volume_cache.hpp"

#include <fstream>
#include <thread>

#include "catch.hpp"
#include "folder.hpp"

using namespace m3i;

static Tensor<float> ramp(float first, const Shape& shape = {4, 5, 6}) {
  Tensor<float> t(shape);
  for (auto& v : t.span()) v = first++;
  return t;
}
static std::shared_ptr<ByteBudget> budget(std::size_t bytes) { return std::make_shared<ByteBudget>(bytes); }

TEST_CASE("volume cache: what fits stays in memory, what does not is made again without a folder", "[fast]") {
  const auto bytes = budget(1000);  // two of 480
  {
    VolumeCache<float> cache(bytes);
    for (int round = 0; round < 3; ++round)
      for (int v = 0; v < 3; ++v)
        CHECK(cache.get(text(v), [&] { return ramp(float(v)); }).whole().to_vector() == ramp(float(v)).to_vector());
    CHECK(cache.made() == 2 + 3);
    CHECK(bytes->left() == 40);
    CHECK_THROWS_AS(cache.get("x", []() -> Tensor<float> { fail<FileError>("bad"); }), FileError);
    CHECK(cache.get("x", [] { return ramp(0); }).shape() == Shape{4, 5, 6});  // an error is not kept
  }
  CHECK(bytes->left() == 1000);
}

TEST_CASE("volume cache: beyond the budget volumes are mapped and read by crop, also by the next run", "[fast]") {
  TemporaryFolder f;
  for (int run = 0; run < 2; ++run) {
    VolumeCache<float> cache(budget(500), f / "cache");
    const auto one = cache.get("one", [] { return ramp(1); }), two = cache.get("two", [] { return ramp(2); });
    CHECK(cache.made() == (run == 0 ? 2 : 0));
    CHECK(one.in_memory());
    CHECK_FALSE(two.in_memory());
    CHECK(two.whole().to_vector() == ramp(2).to_vector());
    for (const auto& volume : {one, two}) {
      const float first = volume.whole().data()[0];
      CHECK(volume.crop({1, 2, 3}, {1, 2, 2}).to_vector() ==
            std::vector<float>{first + 45, first + 46, first + 51, first + 52});
      CHECK_THROWS_AS(volume.crop({1, 2, 3}, {1, 2, 4}), ShapeError);
      CHECK_THROWS_AS(volume.crop({-1, 0, 0}, {1, 1, 1}), ShapeError);
    }
  }
}

TEST_CASE("volume cache: damaged, cut, foreign and other keys' files are made again", "[fast]") {
  TemporaryFolder f;
  const std::string key = "image 5:0123 [chain]";
  const auto read = [&](Index made) {
    VolumeCache<float> cache(budget(0), f / "cache");
    CHECK(cache.get(key, [] { return ramp(7); }).whole().to_vector() == ramp(7).to_vector());
    CHECK(cache.made() == made);
    return cache.file_of(key);
  };
  const std::string path = read(1);
  read(0);
  const auto size = std::filesystem::file_size(path);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(std::streamoff(size) - 9);
    file.put('x');
  }
  read(1);
  std::filesystem::resize_file(path, size - 1);
  read(1);
  std::ofstream(path) << "not a tensor";
  read(1);
  {
    VolumeCache<std::uint8_t> other(budget(0), f / "cache");  // the same key, another type
    CHECK(other.get(key, [] { return Tensor<std::uint8_t>::zeros({2, 2, 2}); }).shape() == Shape{2, 2, 2});
    CHECK(other.made() == 1);
  }
  read(1);
  write_safetensors(path, {NamedArray("voxels", ramp(0))}, {{"key", "another"}, {"crc32", "0"}});
  read(1);
  CHECK_THROWS_WITH(VolumeCache<float>(budget(0), f.write("file", "") + "/x"), Catch::Contains("cannot be made"));
}

TEST_CASE("volume cache: threads that ask for one volume make it once", "[fast]") {
  VolumeCache<float> cache(budget(1 << 20));
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&] {
      for (int v = 0; v < 20; ++v)
        right += cache.get(text(v), [&] { return ramp(float(v)); }).whole().data()[3] == float(v + 3);
    });
  for (auto& t : threads) t.join();
  CHECK(right == 160);
  CHECK(cache.made() == 20);
}

TEST_CASE("volume cache: the content key follows the content, not the name", "[fast]") {
  TemporaryFolder f;
  CHECK(content_key(f.write("a", "hello")) == content_key(f.write("b", "hello")));
  CHECK(content_key(f / "a") != content_key(f.write("b", "hellO")));
  CHECK_THROWS_AS(content_key(f / "none"), FileError);
}
