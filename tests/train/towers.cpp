#include <cstdlib>
#include <filesystem>

#include "../catch.hpp"
#include "m3i/dist/fork.hpp"
#include "m3i/text/bpe_learn.hpp"
#include "m3i/train/towers.hpp"
#include "m3i/train/volumes.hpp"

using namespace m3i;
namespace fs = std::filesystem;

namespace {

const std::vector<std::string> captions{"An axial CT scan of the chest, showing the lungs and the heart.",
                                        "A coronal MRI scan of the head with both ventricles.",
                                        "A sagittal CT scan of the abdomen: liver, spleen and spine."};

ClipOptions small_clip() {
  ClipOptions o;
  o.vision = {16, 1, 2, 32, Activation::quick_gelu};
  o.text = {16, 1, 2, 32, Activation::quick_gelu};
  o.image = 16;
  o.patch = 8;
  o.context = 12;
  o.projection = 8;
  return o;
}

/// A folder that is gone afterwards.
struct Scratch {
  fs::path path = fs::temp_directory_path() / text("m3i-towers-", std::rand());
  Scratch() { fs::create_directories(path); }
  ~Scratch() { fs::remove_all(path); }
};

Tensor<float> ramp(Index rows, Index columns) {
  const Tensor<float> out({rows, columns});
  for (Index i = 0; i < out.size(); ++i) out.data()[i] = float(i) / float(out.size());
  return out;
}

}  // namespace

TEST_CASE("towers: a saved folder loads to the same features", "[train]") {
  seed_initializer(1);
  const Towers made = make_towers(small_clip(), learn_merges(captions, 40));
  const Scratch scratch;
  save_towers(made, scratch.path.string());
  const Towers read = load_towers(scratch.path.string());
  const auto pixels = [](const Towers& t) {
    return stack<float>({tower_pixels(t, ramp(20, 13)), tower_pixels(t, ramp(9, 16))});
  };
  CHECK(image_features(made, pixels(made)).to_vector() == image_features(read, pixels(read)).to_vector());
  const auto a = text_features(made, captions, LongText::mean_of_chunks),
             b = text_features(read, captions, LongText::mean_of_chunks);
  CHECK(a.features.to_vector() == b.features.to_vector());
  CHECK(a.lost == 0);
  CHECK(text_features(made, captions, LongText::truncate).lost > 0);
}

TEST_CASE("towers: features that ranks share are those of one process, bit for bit", "[train][dist]") {
  seed_initializer(1);
  const Towers towers = make_towers(small_clip(), learn_merges(captions, 40));
  std::vector<Tensor<float>> pictures;
  std::vector<std::string> texts;
  for (Index i = 0; i < 70; ++i) {  // three batches
    pictures.push_back(tower_pixels(towers, ramp(9 + i, 16)));
    texts.push_back(captions[std::size_t(i) % captions.size()] + text(" ", i));
  }
  const auto pixels = stack<float>(pictures);
  const auto images = image_features(towers, pixels);
  const auto expected = text_features(towers, texts, LongText::mean_of_chunks);
  const int ranks = GENERATE(2, 4);
  CHECK_NOTHROW(fork_ranks(ranks, [&](Communicator& c) {
    const auto read = [&](Index first, Index last) {
      require<Error>(first / 32 % c.size() == c.rank(), "rank ", c.rank(), " reads picture ", first);
      return pixels.slice(first, last);
    };
    require<Error>(image_features(towers, 70, read, c).to_vector() == images.to_vector(), "pictures");
    const auto own = text_features(towers, texts, LongText::mean_of_chunks, c);
    require<Error>(own.features.to_vector() == expected.features.to_vector(), "captions");
    require<Error>(own.tokens == expected.tokens, "tokens");
    return 0;
  }));
}

TEST_CASE("towers: what is missing or does not fit in a folder is named", "[train][errors]") {
  const Scratch scratch;
  const std::string folder = scratch.path.string();
  CHECK_THROWS_WITH(load_towers(folder + "/none"), Catch::Contains("no such folder"));
  CHECK_THROWS_WITH(load_towers(folder), Catch::Contains("model.safetensors"));
  seed_initializer(1);
  save_towers(make_towers(small_clip(), learn_merges(captions, 40)), folder);
  const Json config = read_json(folder + "/config.json");
  Json wrong = config;
  wrong["text_config"]["vocab_size"] = 7;
  write_json(folder + "/config.json", wrong);
  CHECK_THROWS_WITH(load_towers(folder), Catch::Contains("vocab_size 7"));
  wrong = config;
  wrong["vision_config"]["hidden_size"] = 24;
  write_json(folder + "/config.json", wrong);
  CHECK_THROWS_WITH(load_towers(folder), Catch::Contains("another shape"));
  wrong = config;
  wrong.erase("vision_config");
  write_json(folder + "/config.json", wrong);
  CHECK_THROWS_WITH(load_towers(folder), Catch::Contains("vision_config"));
}

