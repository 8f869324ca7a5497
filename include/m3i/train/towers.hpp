#pragma once
/// The 2-D towers with everything around them: a Hugging Face CLIP folder in and out, pictures and captions to
/// features.

#include <array>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "m3i/dist/shared_rows.hpp"
#include "m3i/imaging/resize2d.hpp"
#include "m3i/io/json.hpp"
#include "m3i/models/clip.hpp"
#include "m3i/text/bpe.hpp"
#include "m3i/train/weights.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// CLIP with its tokenizer and the normalisation of its pixels.
struct Towers {
  Clip<float> clip;
  std::shared_ptr<const BytePairTokenizer> tokenizer;
  std::string merges;  ///< text of the merge list, so that the folder can be written again
  std::array<double, 3> mean{0.48145466, 0.4578275, 0.40821073}, deviation{0.26862954, 0.26130258, 0.27577711};

  Index width() const { return clip.options.projection; }
};

namespace detail {

/// Replaces a size by what the file says, if it says anything: newer folders name only what is not as in CLIP ViT-B/32.
inline void read_size(Index& size, const Json& json, const char* key, const std::string& where) {
  const auto at = json.find(key);
  if (at == json.end()) return;
  require<FileError>(at->is_number_integer() && at->get<Index>() > 0 && at->get<Index>() < (1 << 24), where, ": \"",
                     key, "\" must be a positive whole number");
  size = at->get<Index>();
}

inline ClipTowerOptions clip_tower(ClipTowerOptions o, const Json& json, const std::string& where) {
  read_size(o.width, json, "hidden_size", where);
  read_size(o.layers, json, "num_hidden_layers", where);
  read_size(o.heads, json, "num_attention_heads", where);
  read_size(o.hidden, json, "intermediate_size", where);
  const std::string act = json.value("hidden_act", "quick_gelu");
  require<FileError>(act == "quick_gelu" || act == "gelu", where, ": hidden_act is \"", excerpt(act),
                     "\", expected quick_gelu or gelu");
  o.activation = act == "gelu" ? Activation::gelu : Activation::quick_gelu;
  require<FileError>(o.width % o.heads == 0, where, ": hidden_size ", o.width, " does not divide into ", o.heads,
                     " heads");
  return o;
}

inline ClipOptions clip_folder_options(const std::string& path) {
  const Json json = read_json(path);
  for (const char* part : {"text_config", "vision_config"})
    require<FileError>(json.is_object() && json.contains(part) && json[part].is_object(), path, ": has no \"", part,
                       "\"; expected the config.json of a CLIP model");
  const Json &text_json = json["text_config"], &vision_json = json["vision_config"];
  ClipOptions o;
  o.text = clip_tower(o.text, text_json, path + ": text_config");
  o.vision = clip_tower(o.vision, vision_json, path + ": vision_config");
  read_size(o.context, text_json, "max_position_embeddings", path);
  read_size(o.vocabulary, text_json, "vocab_size", path);
  read_size(o.image, vision_json, "image_size", path);
  read_size(o.patch, vision_json, "patch_size", path);
  read_size(o.projection, json, "projection_dim", path);
  return o;
}

inline Json clip_config_json(const ClipOptions& o) {
  const auto tower = [](const ClipTowerOptions& t) {
    return Json{{"hidden_size", t.width},
                {"num_hidden_layers", t.layers},
                {"num_attention_heads", t.heads},
                {"intermediate_size", t.hidden},
                {"hidden_act", t.activation == Activation::gelu ? "gelu" : "quick_gelu"}};
  };
  Json text_json = tower(o.text), vision_json = tower(o.vision);
  text_json["max_position_embeddings"] = o.context;
  text_json["vocab_size"] = o.vocabulary;
  vision_json["image_size"] = o.image;
  vision_json["patch_size"] = o.patch;
  return {{"model_type", "clip"},
          {"projection_dim", o.projection},
          {"text_config", text_json},
          {"vision_config", vision_json}};
}

}  // namespace detail

/// Towers from scratch, with a vocabulary given as the text of a merge list.
inline Towers make_towers(ClipOptions options, const std::string& merges) {
  const auto tokenizer = std::make_shared<const BytePairTokenizer>(BytePairTokenizer::from_merges(merges, "merges"));
  options.vocabulary = tokenizer->vocab_size();
  return {Clip<float>(options), tokenizer, merges};
}

