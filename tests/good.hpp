#pragma once
// The bounds that an operation's report has to keep, of operations that round about once.

#include "catch.hpp"

#include "m3i/testing.hpp"

inline void good(const m3i::testing::OpReport& report,
                 double single = 1e-5,
                 double emulated = 1e-13,
                 double cuda = 1e-12) {
  INFO(report.text());
  CHECK(report.gradient < 1e-6);
  CHECK(report.single < single);
  CHECK(report.emulated < emulated);
  CHECK(report.cuda < cuda);
  CHECK(report.f16 < 3e-3);
  CHECK(report.bf16 < 2e-2);
}
