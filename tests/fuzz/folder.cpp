// Gives every file of the named folders to a fuzz target: the inputs that once were findings stay tests. A relative
// folder that does not exist is looked for among the reference data ($M3I_GOLDENS), and passed over without those.
#include <algorithm>
#include <fstream>
#include <iterator>
#include <vector>

#include "harness.hpp"

namespace {

namespace fs = std::filesystem;

fs::path reference_folder() {
  if (const char* given = std::getenv("M3I_GOLDENS"); given && *given) return given;
#ifdef M3I_GOLDENS_DEFAULT
  return M3I_GOLDENS_DEFAULT;
#else
  return {};
#endif
}

std::size_t run_folder(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& item : fs::recursive_directory_iterator(folder))
    if (item.is_regular_file()) files.push_back(item.path());
  std::sort(files.begin(), files.end());
  for (const fs::path& path : files) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    std::printf("%s\n", path.c_str());
    std::fflush(stdout);  // the last line names the culprit
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  }
  return files.size();
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t files = 0;
  for (int i = 1; i < argc; ++i) {
    fs::path folder = argv[i];
    if (!fs::exists(folder) && folder.is_relative()) folder = reference_folder() / folder;
    if (fs::is_directory(folder)) files += run_folder(folder);
    else std::printf("skipped: no folder %s\n", folder.c_str());
  }
  std::printf("%zu files\n", files);
  return 0;
}
