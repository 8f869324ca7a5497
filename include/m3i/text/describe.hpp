#pragma once
/// The offline describer: captions of slices from known facts, in varied wording, and wrong on purpose when asked.
///
/// It stands in for a vision-language model: same length and kind of content as the published sample captions
/// (modality, plane, body part, visible structures, a closing remark), fewer than 100 words.

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "m3i/core/random.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// What is known about a slice. Empty means unknown, and is then left unsaid or called unspecified.
struct SliceFacts {
  std::string modality;                 ///< "CT", "T1-weighted MRI", ...
  std::string body_part;                ///< "head", "chest", "abdomen", ...
  std::string plane;                    ///< "coronal", "sagittal", "axial"
  std::vector<std::string> structures;  ///< visible ones, the largest first
  std::string finding;                  ///< "a liver lesion", if it is visible in this slice
  double position = -1;                 ///< of the slice in RAS order: 0 first, 1 last of its plane; below 0: unknown
  bool healthy = false;                 ///< known to be without any finding
};

struct DescriberOptions {
  double noise_rate = 0;  ///< share of captions in which one to three facts are made wrong
  std::uint64_t seed = 0;
};

/// A caption, and which facts in it were made wrong ("plane", "modality", "body part", "structures", "finding").
struct Description {
  std::string text;
  std::vector<std::string> wrong;
};

/// A 64-bit number of a text (FNV-1a), the same on every machine: to give each subject a random stream of its own.
inline std::uint64_t text_hash(std::string_view text) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return h;
}

/// Words separated by blanks.
inline Index count_words(std::string_view text) {
  Index words = 0;
  bool inside = false;
  for (const char c : text) {
    const bool blank = std::isspace(static_cast<unsigned char>(c)) != 0;
    words += !blank && !inside;
    inside = !blank;
  }
  return words;
}

