#!/usr/bin/env python3
"""The include check must find each kind of mistake that it is there for."""
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import check_includes  # noqa: E402

# Header -> its include lines; what the check must say of it, or None.
CASES = {
    "core/good.hpp": (["<vector>"], None),
    "core/upward.hpp": (['"m3i/ops/good.hpp"'], "core stands on"),
    "core/umbrella.hpp": (['"m3i/ops.hpp"'], "core stands on"),
    "core/missing.hpp": (['"m3i/core/nothing.hpp"'], "does not exist"),
    "core/angle.hpp": (["<m3i/core/good.hpp>"], "own headers"),
    "core/quoted.hpp": (['"good.hpp"'], "third-party headers"),
    "core/streams.hpp": (["<iostream>"], "allowed only in"),
    "ops/good.hpp": (['"m3i/core/good.hpp"'], None),
    "ops/eigen.hpp": (["<Eigen/Core>"], "allowed only in"),
    "nn/json.hpp": (["<nlohmann/json.hpp>"], "allowed only in"),
    "text/regex.hpp": (["<regex>"], "allowed only in"),
    "ot/sideways.hpp": (['"m3i/nn/json.hpp"'], "ot stands on"),
    "nn/a.hpp": (['"m3i/nn/b.hpp"'], None),
    "nn/b.hpp": (['"m3i/nn/a.hpp"'], None),
    "stray/new.hpp": ([], "not in the include rule"),
}


def main():
    with tempfile.TemporaryDirectory() as root:
        for name, (lines, _) in CASES.items():
            path = pathlib.Path(root) / "include/m3i" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("#pragma once\n" + "".join(f"#include {line}\n" for line in lines))
        (pathlib.Path(root) / "include/m3i/ops.hpp").write_text('#pragma once\n#include "m3i/ops/good.hpp"\n')
        found = list(check_includes.breaches(root))
    failed = 0
    for name, (_, expected) in CASES.items():
        said = [line for line in found if line.startswith(f"m3i/{name}:")]
        if (not said) != (expected is None) or (expected and not any(expected in line for line in said)):
            print(f"{name}: expected {expected!r}, got {said}")
            failed += 1
    if not any(line.startswith("cycle: m3i/nn/a.hpp -> m3i/nn/b.hpp") for line in found):
        print("the cycle of nn/a.hpp and nn/b.hpp was not found")
        failed += 1
    print(f"{len(CASES) + 1 - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
