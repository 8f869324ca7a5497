// Embeds triplets with a pretrained model: where volumes, slices and captions lie in the shared space, how far apart
// the modalities are, and how well one finds the other.
//
//     embed runs/pretrain/model.safetensors data/triplets/triplets.jsonl runs/embed --towers runs/clip/towers

#include <CLI/CLI.hpp>

#include "m3i/data.hpp"
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
  Backbone<T> network;
  Psat<T> psat;

  Pretrained(const ModelInfo& info, Index tower_width)
      : config(info.config),
        chain(preprocessing_chain(info)),
        network(backbone_options(config.network, 1)),
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

/// How the vectors become a picture, and what its colours say.
struct MapRequest {
  std::string plot = "pca", color = "kind", groups;
  std::uint64_t seed = 0;
};

/// All vectors in the plane: volumes, slices, captions, n each.
struct Map {
  Tensor<T> points;  ///< [3 n, 2]
  std::string title;
  double share = 0;  ///< of the variance, for principal components
};

Map make_map(const Embeddings& e, const MapRequest& request) {
  const Tensor<T>& first = e.volume;
  const Index n = first.shape()[0], d = first.shape()[1], rows = 3 * n;
  const Tensor<T> all({rows, d});
  const Tensor<T>* kinds[] = {&e.volume, &e.slice, &e.text};
  for (Index k = 0; k < 3; ++k) all.slice(k * n, (k + 1) * n).copy_from(*kinds[k]);
  if (request.plot == "tsne") {
    const double perplexity = std::min(30.0, double(rows - 1) / 3);  // what so few points allow
    const TsneResult map = tsne(all, {.perplexity = perplexity});
    return {map.points, text("Embeddings, t-SNE (perplexity ", fixed_text(perplexity, 0), ")")};
  }
  if (request.plot == "umap") {
    const Index neighbours = std::min<Index>(15, rows - 1);
    return {umap(all, {.neighbours = neighbours, .seed = request.seed}),
            text("Embeddings, UMAP (", neighbours, " neighbours)")};
  }
  Map map{principal_components(all, 2), "", 0};
  double shown = 0, total = 0;
  for (const T v : map.points.span()) shown += double(v) * double(v);
  const Tensor<T> centred = detail::centred_points(all);
  for (const T v : centred.span()) total += double(v) * double(v);
  map.share = total > 0 ? shown / total : 0;
  map.title = text("Embeddings, two principal components (", fixed_text(100 * map.share, 0), " % of the variance)");
  return map;
}

/// The group of each triplet by the request's colour: its plane, its subject, or what --groups says of the subject.
/// Empty for the colours of the three kinds.
std::vector<std::string> groups_of(const std::vector<Triplet>& triplets, const MapRequest& request) {
  std::vector<std::string> groups;
  Json named;
  if (request.color == "group") named = read_json(request.groups);
  for (const Triplet& t : triplets) {
    if (request.color == "plane") groups.push_back(plane_name(t.plane));
    else if (request.color == "subject") groups.push_back(t.subject);
    else if (request.color == "group") {
      require<FileError>(named.is_object() && named.contains(t.subject), request.groups, ": says nothing of subject \"",
                         excerpt(t.subject), "\"; expected {\"subject\": \"group\", ...}");
      const Json& group = named[t.subject];
      groups.push_back(group.is_string() ? group.get<std::string>() : group.dump());
    }
  }
  return groups;
}

