// Fits the CLIP towers to slice-caption pairs with the symmetric contrastive loss (paper, 4.1): from scratch, or from a
// Hugging Face CLIP folder. The result is such a folder again; pretrain and embed read it.
//
//     fit_clip triplets.jsonl OUT --config configs/demo.json

#include <CLI/CLI.hpp>

#include "m3i/data.hpp"
#include "m3i/dist.hpp"
#include "m3i/metrics.hpp"
#include "m3i/models.hpp"
#include "m3i/text.hpp"
#include "m3i/train.hpp"

namespace {

using namespace m3i;
using T = float;

Towers starting_towers(const MethodConfig& config, const std::vector<Triplet>& triplets) {
  if (!config.clip.pretrained.empty()) return load_towers(config.clip.pretrained);
  Towers towers = make_towers(clip_options(config.clip, 0), learn_merges(captions_of(triplets), 1000));
  towers.clip.logit_scale.set_value(Tensor<T>::scalar(T(-std::log(config.clip.temperature))));
  return towers;
}

/// One batch of pairs: pixels, and the token rows of their captions. A long caption gives one of its chunks, drawn anew
/// each epoch, so that all of it is seen.
struct Pairs {
  Tensor<T> pixels;
  TokenRows rows;
  std::vector<std::vector<Index>> chunks;  ///< rows of each caption

