#pragma once
/// Who is in a data set, and which files belong to whom.

#include <optional>
#include <string>
#include <vector>

#include "m3i/core/shape.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// One image and what belongs to it. Paths are complete; empty means none.
struct SubjectEntry {
  std::string subject;  ///< several images may be of one subject
  std::string image, labels;
  std::optional<Index> class_label{};   ///< for classification
  std::string modality, body_part;      ///< as the data set says; empty: unknown
  std::string finding;                  ///< for captions
  int finding_label = 0;                ///< the structure that shows it
  std::vector<std::string> structures;  ///< names of this entry's labels, if they differ from the data set's
  std::vector<std::string> channels{};  ///< the files of an image of several channels; `image` is the chosen one
  std::string part{};                   ///< the list of dataset.json: "training", "validation", "test"; may be empty
  std::optional<Index> fold{};          ///< as the data set says
};

struct SubjectList {
  std::string folder;
  std::vector<SubjectEntry> entries;
  std::vector<std::string> structures;   ///< names of the labels, entry 0 the background; empty if unknown
  std::vector<std::string> classes;      ///< names of the classes; empty if unknown
  std::vector<std::string> left_out;     ///< files that were found but not taken, each with the reason
  std::vector<std::string> surprises{};  ///< where the description and the folder differ, in a line each
};

}  // namespace M3I_ABI
}  // namespace m3i
