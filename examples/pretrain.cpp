// Pretrains the volume network on triplets: algorithm 1 of the paper, with the restoration loss (equation 4).
//
//     pretrain triplets.jsonl OUT --towers CLIP_FOLDER --config configs/demo.json

#include <CLI/CLI.hpp>

#include "m3i/data.hpp"
#include "m3i/dist.hpp"
#include "m3i/models.hpp"
#include "m3i/train.hpp"

namespace {

using namespace m3i;
using T = float;

/// The encoder-decoder (theta) and the projection (psi).
template <class U>
struct VolumeTower {
  Backbone<U> network;
  Psat<U> psat;

  VolumeTower(const MethodConfig& c, Index tower_width)
      : network(backbone_options(c.network, 1)), psat(psat_options(c, tower_width)) {}
  VolumeTower(const Backbone<U>& n, const Psat<U>& p) : network(n), psat(p) {}
  M3I_FIELDS(network, psat)
};

/// What is learned: theta and psi, the metric M, and the temperature of InfoNCE.
struct Med3DInsight {
  Backbone<T> network;
  Psat<T> psat;
  Var<T> metric, log_scale;

  Med3DInsight(const MethodConfig& c, Index tower_width)
      : network(backbone_options(c.network, 1)),
        psat(psat_options(c, tower_width)),
        metric(initial_metric<T>(c.pretrain.mpot, tower_width)),
        log_scale(constant_parameter<T>({}, -std::log(c.pretrain.info_nce.temperature))) {
    log_scale.set_needs_grad(c.pretrain.info_nce.learn_temperature);
  }
  M3I_FIELDS(network, psat, metric, log_scale)
};

/// A mini-batch (X, S, T): volumes, and the frozen towers' features of their slices and captions.
struct Batch {
  Tensor<T> volumes;                        ///< [b, D, H, W, 1]
  Tensor<std::int64_t> positions;           ///< [b], of the slices in the volumes
  Tensor<T> slice_features, text_features;  ///< [b, d]
};

void log_pair(OrderedJson& record, const char* name, const MpotPair& p) {
  record[name] = {{"converged", p.converged},
                  {"iterations", p.iterations},
                  {"residual", p.residual},
                  {"active_rows", p.active_rows},
                  {"active_cols", p.active_cols},
                  {"diagonal_mass", p.diagonal_mass},
                  {"loss", p.loss},
                  {"floor", p.floor},
                  {"excess", p.excess}};
}

/// One step of algorithm 1.
class TrainingStep {
 public:
  TrainingStep(const Med3DInsight& model,
               const MixedNetwork<VolumeTower>& tower,
               const MethodConfig& config,
               Trainer<T>& trainer,
               Trainer<T>& metric_trainer,
               DataParallel<T>& parallel)
      : model_(model),
        tower_(tower),
        config_(config),
        trainer_(trainer),
        metric_trainer_(metric_trainer),
        parallel_(parallel),
        device_(Device::parse(config.run.device)),
        numbers_(device_),
        compute_(config.run, [this] { compute(); }) {}

  /// Returns the loss; when it is not finite nothing has been changed. `batch` is in host memory.
  double operator()(const Batch& batch, const Random& random, OrderedJson& record) {
    load(batch, random);
    compute_(tower_.precision().scale.exponent);
    return update(record);
  }

 private:
  /// The batch, what the network sees of its volumes, and the step's random numbers, where compute() reads them.
  void load(const Batch& batch, const Random& random) {
    const ReconstructionConfig& c = config_.pretrain.reconstruction;
    const Index first = parallel_.ranks().rank() * batch.volumes.shape()[0];
    compute_.give(batch_.volumes, upload_volumes_(batch.volumes, device_));
    compute_.give(
        corrupted_,
        upload_corrupted_(mask_patches(batch.volumes, c.mask_ratio, c.mask_patch, random.split(1), first), device_));
    compute_.give(batch_.positions, batch.positions.to(device_));
    compute_.give(batch_.slice_features, batch.slice_features.to(device_));
    compute_.give(batch_.text_features, batch.text_features.to(device_));
    numbers_.set(random_of_rank(parallel_.ranks(), random));
  }

