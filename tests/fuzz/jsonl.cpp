// triplets.jsonl: the input is the file. What is accepted must be written and read back unchanged.
#include "harness.hpp"
#include "m3i/data/triplets.hpp"

namespace {

using namespace m3i;

void read(const std::string& path, const std::string& copy) {
  const auto triplets = read_triplets(path);
  if (triplets.size() > 8) return;  // enough; writing flushes to the disk
  write_triplets(copy, triplets);
  const auto again = read_triplets(copy);
  if (again.size() != triplets.size()) fuzz::finding("triplets were lost");
  for (std::size_t i = 0; i < again.size(); ++i) {
    const Triplet &a = triplets[i], &b = again[i];
    if (a.id != b.id || a.subject != b.subject || a.volume != b.volume || a.plane != b.plane || a.slice != b.slice ||
        a.slices != b.slices || a.caption != b.caption || a.picture != b.picture || a.wrong != b.wrong ||
        a.window_low != b.window_low || a.bin() != b.bin() || a.origin.has_value() != b.origin.has_value() ||
        (a.origin && detail::json_of(*a.origin) != detail::json_of(*b.origin)))
      fuzz::finding("triplet " + a.id + " changed on its way");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static fuzz::Scratch scratch;
  static fuzz::ScratchFile file(scratch.path("triplets.jsonl"));
  file.set(data, size);
  fuzz::examine(size, [&] { read(file.path(), scratch.path("copy.jsonl")); });
  return 0;
}
