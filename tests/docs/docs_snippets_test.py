"""docs_snippets.py puts blocks in, and finds what differs, what is missing and what nobody compiles."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "docs_snippets.py"
SOURCE = """#include <cstdio>

/// Says hello.
static void hello(int times) {
  // [loop]
  for (int i = 0; i < times; ++i)
    std::puts("hello");
  // [loop]
}
"""


class DocsSnippets(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.folder.name)
        (self.root / "hello.cpp").write_text(SOURCE)
        program = self.root / "hello"
        program.write_text("#!/bin/sh\necho value 1.000\necho done\n")
        program.chmod(0o755)

    def tearDown(self):
        self.folder.cleanup()

    def run_on(self, page, *options):
        (self.root / "README.md").write_text(page)
        done = subprocess.run([sys.executable, SCRIPT, "--root", self.root, *options], capture_output=True, text=True,
                              check=False)
        return done.returncode, done.stderr, (self.root / "README.md").read_text()

    def test_a_marked_part_is_put_in_without_its_indentation(self):
        _, _, page = self.run_on("<!-- snippet: hello.cpp [loop] -->\n```cpp\n```\n")
        self.assertIn('```cpp\nfor (int i = 0; i < times; ++i)\n  std::puts("hello");\n```', page)
        self.assertEqual(self.run_on(page, "--check")[0], 0)

    def test_a_function_comes_with_its_comment_and_without_markers_of_others(self):
        _, _, page = self.run_on("<!-- snippet: hello.cpp hello() -->\n```cpp\n```\n")
        self.assertIn("```cpp\n/// Says hello.\nstatic void hello(int times) {", page)

    def test_a_changed_block_is_found(self):
        code, message, _ = self.run_on("<!-- snippet: hello.cpp [loop] -->\n```cpp\nfor (;;)\n```\n", "--check")
        self.assertEqual(code, 1)
        self.assertIn("README.md:2: differs from snippet hello.cpp [loop]", message)

    def test_code_that_nobody_compiles_is_found(self):
        code, message, _ = self.run_on("```cpp\nint x;\n```\n", "--check")
        self.assertEqual(code, 1)
        self.assertIn("README.md:1: C++ that nobody compiles", message)

    def test_missing_markers_files_and_functions_are_named(self):
        for what, complaint in [("hello.cpp [other]", "0 lines '// [other]'"), ("none.cpp", "no such file"),
                                ("hello.cpp bye()", "no function or struct bye")]:
            code, message, _ = self.run_on(f"<!-- snippet: {what} -->\n```cpp\n```\n", "--check")
            self.assertEqual(code, 1)
            self.assertIn(complaint, message)

    def test_output_may_differ_by_rounding_only(self):
        page = "<!-- output: hello 1-1 -->\n```text\nvalue {}\n```\n"
        for value, code in [("1.000", 0), ("1.004", 0), ("1.1", 1)]:
            self.assertEqual(self.run_on(page.format(value), "--check", "--programs", self.root)[0], code)
        self.assertEqual(self.run_on(page.format("7"), "--check")[0], 0)  # no programs, no comparison


if __name__ == "__main__":
    unittest.main()