  // [step]
  /// Forward and backward: tensors in, tensors out.
  void compute() {
    const PretrainConfig& c = config_.pretrain;
    Communicator& ranks = parallel_.ranks();
    Random random = numbers_.random();
    const Mode mode{true, &random};
    const Var<T> x(batch_.volumes), corrupted(corrupted_);

    // Extract projected volume embedding, image slice embedding, and text embedding, respectively. The tower computes
    // in run.dtype; what leaves it is float, and so are the losses.
    const bool restores = c.reconstruction.kind != choice::Reconstruction::none;
    const auto [h_x, x_hat] = tower_.run([&](const auto& net, const auto& border) {
      const auto features = net.network.encode(border.in(corrupted), mode);    // f_V(x)
      const auto h = border.out(net.psat(features.back(), batch_.positions));  // f_Proj(f_V(x))
      const auto restored = restores ? border.out(net.network.decode(features, x.shape(), mode)[0]) : Var<T>();
      return std::pair(h, restored);
    });
    const Var<T> h_s(batch_.slice_features), h_t(batch_.text_features);  // f_I(s), f_T(t): frozen, computed once

    // L_total = L_mPOT + L_res                                                                            (equation 4)
    const bool global = c.alignment_batch == choice::AlignmentBatch::global;
    const auto rows = [&](const Var<T>& h) { return global ? all_gather(ranks, h) : h; };  // of all ranks, or our own
    alignment_ = reconstruction_ = Var<T>();
    if (c.alignment != choice::Alignment::none) alignment_ = alignment_loss(rows(h_x), rows(h_s), rows(h_t));
    if (restores) reconstruction_ = reconstruction_loss(x_hat, x, c.reconstruction.kind, ranks.size());  // (equation 3)
    loss_ = Var<T>();
    const auto add = [&](double weight, const Var<T>& term) {
      if (term.defined()) loss_ = loss_.defined() ? loss_ + weight * term : weight * term;
    };
    add(c.alignment_weight, alignment_);
    add(c.reconstruction.weight, reconstruction_);

    trainer_.clear_gradients();
    metric_trainer_.clear_gradients();
    backward(loss_, tower_.precision(), parallel_);  // the mean over the ranks
  }

  /// L_mPOT (equation 2), or the contrastive loss in its place (table 6c).
  Var<T> alignment_loss(const Var<T>& h_x, const Var<T>& h_s, const Var<T>& h_t) {
    const PretrainConfig& c = config_.pretrain;
    if (c.alignment == choice::Alignment::info_nce)
      return info_nce(h_x, h_s, model_.log_scale) + info_nce(h_x, h_t, model_.log_scale);
    mpot_ = mpot_loss(h_x, h_s, h_t, model_.metric, mpot_options(c.mpot));  // C_M, Bregman, KL
    return mpot_->loss;
  }

  /// theta, psi <- Adam; M <- Proj(Adam(M)).
  double update(OrderedJson& record) {
    const MpotConfig& c = config_.pretrain.mpot;
    Communicator& ranks = parallel_.ranks();
    const auto mean = [&](const Var<T>& term) { return ranks.mean(double(term.value().item())); };
    if (mpot_) {
      const auto pairs = mpot_->pairs();
      log_pair(record, "ot_slice", pairs[0]);
      log_pair(record, "ot_text", pairs[1]);
    }
    if (alignment_.defined()) record["alignment"] = mean(alignment_);
    if (reconstruction_.defined()) record["reconstruction"] = mean(reconstruction_);
    const double value = mean(loss_), norm = std::hypot(trainer_.prepare(), metric_trainer_.prepare());
    record["loss"] = value;
    record["grad_norm"] = norm;
    record["learning_rate"] = trainer_.learning_rate();
    return guarded_step(value, norm, tower_.precision(), record, [&] {
      trainer_.step();
      metric_trainer_.step();
      const auto projection =
          project_metric(model_.metric.value(), mpot_options(c).cost.metric, {c.metric_floor, c.metric_trace});
      record["metric_clamped"] = projection.clamped;
    });
  }
  // [step]

