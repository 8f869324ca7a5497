#!/usr/bin/env python3
"""Keeps the code in README.md and docs/ equal to files that are compiled, and printed output to what programs print.

    docs_snippets.py                     puts the code blocks in
    docs_snippets.py --check             changes nothing; fails if a block differs from its source
    docs_snippets.py --programs DIR      does the same for output blocks, by running the programs of DIR (with --check:
                                         compares; numbers may differ by 1 %)

A block of code or output follows a comment that says where it comes from:

    <!-- snippet: examples/01_tensor.cpp -->                   the whole file
    <!-- snippet: examples/01_tensor.cpp [views] -->           what stands between two lines `// [views]`
    <!-- snippet: examples/pretrain.cpp training_step() -->    one function with its comment
    <!-- output: 01_tensor -->                                 all that the program prints
    <!-- output: 06_read_nifti 1-3 -->                         lines 1 to 3 of it

A C++ block without such a comment is an error: it would not be compiled.
"""

import argparse
import pathlib
import re
import shlex
import subprocess
import sys
import textwrap

DIRECTIVE = re.compile(r"<!-- (snippet|output): (.*) -->$")
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


class DocsError(Exception):
    """Something in the text or the source is wrong; the message says where."""


def between_markers(source, lines, name):
    """The lines between `// [name]` and the next `// [name]`, without common indentation and without other markers."""
    marks = [i for i, line in enumerate(lines) if line.strip() == f"// [{name}]"]
    if len(marks) != 2:
        raise DocsError(f"{source}: {len(marks)} lines '// [{name}]', expected 2")
    inner = [line for line in lines[marks[0] + 1 : marks[1]] if not re.fullmatch(r"\s*// \[\w+\]", line)]
    return textwrap.dedent("\n".join(inner)).strip("\n").split("\n")


def function_body(source, lines, name):
    """A function (or struct) that starts in column 0, with the comment above it, to the closing brace in column 0."""
    head = re.compile(rf"\S.*\b{re.escape(name)}\b")
    starts = [i for i, line in enumerate(lines)
              if head.match(line) and re.search(rf"\b{re.escape(name)}(\(|\s*\{{)", line) and not line.startswith("//")]
    for start in starts:
        end = start
        while end < len(lines) and not lines[end].rstrip().endswith((";", "{")):
            end += 1
        if end == len(lines) or lines[end].rstrip().endswith(";"):
            continue  # a declaration
        while end < len(lines) and not re.match(r"\};?$", lines[end]):
            end += 1
        first = start
        while first > 0 and lines[first - 1].startswith(("///", "template")):
            first -= 1
        return lines[first : end + 1]
    raise DocsError(f"{source}: no function or struct {name} that starts in column 0")


def snippet(root, what):
    """The lines that a snippet directive stands for."""
    path, _, part = what.partition(" ")
    source = root / path
    if not source.is_file():
        raise DocsError(f"{path}: no such file")
    lines = source.read_text().rstrip("\n").split("\n")
    if not part:
        return lines
    if match := re.fullmatch(r"\[(\w+)\]", part):
        return between_markers(path, lines, match[1])
    if match := re.fullmatch(r"(\w+)(\(\))?", part):
        return function_body(path, lines, match[1])
    raise DocsError(f"{path}: '{part}' is neither [marker] nor function()")


def output(programs, what):
    """What a program prints."""
    words = shlex.split(what)
    lines = None
    if match := re.fullmatch(r"(\d+)-(\d+)", words[-1]):
        lines, words = slice(int(match[1]) - 1, int(match[2])), words[:-1]
    program = programs / words[0]
    if not program.is_file():
        raise DocsError(f"{program}: no such program; build it first")
    run = subprocess.run([program, *words[1:]], capture_output=True, text=True, timeout=120, check=False)
    if run.returncode != 0:
        raise DocsError(f"{program}: exit code {run.returncode}: {run.stderr.strip()}")
    printed = [line.rstrip() for line in run.stdout.rstrip("\n").split("\n")]
    return printed[lines] if lines else printed


def alike(found, expected):
    """Equal texts, but for numbers that differ by at most 1 % (or 0.002: rounded fractions)."""
    if NUMBER.sub("#", found).split() != NUMBER.sub("#", expected).split():
        return False
    pairs = zip(map(float, NUMBER.findall(found)), map(float, NUMBER.findall(expected)))
    return all(abs(a - b) <= max(0.01 * max(abs(a), abs(b)), 0.002) for a, b in pairs)


def process(root, path, programs):
    """The text of a page with every block up to date, and a list of the blocks that were not."""
    lines = path.read_text().split("\n")
    out, stale, at, announced = [], [], 0, None
    name = path.relative_to(root)
    while at < len(lines):
        line = lines[at]
        if not line.startswith("```"):
            if announced and line.strip():
                raise DocsError(f"{name}:{at + 1}: a code block was expected after '{announced[0]}: {announced[1]}'")
            match = DIRECTIVE.match(line)
            announced = match.groups() if match else announced
            out.append(line)
            at += 1
            continue
        end = at + 1
        while end < len(lines) and lines[end] != "```":
            end += 1
        if end == len(lines):
            raise DocsError(f"{name}:{at + 1}: the code block has no end")
        block = lines[at + 1 : end]
        if announced is None and line == "```cpp":
            raise DocsError(f"{name}:{at + 1}: C++ that nobody compiles; put a '<!-- snippet: ... -->' above it")
        if announced:
            kind, what = announced
            if kind == "snippet":
                fresh = snippet(root, what)
                differs = block != fresh
            elif programs:
                fresh = output(programs, what)
                differs = not alike("\n".join(block), "\n".join(fresh))
            else:
                fresh, differs = block, False
            if differs:
                stale.append(f"{name}:{at + 1}: differs from {kind} {what}")
                block = fresh
        out += [line, *block, "```"]
        at, announced = end + 1, None
    return "\n".join(out), stale


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, fail if something differs")
    parser.add_argument("--programs", type=pathlib.Path, help="folder of the built programs, for output blocks")
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    options = parser.parse_args()
    root = options.root.resolve()
    pages = [p for p in [root / "README.md", *sorted((root / "docs").glob("*.md"))] if p.is_file()]
    stale = []
    try:
        for path in pages:
            fresh, differences = process(root, path, options.programs)
            stale += differences
            if differences and not options.check:
                path.write_text(fresh)
    except DocsError as error:
        print(f"docs: {error}", file=sys.stderr)
        return 1
    for difference in stale:
        print(f"docs: {difference}" if options.check else f"docs: renewed: {difference}", file=sys.stderr)
    if options.check and stale:
        suffix = f" --programs {options.programs}" if options.programs else ""
        print(f"docs: run scripts/docs_snippets.py{suffix} and look at what changed", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