/// One series a kind, with a line from each volume to its slice and caption; or the volumes alone, one series a group.
std::string scatter(const Map& map, const std::vector<std::string>& groups) {
  const Index n = map.points.shape()[0] / 3;
  Chart chart{.title = map.title, .x = {"1"}, .y = {"2"}, .series = {}, .links = {}, .height = 480};
  const auto at = [&](Index row, Index axis) { return double(map.points.data()[2 * row + axis]); };
  const auto add = [&](Series& s, Index row) {
    s.x.push_back(at(row, 0));
    s.y.push_back(at(row, 1));
  };
  if (groups.empty()) {
    const char* names[] = {"volume", "slice", "caption"};
    for (Index k = 0; k < 3; ++k) {
      Series s{.name = names[k]};
      for (Index i = 0; i < n; ++i) {
        add(s, k * n + i);
        if (k > 0) chart.links.push_back({at(i, 0), at(i, 1), at(k * n + i, 0), at(k * n + i, 1)});
      }
      chart.series.push_back(std::move(s));
    }
    return scatter_chart(chart);
  }
  std::map<std::string, Index> sizes;
  for (const std::string& g : groups) ++sizes[g];
  std::vector<std::string> names;
  for (const auto& item : sizes) names.push_back(item.first);
  std::stable_sort(names.begin(), names.end(), [&](const auto& a, const auto& b) { return sizes[a] > sizes[b]; });
  constexpr std::size_t colours = 8;  // more cannot be told apart: the smallest groups share one
  if (names.size() > colours) names.resize(colours - 1), names.push_back("others");
  for (const std::string& group : names) {
    Series s{.name = group};
    for (Index i = 0; i < n; ++i) {
      const bool listed = std::find(names.begin(), names.end(), groups[std::size_t(i)]) != names.end();
      if (groups[std::size_t(i)] == group || (group == "others" && !listed)) add(s, i);
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
        const std::string& device_name,
        const MapRequest& map_request) {
  const auto triplets = read_triplets(path);
  check_triplets(triplets, path);
  require<ConfigError>(triplets.size() >= 2, path,
                       ": holds 1 triplet; embeddings are compared, so at least 2 are needed");
  const Device device = Device::parse(device_name);
  const Towers towers = load_towers(towers_path);
  const Pretrained model = load_pretrained(model_path, towers.width());
  to(model, device);
  const std::vector<std::string> groups = groups_of(triplets, map_request);
  make_folder(out);

  const Embeddings e = embed(model, towers, triplets, path, device);
  const Map map = make_map(e, map_request);
  OrderedJson json{{"model", model_path}, {"triplets", path}, {"count", triplets.size()}};
  json["volume_slice"] = measure_pair(e.volume, e.slice);
  json["volume_text"] = measure_pair(e.volume, e.text);
  json["slice_text"] = measure_pair(e.slice, e.text);
  json["mean_pairwise_cosine"] = {{"volume", mean_pairwise_cosine(e.volume)},
                                  {"slice", mean_pairwise_cosine(e.slice)},
                                  {"text", mean_pairwise_cosine(e.text)},
                                  {"encoder", mean_pairwise_cosine(e.encoder)}};
  json["map"] = {{"plot", map_request.plot}, {"color", map_request.color}};
  if (map.share > 0) json["pca_share"] = map.share;
  for (std::size_t i = 0; i < triplets.size(); ++i) {
    OrderedJson point{{"id", triplets[i].id}, {"subject", triplets[i].subject}};
    const char* names[] = {"volume", "slice", "text"};
    for (std::size_t g = 0; g < 3; ++g) {
      const T* at = map.points.data() + 2 * (g * triplets.size() + i);
      point[names[g]] = {at[0], at[1]};
    }
    if (!groups.empty()) point["group"] = groups[i];
    json["points"].push_back(std::move(point));
  }
  write_safetensors(out + "/embeddings.safetensors",
                    {{"volume", e.volume}, {"slice", e.slice}, {"text", e.text}, {"encoder", e.encoder}},
                    {{"format", "pt"}});
  write_file(out + "/embeddings.csv", csv(triplets, e));
  write_file(out + "/embeddings.svg", scatter(map, groups));
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
    MapRequest map;
    app.add_option("--plot", map.plot, "how vectors become a map: pca, tsne, umap")
        ->capture_default_str()
        ->check(CLI::IsMember({"pca", "tsne", "umap"}));
    app.add_option("--color", map.color, "what colours say: kind (volume, slice, caption), plane, subject, group")
        ->capture_default_str()
        ->check(CLI::IsMember({"kind", "plane", "subject", "group"}));
    app.add_option("--groups", map.groups, "for --color group: JSON {\"subject\": \"group\", ...}");
    app.add_option("--seed", map.seed, "of umap")->capture_default_str();
    app.footer(
        "Example:  embed runs/pretrain/model.safetensors data/triplets/triplets.jsonl runs/embed --towers "
        "runs/clip/towers\n"
        "          embed ... --plot umap --color group --groups classes.json");
    parse_command_line<CLI::ParseError>(app, argc, argv);
    require<UsageError>((map.color == "group") == !map.groups.empty(), "--color group and --groups FILE go together");
    return run(model, triplets, out, towers, device, map);
  });
}
