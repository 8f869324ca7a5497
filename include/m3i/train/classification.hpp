#pragma once
/// Classification of volumes: probabilities, and the measures of a set of cases.

#include <span>
#include <string>
#include <vector>

#include "m3i/autodiff/backward.hpp"
#include "m3i/metrics/classification.hpp"
#include "m3i/ops/softmax.hpp"
#include "m3i/train/finetune.hpp"
#include "m3i/train/group_chart.hpp"
#include "m3i/train/markup.hpp"
#include "m3i/train/volumes.hpp"

namespace m3i {
inline namespace M3I_ABI {

/// Probabilities of the classes for one preprocessed volume [S, S, S] -> [K]; `model(x)` are logits [N, K].
template <class Model, class T>
std::vector<double> class_probabilities(const Model& model, const Tensor<T>& voxels, Device device) {
  NoGrad guard;
  const Shape& n = voxels.shape();
  const Var<T> x(voxels.reshape({1, n[0], n[1], n[2], 1}).to(device));
  const auto p = softmax(model(x)).value().to_vector();
  return {p.begin(), p.end()};
}

/// The classification network of a file. Throws FileError if it is another kind of model or does not fit.
inline ClassificationModel<float> load_classification_model(const ModelFile& file, Device device) {
  require<FileError>(file.info.kind == "classification", file.path(), ": is a ", file.info.kind,
                     " model, expected one of ", "classification, as finetune_classification writes it");
  const ClassificationModel<float> model(file.info.config, file.info.classes());
  load_module<float>(model, *file.weights);
  to(model, device);
  return model;
}

/// One classified volume.
struct ClassifiedCase {
  std::string subject, image;
  std::int64_t label = 0;
  std::vector<double> probabilities;

  std::int64_t predicted() const {
    return std::max_element(probabilities.begin(), probabilities.end()) - probabilities.begin();
  }
};

namespace detail {

/// The AUC of a subset of cases: of class 1 with two classes, else the mean of one class against the rest.
inline double auc_of(const std::vector<ClassifiedCase>& cases, std::span<const Index> chosen, Index classes) {
  std::vector<std::int64_t> labels;
  std::vector<double> scores;
  for (const Index i : chosen) {
    const ClassifiedCase& c = cases[std::size_t(i)];
    labels.push_back(c.label);
    if (classes == 2) scores.push_back(c.probabilities[1]);
    else scores.insert(scores.end(), c.probabilities.begin(), c.probabilities.end());
  }
  if (classes == 2) return auc(scores, labels);
  const auto each = auc_one_vs_rest(Tensor<double>::from(scores, {Index(labels.size()), classes}), labels);
  double sum = 0;
  for (const double v : each) sum += v;
  return sum / double(each.size());
}

/// Adds NAME and NAME_interval, or null and NAME_error with the reason why it is undefined.
template <class Statistic>
void add_interval(
    OrderedJson& json, const std::string& name, Index cases, const Statistic& statistic, std::uint64_t seed) {
  std::vector<Index> all(static_cast<std::size_t>(cases));
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = Index(i);
  try {
    json[name] = statistic(std::span<const Index>(all));
    const Interval interval = bootstrap_interval(cases, statistic, seed);
    json[name + "_interval"] = {interval.low, interval.high};
  } catch (const ShapeError& error) {
    if (!json.contains(name)) json[name] = nullptr;
    json[name + "_error"] = error.what();
  }
}

}  // namespace detail

/// Accuracy and AUC with 95 % bootstrap intervals over cases, the confusion matrix, and every case. What is undefined
/// (no case, one class only) is null, with the reason beside it.
inline OrderedJson classification_metrics(const std::vector<ClassifiedCase>& cases,
                                          const std::vector<std::string>& classes,
                                          std::uint64_t seed) {
  const Index n = Index(cases.size()), k = Index(classes.size());
  OrderedJson out{{"count", n}, {"classes", classes}};
  detail::add_interval(
      out, "accuracy", n,
      [&](std::span<const Index> chosen) {
        require(!chosen.empty(), "accuracy: no cases");
        Index right = 0;
        for (const Index i : chosen) right += cases[std::size_t(i)].predicted() == cases[std::size_t(i)].label;
        return double(right) / double(chosen.size());
      },
      seed);
  detail::add_interval(
      out, "auc", n, [&](std::span<const Index> chosen) { return detail::auc_of(cases, chosen, k); }, seed);
  out["conventions"] = {
      {"auc", k == 2 ? "score of class 1; ties count one half" : "mean of one class against the rest"},
      {"interval", "95 %, percentile bootstrap over cases, 1000 resamples; resamples of one class are left out"},
      {"confusion", "rows are labels, columns are predictions"}};
  OrderedJson list = OrderedJson::array();
  std::vector<std::vector<Index>> confusion(classes.size(), std::vector<Index>(classes.size(), 0));
  for (const ClassifiedCase& c : cases) {
    ++confusion[std::size_t(c.label)][std::size_t(c.predicted())];
    list.push_back({{"subject", c.subject},
                    {"image", c.image},
                    {"class", c.label},
                    {"predicted", c.predicted()},
                    {"probabilities", c.probabilities}});
  }
  out["confusion"] = confusion;
  out["per_class"] = OrderedJson::array();
  for (std::size_t c = 0; c < classes.size(); ++c) {
    Index labelled = 0, predicted = 0;
    for (std::size_t d = 0; d < classes.size(); ++d) labelled += confusion[c][d], predicted += confusion[d][c];
    const auto share = [&](Index of) { return of ? OrderedJson(double(confusion[c][c]) / double(of)) : OrderedJson(); };
    out["per_class"].push_back({{"name", classes[c]},
                                {"count", labelled},
                                {"predicted", predicted},
                                {"sensitivity", share(labelled)},
                                {"precision", share(predicted)}});
  }
  out["cases"] = list;
  return out;
}

/// One line a case: subject, image, class, predicted, correct (1 or 0), and the probability of each class, in [0, 1].
inline std::string classification_csv(const std::vector<ClassifiedCase>& cases,
                                      const std::vector<std::string>& classes) {
  std::string out = "subject,image,class,predicted,correct";
  for (const std::string& name : classes) out += "," + detail::csv_field("probability " + name);
  out += '\n';
  for (const ClassifiedCase& c : cases) {
    out += text(detail::csv_field(c.subject), ',', detail::csv_field(c.image), ',',
                detail::csv_field(classes[std::size_t(c.label)]), ',',
                detail::csv_field(classes[std::size_t(c.predicted())]), ',', int(c.predicted() == c.label));
    for (const double p : c.probabilities) out += "," + text(p);
    out += '\n';
  }
  return out;
}

/// A metric with its interval, or the reason why there is none: "0.830 [0.610, 1.000]".
inline std::string metric_text(const OrderedJson& metrics, const std::string& key) {
  const auto value = [](const OrderedJson& v) { return fixed_text(v.get<double>(), 3); };
  const std::string interval = text(key, "_interval"), error = text(key, "_error");
  if (metrics.at(key).is_null()) return "undefined (" + metrics.at(error).get<std::string>() + ")";
  if (!metrics.contains(interval))
    return value(metrics.at(key)) + " (no interval: " + metrics.at(error).get<std::string>() + ")";
  return value(metrics.at(key)) + " [" + value(metrics.at(interval)[0]) + ", " + value(metrics.at(interval)[1]) + "]";
}

/// Names of classes 0 .. count - 1, made up where the data set has none.
inline std::vector<std::string> class_names(const std::vector<std::string>& names, Index count) {
  std::vector<std::string> out = names;
  for (Index c = Index(out.size()); c < count; ++c) out.push_back(text("class ", c));
  return out;
}

}  // namespace M3I_ABI
}  // namespace m3i