namespace detail {

using Names = std::vector<std::string>;

inline const Names& known_modalities() {
  static const Names names{"CT", "T1-weighted MRI", "T2-weighted MRI", "FLAIR MRI", "MRI"};
  return names;
}
inline const Names& known_body_parts() {
  static const Names names{"head", "chest", "abdomen", "neck", "spine", "breast", "pelvis"};
  return names;
}

/// What may be said of a structure after its name.
inline const Names& remarks_on(const std::string& structure) {
  static const std::pair<std::string, Names> table[] = {
      {"skull", {"forming a closed ring around the brain", "enclosing the brain"}},
      {"grey matter", {"as a folded outer ribbon", "lining the gyri and sulci"}},
      {"white matter", {"beneath the cortex", "filling the inside of both hemispheres"}},
      {"ventricles", {"as paired fluid spaces near the midline", "in the middle of the brain"}},
      {"deep grey nuclei", {"on both sides of the midline", "next to the ventricles"}},
      {"cerebellum", {"in the posterior fossa", "below the occipital lobes"}},
      {"brainstem", {"running down towards the neck", "in front of the cerebellum"}},
      {"eyes", {"in the orbits", "at the front of the face"}},
      {"lungs", {"as large dark areas on either side", "filling most of the thoracic cavity"}},
      {"heart", {"near the centre of the chest", "between the lungs"}},
      {"aorta", {"in front of the spine", "as a round or tubular vessel"}},
      {"airways", {"as dark tubes in the midline", "branching into both lungs"}},
      {"spine", {"running vertically at the back", "in the midline"}},
      {"ribs", {"as curved lines along the chest wall", "around the thoracic cage"}},
      {"liver", {"as the largest solid organ", "on the patient's right side"}},
      {"spleen", {"on the patient's left side", "below the left lung"}},
      {"kidneys", {"on both sides of the spine", "behind the bowel"}},
      {"pancreas", {"crossing the midline", "behind the stomach"}},
      {"stomach", {"on the left under the diaphragm", "with some content inside"}}};
  static const Names none;
  for (const auto& [name, remarks] : table)
    if (name == structure) return remarks;
  return none;
}

/// Structures of a body part that a wrong caption may claim.
inline const Names& usual_structures(const std::string& body_part) {
  static const Names head{"skull", "grey matter", "white matter", "ventricles", "cerebellum", "brainstem", "eyes"};
  static const Names chest{"lungs", "heart", "aorta", "airways", "spine", "ribs"};
  static const Names abdomen{"liver", "spleen", "kidneys", "pancreas", "stomach", "aorta", "spine"};
  return body_part == "head" ? head : body_part == "chest" ? chest : abdomen;
}

inline const std::string& pick(Random& random, const Names& names) {
  return names[std::size_t(random.below(Index(names.size())))];
}
/// One of the names that is not `value`.
inline std::string other_than(Random& random, const Names& names, const std::string& value) {
  Names rest;
  for (const std::string& n : names)
    if (n != value) rest.push_back(n);
  return pick(random, rest);
}

/// Makes one to three of the stated facts wrong and returns their names.
inline Names corrupt(SliceFacts& facts, Random& random) {
  Names stated;
  if (!facts.plane.empty()) stated.push_back("plane");
  if (!facts.modality.empty()) stated.push_back("modality");
  if (!facts.body_part.empty()) stated.push_back("body part");
  if (!facts.structures.empty()) stated.push_back("structures");
  stated.push_back("finding");
  const Index many = std::min(Index(stated.size()), 1 + random.below(3));
  const auto order = random.permutation(Index(stated.size()));
  Names wrong;
  for (Index i = 0; i < many; ++i) wrong.push_back(stated[std::size_t(order[std::size_t(i)])]);
  std::sort(wrong.begin(), wrong.end());
  for (const std::string& what : wrong) {
    if (what == "plane") facts.plane = other_than(random, {"coronal", "sagittal", "axial"}, facts.plane);
    if (what == "modality") facts.modality = other_than(random, known_modalities(), facts.modality);
    if (what == "body part") facts.body_part = other_than(random, known_body_parts(), facts.body_part);
    if (what == "structures") {
      const std::string elsewhere = other_than(random, {"head", "chest", "abdomen"}, facts.body_part);
      Names claimed = usual_structures(elsewhere);
      const auto shuffled = random.permutation(Index(claimed.size()));
      const Names seen = std::exchange(facts.structures, {});
      for (const Index c : shuffled) {
        const std::string& name = claimed[std::size_t(c)];
        if (facts.structures.size() < 3 && std::find(seen.begin(), seen.end(), name) == seen.end())
          facts.structures.push_back(name);
      }
    }
    if (what == "finding") {
      const bool none = facts.finding.empty();
      facts.finding = none ? pick(random, {"a small mass", "enlarged ventricles", "a liver lesion"}) : "";
      facts.healthy = !none;
    }
  }
  return wrong;
}

inline std::string with_article(const std::string& noun) {
  static const std::string vowels = "aeiouAEIOU";
  const bool vowel = noun.rfind("MR", 0) == 0 || vowels.find(noun.front()) != std::string::npos;
  return (vowel ? "an " : "a ") + noun;
}

inline std::string opening(const SliceFacts& f, Random& random) {
  const std::string plane = f.plane == "axial" && random.below(3) == 0 ? "transverse" : f.plane;
  const std::string kind = (plane.empty() ? "" : plane + " ") + (f.modality.empty() ? "medical" : f.modality);
  const std::string scan = kind + " scan", slice = kind + " slice";
  std::string part = f.body_part;
  if (part == "head" && random.below(2) == 0) part = "brain";
  if (part == "chest" && random.below(3) == 0) part = "thorax";
  const std::string of = part.empty() ? " of an unspecified body region" : " of the " + part;
  switch (random.below(4)) {
    case 0: return "This image is " + with_article(scan) + of + ".";
    case 1: return "The picture shows " + with_article(slice) + of + ".";
    case 2: return "Shown here is " + with_article(scan) + of + ".";
    default: break;
  }
  std::string text = with_article(slice) + of + " is displayed.";
  text[0] = char(std::toupper(static_cast<unsigned char>(text[0])));
  return text;
}

/// Where the slice lies, in five steps: axial from below, coronal from the back, sagittal from the patient's left.
inline std::string position_sentence(const SliceFacts& f, Random& random) {
  const bool axial = f.plane == "axial", coronal = f.plane == "coronal";
  const std::string low = axial     ? "lower"
                          : coronal ? "posterior"
                                    : "left",
                    high = axial     ? "upper"
                           : coronal ? "anterior"
                                     : "right";
  const int step = std::min(4, int(f.position * 5));
  const std::string side = step < 2 ? low : high;
  const std::string where = step == 2                ? "around the middle"
                            : step == 0 || step == 4 ? "near the " + side + " end"
                                                     : "in the " + side + " part";
  return (random.below(2) == 0 ? " It was taken " : " The slice lies ") + where + " of the volume.";
}

inline std::string structure_sentence(const std::string& name, Random& random) {
  static const Names plural{"ventricles", "deep grey nuclei", "eyes", "lungs", "airways", "ribs", "kidneys"};
  const bool many = std::find(plural.begin(), plural.end(), name) != plural.end();
  const std::string remark = remarks_on(name).empty() ? "" : " " + pick(random, remarks_on(name));
  const char* be = many ? " are" : " is";
  switch (random.below(3)) {
    case 0: return " The " + name + be + " visible" + remark + ".";
    case 1: return " The " + name + (many ? " appear" : " appears") + (remark.empty() ? " clearly" : remark) + ".";
    default: return " The " + name + be + " seen" + remark + ".";
  }
}

inline std::string listing(const Names& names) {
  std::string out;
  for (std::size_t i = 0; i < names.size(); ++i)
    out += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + names[i];
  return out;
}

}  // namespace detail