/// Reads a Hugging Face CLIP folder: config.json, model.safetensors, and the vocabulary as vocab.json + merges.txt or
/// as CLIP's bpe_simple_vocab_16e6.txt(.gz); pixel statistics from preprocessor_config.json where there is one. Throws
/// FileError that names the file.
inline Towers load_towers(const std::string& folder) {
  namespace fs = std::filesystem;
  require<FileError>(fs::is_directory(folder), folder,
                     ": no such folder; expected a CLIP folder with config.json, model.safetensors",
                     " and a vocabulary, as fit_clip writes it");
  const auto in = [&](const char* name) { return folder + "/" + name; };
  require<FileError>(fs::exists(in("model.safetensors")) || !fs::is_directory(in("towers")), folder,
                     ": holds no model.safetensors; did you mean ", in("towers"), "?");
  const SafeTensors weights(in("model.safetensors"));
  const ClipOptions options = detail::clip_folder_options(in("config.json"));
  std::string merges;
  std::shared_ptr<const BytePairTokenizer> tokenizer;
  if (fs::exists(in("vocab.json")) && fs::exists(in("merges.txt"))) {
    tokenizer = std::make_shared<const BytePairTokenizer>(
        BytePairTokenizer::from_hugging_face(in("vocab.json"), in("merges.txt")));
    merges = read_text_file(in("merges.txt"));
  } else {
    const std::string list = fs::exists(in("bpe_simple_vocab_16e6.txt.gz")) ? in("bpe_simple_vocab_16e6.txt.gz")
                                                                            : in("bpe_simple_vocab_16e6.txt");
    require<FileError>(fs::exists(list), folder,
                       ": has no vocabulary; expected vocab.json with merges.txt, or bpe_simple_vocab_16e6.txt.gz");
    tokenizer = std::make_shared<const BytePairTokenizer>(BytePairTokenizer::from_clip(list));
    merges = read_text_file(list);
  }
  require<FileError>(tokenizer->vocab_size() == options.vocabulary, folder, ": the vocabulary has ",
                     tokenizer->vocab_size(), " tokens, config.json says vocab_size ", options.vocabulary);
  Towers towers{Clip<float>(options), tokenizer, merges};
  load_module<float>(towers.clip, weights);
  if (fs::exists(in("preprocessor_config.json"))) {
    const Json json = read_json(in("preprocessor_config.json"));
    for (std::size_t c = 0; c < 3; ++c) {
      const auto number = [&](const char* key, double otherwise) {
        return json.contains(key) && json[key].is_array() && json[key].size() == 3 && json[key][c].is_number()
                   ? json[key][c].get<double>()
                   : otherwise;
      };
      towers.mean[c] = number("image_mean", towers.mean[c]);
      towers.deviation[c] = number("image_std", towers.deviation[c]);
      require<FileError>(towers.deviation[c] > 0, in("preprocessor_config.json"), ": image_std must be positive");
    }
  }
  return towers;
}

/// Writes such a folder; each file atomically, the weights last.
inline void save_towers(const Towers& towers, const std::string& folder) {
  std::filesystem::create_directories(folder);
  Json vocabulary = Json::object();
  for (Index i = 0; i < towers.tokenizer->vocab_size(); ++i) vocabulary[towers.tokenizer->token(i)] = i;
  write_json(folder + "/config.json", detail::clip_config_json(towers.clip.options));
  write_json(folder + "/preprocessor_config.json",
             {{"image_mean", towers.mean}, {"image_std", towers.deviation}, {"size", towers.clip.options.image}});
  write_json(folder + "/vocab.json", vocabulary);
  write_file(folder + "/merges.txt", towers.merges);
  write_safetensors(folder + "/model.safetensors", state_arrays<float>(towers.clip), {{"format", "pt"}});
}

/// A grey picture [H, W] in [0, 1] as the image tower wants it: square, resized, three equal channels, normalised.
/// -> [image, image, 3]
inline Tensor<float> tower_pixels(const Towers& towers, const Tensor<float>& picture) {
  const Index size = towers.clip.options.image;
  const Tensor<float> grey = resize_cubic(pad_to_square(picture), size, size);
  const Tensor<float> out({size, size, 3});
  for (Index i = 0; i < size * size; ++i)
    for (std::size_t c = 0; c < 3; ++c)
      out.data()[i * 3 + Index(c)] =
          float((std::clamp(double(grey.data()[i]), 0.0, 1.0) - towers.mean[c]) / towers.deviation[c]);
  return out;
}

/// Unit features of n pictures -> [n, width], in host memory. pixels(first, last) prepares some of them as [last -
/// first, image, image, 3]. Batches of 32, which the ranks share; records nothing.
template <class Pixels>
Tensor<float> image_features(const Towers& towers, Index n, const Pixels& pixels, Communicator& ranks) {
  NoGrad guard;
  const Device device = towers.clip.logit_scale.device();
  return shared_rows<float>(ranks, n, towers.width(), 32, [&](Index first, Index last) {
    return l2_normalize(towers.clip.encode_image(Var<float>(pixels(first, last).to(device)))).value();
  });
}
/// The same in one process, for all pixels [N, image, image, 3].
inline Tensor<float> image_features(const Towers& towers, const Tensor<float>& pixels) {
  OneProcess alone;
  return image_features(
      towers, pixels.shape()[0], [&](Index first, Index last) { return pixels.slice(first, last); }, alone);
}

/// What captions became: unit features [N, width], and how many tokens the tower did not read.
struct TextFeatures {
  Tensor<float> features;
  Index tokens = 0, lost = 0, longest = 0;
};

/// Unit features of captions. A caption in several chunks gets the mean of their unit features, of unit length again.
/// Batches of 32 chunks, which the ranks share.
inline TextFeatures text_features(const Towers& towers,
                                  const std::vector<std::string>& captions,
                                  LongText policy,
                                  Communicator& ranks) {
  NoGrad guard;
  const TokenRows rows = towers.tokenizer->tokenize(captions, policy, towers.clip.options.context);
  const Index n = rows.ids.shape()[0], d = towers.width();
  TextFeatures out{Tensor<float>::zeros({Index(captions.size()), d})};
  const auto chunks = shared_rows<float>(ranks, n, d, 32, [&](Index first, Index last) {
    return l2_normalize(towers.clip.encode_text(rows.ids.slice(first, last))).value();
  });
  for (Index i = 0; i < n; ++i)
    for (Index c = 0; c < d; ++c) out.features.data()[rows.text[std::size_t(i)] * d + c] += chunks.data()[i * d + c];
  out.features = l2_normalize(Var<float>(out.features)).value();
  for (std::size_t i = 0; i < captions.size(); ++i) {
    out.tokens += rows.tokens[i];
    out.lost += rows.lost[i];
    out.longest = std::max(out.longest, rows.tokens[i]);
  }
  return out;
}
/// The same in one process.
inline TextFeatures text_features(const Towers& towers, const std::vector<std::string>& captions, LongText policy) {
  OneProcess alone;
  return text_features(towers, captions, policy, alone);
}

}  // namespace M3I_ABI
}  // namespace m3i
