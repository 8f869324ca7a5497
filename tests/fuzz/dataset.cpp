// Files that describe data sets: the input is taken as dataset.json (all dialects), classes.json or split.json, by its
// keys.
#include "harness.hpp"
#include "m3i/data/split.hpp"
#include "m3i/data/subjects.hpp"

namespace {

using namespace m3i;

/// The folder that nnU-Net's dialect looks into.
struct Folder : fuzz::Scratch {
  Folder() {
    for (const char* name : {"imagesTr", "labelsTr"}) std::filesystem::create_directory(path(name));
    for (const char* name : {"imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "imagesTr/._a.nii.gz"})
      fuzz::ScratchFile(path(name));
  }
};

void read_dataset(const std::string& path, bool choose) {
  FindOptions options;
  if (choose) options.channel = 0;
  const SubjectList list = find_subjects(path, options);
  for (const SubjectEntry& e : list.entries)
    if (e.subject.empty() || e.image.empty()) fuzz::finding("an entry without subject or image");
}

void read_classes(const std::string& path) {
  SubjectList list;
  for (const char* name : {"a", "b"}) {
    list.entries.emplace_back();
    list.entries.back().subject = name;
    list.entries.back().image = std::string(name) + ".nii";
  }
  detail::read_classes_json(path, list);
}

void read_split_file(const std::string& path) {
  const Split split = read_split(path);
  if (split.train.empty()) fuzz::finding("a split without training subjects");
  check_split(split, {"a", "b"}, path);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Folder folder;
  static fuzz::ScratchFile file(folder.path("list.json"));
  file.set(data, size);
  fuzz::examine(size, [&] {
    const Json json = read_json(file.path());
    const auto has = [&](const char* key) { return json.is_object() && json.contains(key); };
    if (has("train") || has("hash")) read_split_file(file.path());
    else if (has("training") || has("labels") || has("dataset") || has("file_ending") || has("channel_names"))
      read_dataset(file.path(), size % 2 == 0);
    else read_classes(file.path());
  });
  return 0;
}