TEST_CASE("towers: what a folder's config.json leaves out is as in CLIP ViT-B/32", "[train]") {
  const Scratch scratch;
  const std::string path = (scratch.path / "config.json").string();
  write_json(path, {{"model_type", "clip"},
                    {"text_config", {{"model_type", "clip_text_model"}}},
                    {"vision_config", {{"model_type", "clip_vision_model"}, {"patch_size", 16}}}});
  const ClipOptions o = detail::clip_folder_options(path);
  CHECK((o.text.width == 512 && o.text.layers == 12 && o.text.heads == 8 && o.text.hidden == 2048));
  CHECK((o.vision.width == 768 && o.vision.layers == 12 && o.vision.heads == 12 && o.vision.hidden == 3072));
  CHECK((o.context == 77 && o.vocabulary == 49408 && o.image == 224 && o.patch == 16 && o.projection == 512));
  write_json(path, {{"text_config", {{"hidden_size", "wide"}}}, {"vision_config", Json::object()}});
  CHECK_THROWS_WITH(detail::clip_folder_options(path),
                    Catch::Contains("hidden_size") && Catch::Contains("whole number"));
}

TEST_CASE("towers: a published folder loads as it is", "[golden]") {
  const char* root = std::getenv("M3I_GOLDENS");
  const std::string golden = std::string(root && *root ? root : M3I_GOLDENS_DEFAULT) + "/clip";
  if (!fs::exists(golden + "/weights_hf_names.safetensors")) {
    WARN("skipped: no golden files at " << golden);
    return;
  }
  const Scratch scratch;
  for (const auto& [from, to] :
       {std::pair("weights_hf_names.safetensors", "model.safetensors"), std::pair("config.json", "config.json"),
        std::pair("bpe_simple_vocab_16e6.txt.gz", "bpe_simple_vocab_16e6.txt.gz")})
    fs::copy_file(fs::path(golden) / from, scratch.path / to);
  const Towers towers = load_towers(scratch.path.string());
  const SafeTensors expected(golden + "/expected.safetensors");
  const Var<float> features = towers.clip.encode_text(expected.tensor<std::int64_t>("token_ids"));
  const auto got = features.value().to_vector();
  const auto want = expected.tensor<float>("text_features").to_vector();
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(want[i]).margin(1e-4));
}

TEST_CASE("learned merges: the most frequent pair comes first, and words come back whole", "[train]") {
  const std::string merges = learn_merges({"aab aab aab", "xy"}, 10);
  CHECK(merges.rfind("#version", 0) == 0);
  CHECK(merges.find("\na a\n") != merges.npos);
  CHECK(merges.find("x y") == merges.npos);  // seen once
  const auto tokenizer = BytePairTokenizer::from_merges(learn_merges(captions, 500), "test");
  CHECK(tokenizer.count("scan") == 1);
  for (const auto& c : captions) {
    const auto ids = tokenizer.encode(c);
    CHECK(tokenizer.encode(tokenizer.decode(ids)) == ids);
  }
}

TEST_CASE("bicubic resizing keeps constants, means and size", "[train]") {
  const auto flat = resize_cubic(Tensor<float>::full({17, 9}, 0.25f), 5, 30);
  for (const float v : flat.span()) CHECK(v == Approx(0.25));
  const auto same = resize_cubic(ramp(6, 7), 6, 7);
  for (Index i = 0; i < same.size(); ++i) CHECK(same.data()[i] == Approx(ramp(6, 7).data()[i]).margin(1e-6));
  const Tensor<float> stripes({32, 32});  // the finest pattern: antialiasing must turn it grey
  for (Index i = 0; i < stripes.size(); ++i) stripes.data()[i] = float(i % 2);
  for (const float v : resize_cubic(stripes, 8, 8).span()) CHECK(v == Approx(0.5).margin(0.1));
  CHECK(pad_to_square(ramp(3, 7)).shape() == Shape{7, 7});
  CHECK_THROWS_AS(resize_cubic(Tensor<float>({0, 3}), 2, 2), ShapeError);
}