/// Writes a caption of fewer than 100 words.
///
///   number   of the caption: the same (facts, options, number) give the same text
///
/// Throws ConfigError for a noise rate outside [0, 1].
inline Description describe(const SliceFacts& known, const DescriberOptions& options, std::uint64_t number) {
  require<ConfigError>(options.noise_rate >= 0 && options.noise_rate <= 1, "describe: noise rate ", options.noise_rate,
                       " must lie in [0, 1]");
  Random random = Random(options.seed, 0x63617074).split(number);
  Random noise = random.split(1);  // a stream of its own: the wording of the right captions does not depend on the rate
  SliceFacts facts = known;
  Description out;
  if (noise.uniform() < options.noise_rate) out.wrong = detail::corrupt(facts, noise);

  out.text = detail::opening(facts, random);
  const bool place_known = facts.position >= 0 && facts.position <= 1 && !facts.plane.empty();
  if (place_known && (facts.structures.empty() || random.below(2) == 0))
    out.text += detail::position_sentence(facts, random);
  const std::size_t in_detail = std::size_t(2 + random.below(2));
  std::vector<std::string> rest;
  for (std::size_t i = 0; i < facts.structures.size(); ++i) {
    if (i < in_detail) out.text += detail::structure_sentence(facts.structures[i], random);
    else if (rest.size() < 4) rest.push_back(facts.structures[i]);
  }
  if (!rest.empty())
    out.text +=
        detail::pick(random, {" Also present: the ", " Further structures include the ", " One can also see the "}) +
        detail::listing(rest) + ".";
  if (facts.structures.empty())
    out.text += detail::pick(random, {" Tissues of different brightness can be told apart.",
                                      " The grey levels separate tissues of different density."});
  if (!facts.finding.empty())
    out.text += detail::pick(random, {" There is evidence of ", " Of note, the image shows ", " The slice reveals "}) +
                facts.finding + ".";
  else if (facts.healthy)
    out.text += detail::pick(random, {" No abnormality stands out.", " The anatomy looks regular.", ""});
  else out.text += detail::pick(random, {" This view helps to assess the anatomy.", ""});
  return out;
}

/// Modality and body part guessed from words in a path and from the range of intensities; what cannot be guessed stays
/// empty. Words are runs of letters and digits; the file's name counts before its folders.
inline SliceFacts guess_facts(const std::string& path, double lowest, double highest) {
  static const std::pair<const char*, const char*> modalities[] = {{"ct", "CT"},
                                                                   {"cta", "CT"},
                                                                   {"t1", "T1-weighted MRI"},
                                                                   {"t1w", "T1-weighted MRI"},
                                                                   {"t1gd", "T1-weighted MRI"},
                                                                   {"t1ce", "T1-weighted MRI"},
                                                                   {"t2", "T2-weighted MRI"},
                                                                   {"t2w", "T2-weighted MRI"},
                                                                   {"flair", "FLAIR MRI"},
                                                                   {"pd", "MRI"},
                                                                   {"mr", "MRI"},
                                                                   {"mri", "MRI"},
                                                                   {"epi", "MRI"},
                                                                   {"fmri", "MRI"},
                                                                   {"bold", "MRI"},
                                                                   {"dwi", "MRI"}};
  static const std::pair<const char*, const char*> parts[] = {
      {"head", "head"},         {"brain", "head"},    {"skull", "head"},     {"chest", "chest"},
      {"thorax", "chest"},      {"lung", "chest"},    {"heart", "chest"},    {"abdomen", "abdomen"},
      {"abdominal", "abdomen"}, {"liver", "abdomen"}, {"spleen", "abdomen"}, {"kidney", "abdomen"},
      {"pancreas", "abdomen"},  {"neck", "neck"},     {"spine", "spine"},    {"breast", "breast"},
      {"prostate", "pelvis"},   {"pelvis", "pelvis"}};
  std::vector<std::string> words;
  for (const char c : path) {
    const bool part_of_word = std::isalnum(static_cast<unsigned char>(c)) != 0;
    if (words.empty() || !part_of_word) words.emplace_back();
    if (part_of_word) words.back() += char(std::tolower(static_cast<unsigned char>(c)));
  }
  SliceFacts facts;
  for (auto word = words.rbegin(); word != words.rend(); ++word) {
    for (const auto& [key, value] : modalities)
      if (facts.modality.empty() && *word == key) facts.modality = value;
    for (const auto& [key, value] : parts)
      if (facts.body_part.empty() && *word == key) facts.body_part = value;
  }
  // Hounsfield units: air near -1000, and something as dense as bone or contrast.
  if (facts.modality.empty() && lowest <= -900 && highest >= 150) facts.modality = "CT";
  return facts;
}

}  // namespace M3I_ABI
}  // namespace m3i