  Pairs(const Towers& towers, const std::vector<Triplet>& triplets, const std::string& path, LongText policy)
      : pixels(triplet_pixels(towers, triplets, path)),
        rows(towers.tokenizer->tokenize(captions_of(triplets), policy, towers.clip.options.context)),
        chunks(triplets.size()) {
    for (std::size_t r = 0; r < rows.text.size(); ++r) chunks[std::size_t(rows.text[r])].push_back(Index(r));
  }
  Index lost() const {
    Index total = 0;
    for (const Index n : rows.lost) total += n;
    return total;
  }
  void take(const std::vector<Index>& items, Random random, Tensor<T>& images, Tensor<std::int64_t>& ids) const {
    std::vector<Tensor<T>> pictures;
    std::vector<Tensor<std::int64_t>> texts;
    for (const Index i : items) {
      pictures.push_back(pixels[i]);
      const auto& own = chunks[std::size_t(i)];
      texts.push_back(rows.ids[own[std::size_t(random.below(Index(own.size())))]]);
    }
    images = stack(pictures);
    ids = stack(texts);
  }
};

double training_step(const Clip<T>& clip,
                     const MixedNetwork<Clip>& towers,
                     const Tensor<T>& images,
                     const Tensor<std::int64_t>& ids,
                     Trainer<T>& trainer,
                     DataParallel<T>& parallel,
                     OrderedJson& record) {
  // The towers compute in run.dtype; what leaves them is float, and so are the temperature and the loss.
  const Var<T> pixels(images.to(clip.logit_scale.device()));
  const auto [h_s, h_t] = towers.run([&](const auto& net, const auto& border) {
    return std::pair(border.out(net.encode_image(border.in(pixels))), border.out(net.encode_text(ids)));
  });
  // Every pair of the batch is compared, whichever rank has computed it.
  const auto all = [&](const Var<T>& h) { return all_gather(parallel.ranks(), l2_normalize(h)); };
  const Var<T> loss = info_nce(all(h_s), all(h_t), clip.logit_scale);
  record["temperature"] = std::exp(-double(clip.logit_scale.value().item()));
  return descend(loss, trainer, parallel, towers.precision(), record);
}

int run(const std::string& path, const std::string& out, const MethodConfig& config, bool resume, Communicator& ranks) {
  const auto triplets = read_triplets(path);
  check_triplets(triplets, path);
  const Index n = Index(triplets.size()), batch = std::min(config.clip.batch_size, n), per_epoch = n / batch;
  require<ConfigError>(n >= 2, path, ": holds ", n, " triplet; contrastive training needs at least 2");
  const Index steps = config.clip.max_steps > 0 ? std::min(config.clip.max_steps, per_epoch * config.clip.epochs)
                                                : per_epoch * config.clip.epochs;
  const BatchShard shard = batch_shard(ranks, batch);
  const Towers towers = starting_towers(config, triplets);
  to(towers.clip, Device::parse(config.run.device));
  const MixedNetwork<Clip> mixed(config.run.dtype, towers.clip, towers.clip.options);
  const Pairs pairs(towers, triplets, path, long_text(config.clip.long_captions));
  make_folder(out);
  std::printf(
      "fit_clip: %lld pairs, %lld parameters, vocabulary %lld, %lld caption tokens lost to the context of %lld, %s\n",
      (long long)n, (long long)count_parameters(towers.clip), (long long)towers.tokenizer->vocab_size(),
      (long long)pairs.lost(), (long long)towers.clip.options.context, enum_name(config.run.dtype).c_str());

  Trainer<T> trainer(parameters<T>(towers.clip), config.clip.optimizer, steps);
  TrainingRun<T> training(out, config,
                          text("clip ", towers.clip.options.vision.width, "/", towers.clip.options.text.width), steps,
                          "fit_clip");
  training.add_module("model/", towers.clip);
  training.add_trainer("towers", trainer);
  training.add_precision(mixed.precision());
  training.add_ranks(ranks);
  training.add_note("triplets", text(text_hash(read_text_file(path))));
  training.start(resume);
  DataParallel<T> parallel(ranks, parameters<T>(towers.clip));
  const int code = training.loop([&](Index step, OrderedJson& record) {
    const Index epoch = step / per_epoch, first = step % per_epoch * batch;
    const auto order = epoch_order(n, config.run.seed, epoch);
    Tensor<T> images;
    Tensor<std::int64_t> ids;
    pairs.take({order.begin() + first, order.begin() + first + batch},
               Random(config.run.seed, 1).split(std::uint64_t(step)), images, ids);
    record["epoch"] = epoch;
    const auto own = [&](const auto& rows) { return rows.slice(shard.first, shard.first + shard.count); };
    return training_step(towers.clip, mixed, own(images), own(ids), trainer, parallel, record);
  });
  if (code != 0 || !ranks.first()) return code;
  save_towers(towers, out + "/towers");
  Chart chart{.title = "CLIP towers", .x = {"step"}, .y = {"contrastive loss"}, .smooth = 25};
  const auto loss = read_log(training.log_path()).column("loss");
  chart.series = {{"loss", loss.x, loss.y}};
  write_file(out + "/loss.svg", line_chart(chart));
  const auto images = image_features(towers, pairs.pixels);
  const auto texts = text_features(towers, captions_of(triplets), long_text(config.clip.long_captions)).features;
  std::printf(
      "fit_clip: recall@1 of captions by their own slice, on the training pairs: %.3f\nfit_clip: wrote %s/towers, "
      "loss.svg, log.jsonl\n",
      recall_at_k(images, texts, 1), out.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv, [&] {
    CLI::App app(
        "Fits an image tower and a text tower to the slices and captions of triplets, so that both share one space.\n"
        "Makes OUT/towers (a CLIP folder for pretrain and embed), OUT/loss.svg, OUT/log.jsonl, OUT/checkpoints.");
    std::string triplets, out;
    bool resume = false;
    ProgramOptions options;
    app.add_option("triplets", triplets, "triplets.jsonl, as make_triplets writes it")->required();
    app.add_option("out", out, "output folder")->required();
    app.add_flag("--resume", resume, "continue the run in OUT from its newest checkpoint");
    options.add_to(app);
    options.add_ranks_to(app);
    app.footer(
        "Example:  fit_clip data/triplets/triplets.jsonl runs/clip --config configs/demo.json\n"
        "Ctrl-C saves and leaves; the same command with --resume continues.");
    parse_command_line<CLI::ParseError>(app, argc, argv, options);
    return options.run_on_ranks(
        [&](const MethodConfig& config, Communicator& ranks) { return run(triplets, out, config, resume, ranks); });
  });
}