  const Med3DInsight& model_;
  const MixedNetwork<VolumeTower>& tower_;
  const MethodConfig& config_;
  Trainer<T>&trainer_, &metric_trainer_;
  DataParallel<T>& parallel_;
  const Device device_;
  ReplayedRandom numbers_;
  RecordedStep compute_;
  Uploader<T> upload_volumes_, upload_corrupted_;
  Batch batch_;
  Tensor<T> corrupted_;
  Var<T> alignment_, reconstruction_, loss_;
  std::optional<MpotResult<T>> mpot_;
};

/// Features of the frozen towers, one row a triplet. They are computed once, a share by each rank: neither tower is in
/// memory afterwards.
struct FrozenFeatures {
  Tensor<T> slices, texts;
  Index width() const { return slices.shape()[1]; }
};

FrozenFeatures frozen_features(const Towers towers,
                               const std::vector<Triplet>& triplets,
                               const std::string& path,
                               const MethodConfig& config,
                               Communicator& ranks) {
  to(towers.clip, Device::parse(config.run.device));
  const auto texts = text_features(towers, captions_of(triplets), long_text(config.clip.long_captions), ranks);
  std::printf("pretrain: captions: %lld tokens, the longest %lld, %lld not read by the tower\n",
              (long long)texts.tokens, (long long)texts.longest, (long long)texts.lost);
  const auto pixels = [&](Index first, Index last) {
    return triplet_pixels(towers, std::span(triplets).subspan(std::size_t(first), std::size_t(last - first)), path);
  };
  return {image_features(towers, Index(triplets.size()), pixels, ranks), texts.features};
}

/// Volumes come from the loader's threads, preprocessed once; features are looked up.
class Batches {
 public:
  Batches(const std::vector<Triplet>& triplets,
          const std::string& path,
          const FrozenFeatures& features,
          const MethodConfig& config,
          const BatchShard& shard,
          Index first_item)
      : triplets_(triplets),
        features_(features),
        config_(config),
        keys_(!config.data.cache_folder.empty()),
        cache_(cache_budget(config), config.data.cache_folder),
        loader_(
            Index(triplets.size()),
            [this, path](const LoaderPlace& place) {
              return volume(detail::beside(path, triplets_[std::size_t(place.item)].volume));
            },
            {.threads = int(config.data.workers),
             .ahead = 2 * shard.count,
             .seed = config.run.seed,
             .epoch = first_item / Index(triplets.size()),
             .position = first_item % Index(triplets.size()),
             .shard = shard},
            [this, path](Index item) { return detail::beside(path, triplets_[std::size_t(item)].volume); }) {}

  Batch next(Index size) {
    std::vector<Tensor<T>> volumes, slices, texts;
    std::vector<Index> planes, bins;
    for (Index i = 0; i < size; ++i) {
      const auto [value, place] = loader_.next();
      const Triplet& t = triplets_[std::size_t(place.item)];
      volumes.push_back(value);
      planes.push_back(Index(t.plane));
      bins.push_back(t.bin(config_.psat.bins));
      slices.push_back(features_.slices[place.item]);
      texts.push_back(features_.texts[place.item]);
    }
    return {stack(volumes), slice_positions(planes, bins, config_.psat.bins), stack(slices), stack(texts)};
  }

 private:
  Tensor<T> volume(const std::string& file) {
    const TransformChain chain = preprocessing_chain(config_);
    const std::string key = "image " + keys_(file) + " " + chain_json(chain);  // the same as fine-tuning's
    const Tensor<T> v = cache_.get(key, [&] { return read_preprocessed(file, chain).volume.voxels; }).whole();
    return v.reshape({v.shape()[0], v.shape()[1], v.shape()[2], 1});
  }

