// Embeds triplets with a pretrained model: where volumes, slices and captions lie in the shared space, how far apart
// the modalities are, and how well one finds the other.
//
//     embed runs/pretrain/model.safetensors data/triplets.jsonl runs/embed --towers runs/clip/towers

#include <CLI/CLI.hpp>

#include "m3i/data.hpp"
#include "m3i/kernels/solvers_eigen.hpp"
#include "m3i/metrics.hpp"
#include "m3i/models.hpp"
#include "m3i/train.hpp"

namespace {

using namespace m3i;
using T = float;

/// What pretrain learned, without the metric and the temperature.
struct Pretrained {
  MethodConfig config;
  TransformChain chain;  ///< what happens to volumes
  NnFormer<T> network;
  Psat<T> psat;

  Pretrained(const ModelInfo& info, Index tower_width)
      : config(info.config),
        chain(preprocessing_chain(info)),
        network(nnformer_options(config.network, 1)),
        psat(psat_options(config, tower_width)) {}
  M3I_FIELDS(network, psat)
};

Pretrained load_pretrained(const std::string& path, Index tower_width) {
  const ModelFile file = read_model(path);
  require<FileError>(file.info.kind == "pretrained", path, ": is a ", file.info.kind,
                     " model, expected the model.safetensors of pretrain");
  const auto width = file.info.notes.find("tower_width");
  require<FileError>(width != file.info.notes.end() && width->second == text(tower_width), path,
                     ": was aligned with towers of width ",
                     width == file.info.notes.end() ? std::string("unknown") : excerpt(width->second),
                     ", these towers have ", tower_width, "; use the towers of the pretraining");
  Pretrained model(file.info, tower_width);
  load_module<T>(model, *file.weights, {.strict = true, .prefix = "", .ignore = {"metric", "log_scale"}, .rename = {}});
  return model;
}

/// Rows of unit length, one a triplet. `encoder` holds the pooled features of the volume encoder, before the PSAT.
struct Embeddings {
  Tensor<T> volume, slice, text, encoder;
};

Embeddings embed(const Pretrained& model,
                 const Towers& towers,
                 const std::vector<Triplet>& triplets,
                 const std::string& path,
                 Device device) {
  NoGrad guard;
  const Index n = Index(triplets.size());
  Embeddings out;
  out.slice = image_features(towers, triplet_pixels(towers, triplets, path));
  out.text = text_features(towers, captions_of(triplets), long_text(model.config.clip.long_captions)).features;
  out.volume = Tensor<T>({n, towers.width()});
  out.encoder = Tensor<T>({n, model.psat.options.volume_channels});
  Progress progress("embed", n);
  for (Index i = 0; i < n; ++i) {
    const Triplet& t = triplets[std::size_t(i)];
    const Tensor<T> v = read_preprocessed(detail::beside(path, t.volume), model.chain).volume.voxels;
    const Var<T> x(v.reshape({1, v.shape()[0], v.shape()[1], v.shape()[2], 1}).to(device));
    const Var<T> deepest = model.network.encode(x).back();  // f_V(x)
    out.volume.slice(i, i + 1).copy_from(
        model.psat(deepest, {Index(t.plane)}, {t.bin(model.psat.options.slices)}).value());
    out.encoder.slice(i, i + 1).copy_from(l2_normalize(pooled(deepest)).value());
    progress.update(i + 1);
  }
  progress.finish();
  return out;
}

/// Gap, retrieval and collapse of one pair of modalities.
OrderedJson measure_pair(const Tensor<T>& a, const Tensor<T>& b) {
  const Index n = a.shape()[0], five = std::min<Index>(5, n);
  return {{"modality_gap", modality_gap(a, b)},
          {"recall_at_1", recall_at_k(a, b, 1)},
          {"recall_at_5", recall_at_k(a, b, five)},
          {"recall_at_1_back", recall_at_k(b, a, 1)},
          {"recall_at_5_back", recall_at_k(b, a, five)}};
}

/// Coordinates along the two directions of largest variance of all rows together: [rows, 2] each, and the share of the
/// variance that they show.
struct Principal {
  std::vector<Tensor<double>> points;
  double share = 0;
};

Principal principal_components(const std::vector<Tensor<T>>& groups) {
  const Index d = groups[0].shape()[1];
  std::vector<double> mean(static_cast<std::size_t>(d)), values(static_cast<std::size_t>(d));
  Index rows = 0;
  for (const auto& g : groups)
    for (Index i = 0; i < g.shape()[0]; ++i, ++rows)
      for (Index c = 0; c < d; ++c) mean[std::size_t(c)] += double(g.data()[i * d + c]);
  for (double& m : mean) m /= double(rows);
  const auto centred = [&](const Tensor<T>& g, Index i, Index c) {
    return double(g.data()[i * d + c]) - mean[std::size_t(c)];
  };
  Tensor<double> covariance = Tensor<double>::zeros({d, d}), directions({d, d});
  for (const auto& g : groups)
    for (Index i = 0; i < g.shape()[0]; ++i)
      for (Index r = 0; r < d; ++r)
        for (Index c = 0; c < d; ++c)
          covariance.data()[r * d + c] += centred(g, i, r) * centred(g, i, c) / double(rows);
  require<NumericError>(symmetric_eigen(d, covariance.data(), values.data(), directions.data()),
                        "embed: the principal components did not converge; are the embeddings finite?");
  double total = 0;
  for (const double v : values) total += std::max(v, 0.0);
  Principal out;  // eigenvalues ascend, eigenvectors are rows
  out.share = total > 0 ? (values[std::size_t(d - 1)] + values[std::size_t(d - 2)]) / total : 0;
  for (const auto& g : groups) {
    Tensor<double> points = Tensor<double>::zeros({g.shape()[0], 2});
    for (Index i = 0; i < g.shape()[0]; ++i)
      for (Index axis = 0; axis < 2; ++axis)
        for (Index c = 0; c < d; ++c)
          points.data()[i * 2 + axis] += centred(g, i, c) * directions.data()[(d - 1 - axis) * d + c];
    out.points.push_back(points);
  }
  return out;
}

std::string scatter(const Principal& pca) {
  char title[80];
  std::snprintf(title, sizeof title, "Embeddings, two principal components (%.0f %% of the variance)", 100 * pca.share);
  Chart chart{.title = title, .x = {"component 1"}, .y = {"component 2"}, .series = {}, .links = {}, .height = 480};
  const char* names[] = {"volume", "slice", "caption"};
  for (std::size_t g = 0; g < 3; ++g) {
    Series s{.name = names[g]};
    for (Index i = 0; i < pca.points[g].shape()[0]; ++i) {
      const double *own = pca.points[g].data() + 2 * i, *volume = pca.points[0].data() + 2 * i;
      s.x.push_back(own[0]);
      s.y.push_back(own[1]);
      if (g > 0) chart.links.push_back({volume[0], volume[1], own[0], own[1]});
    }
    chart.series.push_back(std::move(s));
  }
  return scatter_chart(chart);
}

std::string csv(const std::vector<Triplet>& triplets, const Embeddings& e) {
  std::string out = "id,subject,kind";
  for (Index c = 0; c < e.volume.shape()[1]; ++c) out += text(",", c);
  out += "\n";
  const auto quoted = [](std::string s) {
    for (std::size_t at = 0; (at = s.find('"', at)) != std::string::npos; at += 2) s.insert(at, 1, '"');
    return "\"" + s + "\"";
  };
  const std::pair<const char*, const Tensor<T>*> kinds[] = {
      {"volume", &e.volume}, {"slice", &e.slice}, {"caption", &e.text}};
  for (const auto& [kind, rows] : kinds)
    for (Index i = 0; i < rows->shape()[0]; ++i) {
      out += quoted(triplets[std::size_t(i)].id) + "," + quoted(triplets[std::size_t(i)].subject) + "," + kind;
      for (Index c = 0; c < rows->shape()[1]; ++c) {
        char number[32];
        std::snprintf(number, sizeof number, ",%.9g", double(rows->data()[i * rows->shape()[1] + c]));
        out += number;
      }
      out += "\n";
    }
  return out;
}

int run(const std::string& model_path,
        const std::string& path,
        const std::string& out,
        const std::string& towers_path,
        const std::string& device_name) {
  const auto triplets = read_triplets(path);
  check_triplets(triplets, path);
  require<ConfigError>(triplets.size() >= 2, path,
                       ": holds 1 triplet; embeddings are compared, so at least 2 are needed");
  const Device device = Device::parse(device_name);
  const Towers towers = load_towers(towers_path);
  const Pretrained model = load_pretrained(model_path, towers.width());
  to(model, device);
  make_folder(out);

  const Embeddings e = embed(model, towers, triplets, path, device);
  const Principal pca = principal_components({e.volume, e.slice, e.text});
  OrderedJson json{{"model", model_path}, {"triplets", path}, {"count", triplets.size()}};
  json["volume_slice"] = measure_pair(e.volume, e.slice);
  json["volume_text"] = measure_pair(e.volume, e.text);
  json["slice_text"] = measure_pair(e.slice, e.text);
  json["mean_pairwise_cosine"] = {{"volume", mean_pairwise_cosine(e.volume)},
                                  {"slice", mean_pairwise_cosine(e.slice)},
                                  {"text", mean_pairwise_cosine(e.text)},
                                  {"encoder", mean_pairwise_cosine(e.encoder)}};
  json["pca_share"] = pca.share;
  for (std::size_t i = 0; i < triplets.size(); ++i) {
    OrderedJson point{{"id", triplets[i].id}, {"subject", triplets[i].subject}};
    const char* names[] = {"volume", "slice", "text"};
    for (std::size_t g = 0; g < 3; ++g)
      point[names[g]] = {pca.points[g].data()[2 * i], pca.points[g].data()[2 * i + 1]};
    json["points"].push_back(std::move(point));
  }
  write_safetensors(out + "/embeddings.safetensors",
                    {{"volume", e.volume}, {"slice", e.slice}, {"text", e.text}, {"encoder", e.encoder}},
                    {{"format", "pt"}});
  write_file(out + "/embeddings.csv", csv(triplets, e));
  write_file(out + "/embeddings.svg", scatter(pca));
  write_file(out + "/embeddings.json", json.dump(2) + "\n");

  std::printf("%-16s %8s %9s %9s\n", "pair", "gap", "recall@1", "recall@5");
  for (const char* pair : {"volume_slice", "volume_text", "slice_text"})
    std::printf("%-16s %8.3f %9.3f %9.3f\n", pair, json[pair]["modality_gap"].get<double>(),
                json[pair]["recall_at_1"].get<double>(), json[pair]["recall_at_5"].get<double>());
  std::printf("mean pairwise cosine (1 is collapse): volume %.3f, slice %.3f, text %.3f\n",
              json["mean_pairwise_cosine"]["volume"].get<double>(), json["mean_pairwise_cosine"]["slice"].get<double>(),
              json["mean_pairwise_cosine"]["text"].get<double>());
  std::printf("embed: wrote %s/embeddings.json, .csv, .safetensors, .svg\n", out.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv, [&] {
    CLI::App app(
        "Embeds the volumes, slices and captions of triplets in the towers' space. Prints the modality gap, recall@1 "
        "and\n"
        "@5 and a measure of collapse for each pair of modalities. Makes OUT/embeddings.json (all of it), .csv and\n"
        ".safetensors (the vectors; \"encoder\" holds the volume encoder's pooled features), and .svg (a map).");
    std::string model, triplets, out, towers, device = "cpu";
    app.add_option("model", model, "model.safetensors of pretrain")->required();
    app.add_option("triplets", triplets, "triplets.jsonl, as make_triplets writes it")->required();
    app.add_option("out", out, "output folder")->required();
    app.add_option("-t,--towers", towers, "CLIP folder that pretrain was given")->required();
    app.add_option("--device", device, "cpu, cuda:0, ...")->capture_default_str();
    app.footer(
        "Example:  embed runs/pretrain/model.safetensors data/triplets.jsonl runs/embed --towers runs/clip/towers");
    parse_command_line<CLI::ParseError>(app, argc, argv);
    return run(model, triplets, out, towers, device);
  });
}
