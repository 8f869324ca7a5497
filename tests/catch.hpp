#pragma once
/// Catch2 v2 (Debian 12) and v3 under one name.
#if __has_include(<catch2/catch.hpp>)
#include <catch2/catch.hpp>
#else
#include <catch2/catch_all.hpp>
using Catch::Approx;
#endif
