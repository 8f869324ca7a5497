#include "m3i/core/operation.hpp"
#include "../catch.hpp"
#include "m3i/autodiff/checkpoint.hpp"
#include "m3i/ops/loss.hpp"
#include "m3i/ops/norm.hpp"
#include "m3i/testing.hpp"

using namespace m3i;

namespace {
/// The message of the error that f ends in when `bytes` more are allowed than are held now.
template <class F>
std::string message_with(Index bytes, const F& f) {
  memory_release_cached();
  memory_set_limit(memory_stats().live + bytes);
  std::string message = "no error";
  try {
    f();
  } catch (const DeviceError& error) {
    message = error.what();
  }
  memory_set_limit(0);
  CHECK(Operation::innermost() == nullptr);  // whatever was thrown
  return message;
}
}  // namespace

TEST_CASE("operations: out of memory names the operation, its shapes, and who holds the memory", "[autodiff][errors]") {
  const Var<float> x(testing::wave<float>({1 << 18}), true);  // 1 MiB
  using Catch::Contains;
  using Catch::StartsWith;
  CHECK_THAT(message_with(100, [&] { square(x); }), StartsWith("square of [262144]: memory: 1 MiB more on cpu exceed"));
  CHECK_THAT(message_with(2 << 20, [&] { mse_loss(x, x * 2.0); }),
             StartsWith("mse_loss of [262144], [262144]: square of [262144]: memory: 1 MiB more") &&
                 Contains("affine (1 block, 1024 KiB)") && Contains("subtract (1 block, 1024 KiB)"));
}

TEST_CASE("operations: out of memory in a gradient says so", "[autodiff][errors]") {
  const Var<float> x(testing::wave<float>({1 << 18}), true);
  const auto y = layer_norm(x);
  const auto dy = testing::wave<float>(y.shape());
  CHECK_THAT(message_with(1500 << 10, [&] { backward(y, dy); }),  // a copy of dy fits, x's gradient does not
             Catch::StartsWith("gradient of layer_norm to [262144]: memory: 1 MiB more"));

  const auto twice = [](const Var<float>& v) { return square(v); };
  const auto z = checkpoint(twice, x);
  CHECK_THAT(message_with(1500 << 10, [&] { backward(z, dy); }),  // computed again
             Catch::StartsWith("gradient of checkpoint to [262144]: square of [262144]: memory: 1 MiB more"));
}

TEST_CASE("operations: the outermost are noted for whoever asks", "[autodiff]") {
  std::vector<const char*> names;
  Operation::witness() = &names;
  const Var<float> x(testing::wave<float>({3, 4}), true);
  const auto total = sum(l2_normalize(x));
  backward(total + mse_loss(x, x));
  Operation::witness() = nullptr;
  square(x);
  CHECK(std::vector<std::string>(names.begin(), names.end()) ==
        std::vector<std::string>{"l2_normalize", "sum", "mse_loss", "add"});
}