  const std::vector<Triplet>& triplets_;
  const FrozenFeatures& features_;
  MethodConfig config_;
  SourceKeys keys_;
  VolumeCache<T> cache_;
  Loader<Tensor<T>> loader_;
};

void draw_curves(const std::string& log, const std::string& out) {
  const LogRecords records = read_log(log);
  const auto series = [&](const char* name, const char* key) {
    const auto c = records.column(key);
    return Series{name, c.x, c.y};
  };
  Chart losses{.title = "Pretraining", .x = {"step"}, .y = {"loss"}, .smooth = 25};
  losses.series = {series("total", "loss"), series("alignment", "alignment"),
                   series("reconstruction", "reconstruction")};
  write_file(out + "/loss.svg", line_chart(losses));
  Chart mass{.title = "Mass on the diagonal of the transport plan", .x = {"step"}, .y = {"mass"}, .smooth = 25};
  mass.series = {series("volume to slice", "ot_slice.diagonal_mass"),
                 series("volume to text", "ot_text.diagonal_mass")};
  if (!mass.series[0].x.empty()) write_file(out + "/diagonal_mass.svg", line_chart(mass));
}

int run(const std::string& path,
        const std::string& out,
        const std::string& towers,
        const MethodConfig& config,
        bool resume,
        Communicator& ranks) {
  require_whole_volumes(config, "pretrain");
  require_recordable(config.run, ranks);
  const auto triplets = read_triplets(path);
  check_triplets(triplets, path);
  const Index n = Index(triplets.size()), batch = config.pretrain.batch_size;
  require<ConfigError>(n >= batch, path, ": holds ", n, " triplets, a batch needs ", batch,
                       "; make more or lower pretrain.batch_size");
  const Index per_epoch = n / batch, all = per_epoch * config.pretrain.epochs;
  const Index steps = config.pretrain.max_steps > 0 ? std::min(config.pretrain.max_steps, all) : all;
  const Device device = Device::parse(config.run.device);
  const BatchShard shard = batch_shard(ranks, batch);
  require<ConfigError>(shard.count > 1 || config.pretrain.alignment == choice::Alignment::none ||
                           config.pretrain.alignment_batch == choice::AlignmentBatch::global,
                       "pretrain.batch_size ", batch, " on ", ranks.size(), " ranks leaves one triplet to each, and ",
                       "alignment compares pairs; use more, or pretrain.alignment_batch=global");

  require<ConfigError>(
      !config.run.cuda_graph || device.on_host() || config.pretrain.alignment != choice::Alignment::mpot ||
          mpot_stays_on(device, batch, mpot_options(config.pretrain.mpot)),
      "run.cuda_graph: the transport of ", batch, " pairs by this solver is computed on the host; turn it ",
      "off, or use Newton's solver with the implicit gradient and at most 128 pairs");

  TrainingRun<T> training(out, config, network_text(config.network), steps, "pretrain");
  training.require_free(resume);
  Towers frozen = load_towers(towers);
  make_folder(out);  // what can be wrong with it is found before the features, which may take long
  const FrozenFeatures features = frozen_features(std::move(frozen), triplets, path, config, ranks);
  const Med3DInsight model(config, features.width());
  to(model, device);
  const VolumeTower<T> weights(model.network, model.psat);
  const MixedNetwork<VolumeTower> tower(config.run.dtype, weights, config, features.width());
  std::printf("pretrain: %lld triplets, %lld steps of %lld, %s: %lld parameters, PSAT %lld, device %s, %s\n",
              (long long)n, (long long)steps, (long long)batch, network_text(config.network).c_str(),
              (long long)count_parameters(model.network), (long long)count_parameters(model.psat),
              config.run.device.c_str(), enum_name(config.run.dtype).c_str());

  auto learned = parameters<T>(weights);
  learned.push_back(model.log_scale);
  Trainer<T> trainer(learned, config.pretrain.optimizer, steps);
  Trainer<T> metric_trainer({model.metric}, config.pretrain.optimizer, steps,
                            config.pretrain.mpot.metric_learning_rate.value_or(0));

  training.add_module("", model);
  training.add_trainer("network", trainer);
  training.add_trainer("metric", metric_trainer);
  training.add_precision(tower.precision());
  training.add_ranks(ranks);
  training.add_note("triplets", text(text_hash(read_text_file(path))));
  training.start(resume);

  auto all_learned = learned;
  all_learned.push_back(model.metric);
  DataParallel<T> parallel(ranks, all_learned);
  Batches batches(triplets, path, features, config, shard, training.first_step() * batch);
  TrainingStep take(model, tower, config, trainer, metric_trainer, parallel);
  const int code = training.loop([&](Index step, OrderedJson& record) {
    Stopwatch wait;
    const Batch b = batches.next(shard.count);
    training.add_wait(wait.lap());
    record["epoch"] = step / per_epoch;
    return take(b, Random(config.run.seed, 2).split(std::uint64_t(step)), record);
  });
  if (!ranks.first()) return code;
  draw_curves(training.log_path(), out);
  if (code != 0) return code;
  write_model<T>(out + "/model.safetensors", model,
                 {"pretrained", config, {}, {}, {{"tower_width", text(features.width())}}});
  std::printf("pretrain: wrote %s/model.safetensors, loss.svg, log.jsonl\n", out.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv, [&] {
    CLI::App app(
        "Pretrains the volume encoder-decoder on triplets: its features, seen through the plane-slice-aware "
        "transformer,\n"
        "are aligned with the frozen towers' features of slice and caption by partial optimal transport, while the\n"
        "decoder restores the volume. Makes OUT/model.safetensors, loss.svg, log.jsonl and checkpoints.");
    std::string triplets, out, towers;
    bool resume = false;
    ProgramOptions options;
    app.add_option("triplets", triplets, "triplets.jsonl, as make_triplets writes it")->required();
    app.add_option("out", out, "output folder")->required();
    app.add_option("-t,--towers", towers, "CLIP folder: OUT/towers of fit_clip, or a Hugging Face download")
        ->required();
    app.add_flag("--resume", resume, "continue the run in OUT from its newest checkpoint");
    options.add_to(app);
    options.add_ranks_to(app);
    app.footer(
        "Example:  pretrain data/triplets/triplets.jsonl runs/pretrain --towers runs/clip/towers --config "
        "configs/demo.json\n"
        "Ctrl-C saves and leaves; the same command with --resume continues.");
    parse_command_line<CLI::ParseError>(app, argc, argv, options);
    return options.run_on_ranks([&](const MethodConfig& config, Communicator& ranks) {
      return run(triplets, out, towers, config, resume, ranks);
    });
  });
}
