#pragma once
/// Catch2 v2 (Debian 12, Ubuntu 22.04) and v3 with the names of v2.
#if __has_include(<catch2/catch.hpp>)
#include <catch2/catch.hpp>
#else
#include <string>

#include <catch2/catch_all.hpp>

namespace Catch {
using namespace Matchers;
inline auto Contains(const std::string& part) { return Matchers::ContainsSubstring(part); }
}  // namespace Catch
using Catch::Approx;
#endif
