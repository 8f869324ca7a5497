#include "m3i/core/atomic_file.hpp"

#include "catch.hpp"
#include "scratch.hpp"

using namespace m3i;

TEST_CASE("atomic file: appears whole, replaces the old one, leaves nothing else", "[io]") {
  const Scratch scratch;
  const std::string path = scratch / "a.txt";
  write_file(path, "old");
  {
    AtomicFile file(path);
    file.write("new ");
    file.write("words");
    CHECK(file_bytes(path) == "old");
    file.commit();
    CHECK_THROWS_AS(file.write("more"), FileError);
    CHECK_THROWS_AS(file.commit(), FileError);
  }
  CHECK(file_bytes(path) == "new words");
  CHECK(scratch.files() == 1);
}

TEST_CASE("atomic file: without commit nothing remains", "[io]") {
  const Scratch scratch;
  { AtomicFile(scratch / "a.txt").write("half"); }
  CHECK(scratch.files() == 0);
}

TEST_CASE("atomic file: a failure at any call keeps the old file and names path and reason", "[io][errors]") {
  const Scratch scratch;
  const std::string path = scratch / "a.txt";
  int calls = 0;
  {
    const FailingCall count(0, 0);
    write_file(path, "old");
    calls = FailingCall::calls;
  }
  CHECK(calls == 5);  // open, write, fsync, rename, fsync_folder
  for (int n = 1; n <= calls; ++n) {
    write_file(path, "old");
    std::string message;
    {
      const FailingCall fail_here(n, ENOSPC);
      try {
        write_file(path, "new");
      } catch (const FileError& error) {
        message = error.what();
      }
    }
    CAPTURE(n, FailingCall::name);
    CHECK_THAT(message, Catch::Contains(path) && Catch::Contains("No space left on device"));
    CHECK(file_bytes(path) == (FailingCall::name == "fsync_folder" ? "new" : "old"));
    CHECK(scratch.files() == 1);
  }
}

TEST_CASE("atomic file: places that cannot be written are refused", "[io][errors]") {
  const Scratch scratch;
  CHECK_THROWS_WITH(write_file(scratch / "absent/a.txt", "x"), Catch::Contains("absent/a.txt"));
  CHECK_THROWS_AS(write_file("", "x"), FileError);
  CHECK_THROWS_AS(write_file(scratch / "", "x"), FileError);
  std::filesystem::create_directory(scratch.folder / "folder");
  CHECK_THROWS_WITH(write_file(scratch / "folder", "x"), Catch::Contains("rename"));
  CHECK(scratch.files() == 1);
}
