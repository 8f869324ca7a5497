#include "m3i/core/error.hpp"

#include "catch.hpp"
#include "m3i/core/device.hpp"

using namespace m3i;

TEST_CASE("text joins strings, numbers, booleans and self-describing values", "[core]") {
  CHECK(text("got ", Shape{2, 3}, " of ", 3, " on ", Device::cuda(1)) == "got [2, 3] of 3 on cuda:1");
  CHECK(text(true, ' ', false) == "true false");
  CHECK(text(-7, ' ', 0.5, ' ', 1e-9, ' ', std::size_t(18446744073709551615u)) == "-7 0.5 1e-09 18446744073709551615");
  CHECK(text(std::string("a"), std::string_view("b"), "c") == "abc");
  CHECK(text().empty());
}

TEST_CASE("require throws the named error only when the check fails", "[core][errors]") {
  CHECK_NOTHROW(require(true, "never built"));
  CHECK_THROWS_AS(require(false, "x"), ShapeError);
  CHECK_THROWS_AS(require<FileError>(false, "x"), FileError);
  CHECK_THROWS_WITH(require<ConfigError>(1 > 2, "epochs: ", 0, ", expected at least ", 1),
                    "epochs: 0, expected at least 1");
}

TEST_CASE("every error is an m3i::Error and a std::runtime_error", "[core][errors]") {
  CHECK_THROWS_AS(fail<ShapeError>("x"), Error);
  CHECK_THROWS_AS(fail<FileError>("x"), Error);
  CHECK_THROWS_AS(fail<DeviceError>("x"), Error);
  CHECK_THROWS_AS(fail<ConfigError>("x"), Error);
  CHECK_THROWS_AS(fail<NumericError>("x"), std::runtime_error);
}

TEST_CASE("devices are read from their names and say their names", "[core]") {
  for (const char* name : {"cpu", "emulated", "cuda:0", "cuda:12"}) CHECK(Device::parse(name).text() == name);
  CHECK(Device::parse("cuda") == Device::cuda(0));
  CHECK(Device::emulated().on_host());
  CHECK_FALSE(Device::cuda().on_host());
}

TEST_CASE("a device name that is no device is refused by name", "[core][errors]") {
  for (const char* name : {"", "gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cuda:1234", "cuda0"}) {
    CAPTURE(name);
    CHECK_THROWS_WITH(Device::parse(name), Catch::Contains("device") && Catch::Contains(text('"', name, '"')));
  }
}
