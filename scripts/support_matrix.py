#!/usr/bin/env python3
"""Writes the table of operations in docs/gpu-operations.md from what the tests compared.

    support_matrix.py BUILD              runs the tests of ops, optim and ot in a build folder and writes the table
    support_matrix.py RECORD...          writes it from files that tests wrote, see include/m3i/testing_record.hpp
    support_matrix.py --check RECORD...  changes nothing; fails if an operation is not tested in every type on the host
                                         and the emulated device, with a comparison for CUDA that ran or said why not,
                                         or if the table names other operations or states

Operations are the functions that ops/*.hpp declares, and what optim/*.hpp and ot/*.hpp declare for any element type.
Digits may differ between machines, and so may whether a GPU was there; --check compares neither.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/gpu-operations.md"
BEGIN, END = "<!-- support matrix: begin -->", "<!-- support matrix: end -->"
FOLDERS = ("ops", "optim", "ot")

COLUMNS = [("host", "f64"), ("host", "f32")] + [(d, t) for d in ("emulated", "cuda") for t in ("f64", "f32", "bf16", "f16")]
OPERATORS = {"operator+": "add", "operator-": "subtract", "operator*": "multiply", "operator/": "divide"}
WITH_A_NUMBER = "affine"  # + - * / of a variable and a number, and its negative, are one operation

# Declared, and not an operation.
EXCEPTIONS = {
    "pointwise": "what relu and its kin are made with",
    "OptimizerState": "the base of Adam and Sgd",
    "parameter_states": "makes zeros",
    "state_tensors": "a list",
    "clear_gradients": "frees memory",
}


def lines_outside_of_detail(path):
    inside = False
    for line in path.read_text().splitlines():
        if re.match(r"namespace detail\b", line):
            inside = True
        if not inside:
            yield line
        if re.match(r"}\s*// namespace detail", line):
            inside = False


def declared():
    """Operation -> the header that declares it, in the order of the headers."""
    found = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / "include/m3i" / folder).glob("*.hpp")):
            before = ""
            for line in lines_outside_of_detail(path):
                name = None
                if folder == "ops":
                    if match := re.match(r"(?:std::vector<)?Var<\w+>>? (operator\S|\w+)\((.*)", line):
                        name, arguments = match.groups()
                        if name in OPERATORS:
                            two = arguments.count("const Var<") == 2
                            name = OPERATORS[name] if two else WITH_A_NUMBER
                elif match := re.match(r"class (\w+)", line):
                    name = match[1]
                elif before == "template <class T>" and (match := re.match(r"(?!struct|class|using)\w.*?\b(\w+)\(", line)):
                    name = match[1]
                if name and name not in EXCEPTIONS:
                    found.setdefault(name, f"{folder}/{path.name}")
                before = line
    return found


def read(records):
    """(operation, device, type) -> worst error, or why it was not run; and which operations had their gradients checked."""
    results, with_gradients = {}, set()
    for record in records:
        for line in pathlib.Path(record).read_text().splitlines():
            entry = json.loads(line)
            key = (entry["operation"], entry["device"], entry["dtype"])
            if "skipped" in entry:
                results.setdefault(key, entry["skipped"])
            elif not isinstance(results.get(key), float) or results[key] < entry["error"]:
                results[key] = float(entry["error"])
            if entry["compared"] == "value and gradients":
                with_gradients.add(entry["operation"])
    return results, with_gradients


def missing(operations, results, with_gradients):
    """What the tests do not show, in words."""
    for name, header in operations.items():
        if not any(key[0] == name for key in results):
            yield f"{name} ({header}): no test records it; check it with testing::check_op or its kin"
            continue
        if header.startswith("ops/") and name not in with_gradients:
            yield f"{name} ({header}): no test compares its gradients"
        small_only = name == "MixedPrecision"  # float weights and their copies in bf16 or half
        for device, dtype in COLUMNS:
            reference = (device, dtype) == ("host", "f64") and name not in with_gradients
            if not reference and not (small_only and dtype in ("f64", "f32")) and (name, device, dtype) not in results:
                yield f"{name} ({header}): not compared in {dtype} on {device}"
    for name in sorted({key[0] for key in results} - set(operations)):
        yield f"{name}: tests record it, and no header declares an operation of this name"


def cell(result):
    if result is None:
        return ""
    if isinstance(result, str):
        return "not run"
    if result == 0:
        return "0"
    mantissa, exponent = f"{result:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def render(operations, results):
    head = ["operation", "declared in"] + [f"{device} {dtype}" for device, dtype in COLUMNS]
    rows = [[f"`{name}`", header] + [cell(results.get((name, *column))) for column in COLUMNS]
            for name, header in operations.items()]
    reasons = sorted({r for r in results.values() if isinstance(r, str)})
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
    if reasons:
        lines += ["", "Not run: " + "; ".join(reasons) + "."]
    return lines


def states(lines):
    """Operation -> the states of its columns; digits are one state, and those of CUDA another one machine's affair."""
    table = {}
    for line in lines:
        if line.startswith("| `"):
            name, _, *cells = [c.strip() for c in line.strip("|").split("|")]
            table[name] = ["" if not c else "there" if device == "cuda" or c != "not run" else c
                           for c, (device, _) in zip(cells, COLUMNS)]
    return table


def check(committed, rendered):
    old, new = states(committed), states(rendered)
    for name in new.keys() - old.keys():
        yield f"{PAGE.name}: {name} is not in the table"
    for name in old.keys() - new.keys():
        yield f"{PAGE.name}: {name} is in the table, and is no operation any more"
    for name in old.keys() & new.keys():
        if old[name] != new[name]:
            yield f"{PAGE.name}: other columns of {name} are filled than the tests would fill"


def run_tests(build):
    folder = build / "test_record"
    folder.mkdir(exist_ok=True)
    for name in FOLDERS:
        programs = [p for p in build.rglob(f"test_{name}") if p.is_file() and os.access(p, os.X_OK)]
        if not programs:
            sys.exit(f"{build}: no program test_{name}; build it first")
        record = folder / f"{name}.jsonl"
        subprocess.run([programs[0], "~[.]~[slow]~[golden]"], check=True, env={**os.environ, "M3I_TEST_RECORD": str(record)})
        yield record


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("records", nargs="+", type=pathlib.Path)
    a = parser.parse_args()
    records = a.records
    if records[0].is_dir():
        records = list(run_tests(records[0]))
    operations = declared()
    results, with_gradients = read(records)
    problems = list(missing(operations, results, with_gradients))
    page = PAGE.read_text()
    before, rest = page.split(BEGIN + "\n")
    committed, after = rest.split(END)
    lines = render(operations, results)
    if a.check:
        problems += sorted(check(committed.splitlines(), lines))
    if problems:
        sys.exit("\n".join(problems + ["support_matrix.py: write the table anew with scripts/support_matrix.py BUILD"]))
    if not a.check:
        PAGE.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + after)
    print(f"{len(operations)} operations: {'the table names them all' if a.check else f'written to {PAGE.relative_to(ROOT)}'}")


if __name__ == "__main__":
    main()
