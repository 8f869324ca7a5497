#include "m3i/core/tensor.hpp"

#include <numeric>

#include "catch.hpp"

using namespace m3i;

namespace {
Tensor<int> counting(const Shape& shape) {
  Tensor<int> t(shape);
  std::iota(t.span().begin(), t.span().end(), 0);
  return t;
}
}  // namespace

TEST_CASE("tensor: values come in and go out in row-major order", "[core]") {
  const auto t = Tensor<float>::from({1, 2, 3, 4, 5, 6}, {2, 3});
  CHECK(t.shape() == Shape{2, 3});
  CHECK(t.bytes() == 24);
  CHECK(t.to_vector() == std::vector<float>{1, 2, 3, 4, 5, 6});
  CHECK(Tensor<float>::full({3}, 7).to_vector() == std::vector<float>(3, 7.0f));
  CHECK(Tensor<double>::zeros({2, 2}).to_vector() == std::vector<double>(4, 0.0));
  CHECK(Tensor<double>::scalar(2.5).item() == 2.5);
  CHECK(Tensor<double>::scalar(2.5).rank() == 0);
}

TEST_CASE("tensor: copies share memory, clones do not", "[core]") {
  const Tensor<int> a = counting({4}), b = a, c = a.clone();
  b.data()[0] = 9;
  CHECK(a.data()[0] == 9);
  CHECK(c.data()[0] == 0);
  CHECK(a.shares_memory_with(b));
  CHECK_FALSE(a.shares_memory_with(c));
  CHECK(a.to(Device::cpu()).shares_memory_with(a));
  CHECK_FALSE(a.to(Device::emulated()).shares_memory_with(a));
  CHECK(a.to(Device::emulated()).device() == Device::emulated());
}

TEST_CASE("tensor: reshape and slices of the leading axis are views", "[core]") {
  const Tensor<int> t = counting({4, 3, 2});
  const Tensor<int> row = t[2];
  CHECK(row.shape() == Shape{3, 2});
  CHECK(row.to_vector() == std::vector<int>{12, 13, 14, 15, 16, 17});
  CHECK(row[1].to_vector() == std::vector<int>{14, 15});
  CHECK(row[1][1].item() == 15);
  CHECK(t.slice(1, 3).to_vector().front() == 6);
  CHECK(t.slice(1, 3).slice(1, 2).to_vector() == row.to_vector());
  CHECK(t.slice(1, 3).reshape({12})[11].item() == 17);
  CHECK(t.slice(4, 4).size() == 0);
  row.data()[0] = -1;
  CHECK(t.to_vector()[12] == -1);
  Tensor<int>::full({3, 2}, 5).clone();
  t[0].copy_from(Tensor<int>::full({3, 2}, 5));
  t[1].zero();
  CHECK(t.slice(0, 2).to_vector() == std::vector<int>{5, 5, 5, 5, 5, 5, 0, 0, 0, 0, 0, 0});
  CHECK(t[3].to_vector().front() == 18);
}

TEST_CASE("tensor: an empty tensor and an undefined one are both harmless", "[core]") {
  const Tensor<float> undefined;
  CHECK_FALSE(undefined.defined());
  CHECK(undefined.size() == 0);
  CHECK(undefined.data() == nullptr);
  CHECK(undefined.to_vector().empty());
  const Tensor<float> empty({3, 0});
  CHECK(empty.defined());
  CHECK(empty.size() == 0);
  empty.zero();
  CHECK(empty.clone().shape() == Shape{3, 0});
  CHECK(empty.reshape({0, 7}).size() == 0);
  CHECK(empty[2].shape() == Shape{0});
}

TEST_CASE("tensor: a view keeps the memory alive", "[core]") {
  Tensor<int> view;
  {
    const Tensor<int> t = counting({3, 1000});
    view = t[2];
  }
  const Tensor<int> other = Tensor<int>::zeros({3, 1000});
  CHECK(view.to_vector().front() == 2000);
}

TEST_CASE("tensor: wrong counts, shapes and positions are refused with both sides named", "[core][errors]") {
  const Tensor<int> t = counting({4, 3});
  CHECK_THROWS_WITH(Tensor<float>::from({1, 2}, {3}), Catch::Contains("2 values for shape [3]"));
  CHECK_THROWS_WITH(t.reshape({5, 3}), Catch::Contains("[4, 3] has 12") && Catch::Contains("[5, 3] has 15"));
  CHECK_THROWS_WITH(t.slice(2, 5), Catch::Contains("slice: [2, 5) of [4, 3]"));
  CHECK_THROWS_AS(t.slice(-1, 2), ShapeError);
  CHECK_THROWS_AS(t.slice(3, 2), ShapeError);
  CHECK_THROWS_AS(t[4], ShapeError);
  CHECK_THROWS_AS(Tensor<int>::scalar(1)[0], ShapeError);
  CHECK_THROWS_WITH(t.item(), Catch::Contains("one element") && Catch::Contains("[4, 3]"));
  CHECK_THROWS_WITH(t.copy_from(counting({3, 4})), Catch::Contains("[3, 4] into [4, 3]"));
}
