// How the time of a training step and of inference grows with the edge of the volume, the batch and the threads: one
// JSON file with every time and the fitted exponents, and one chart a question.
//
//     scaling FOLDER [--largest 160] [--steps 3]      writes FOLDER/scaling.json, scaling-{edge,batch,threads}.svg
//
// t = c n^p has the slope p on doubly logarithmic axes, which is what is fitted (least squares). p = 3 for the edge
// says that a voxel costs the same at every size, p = 1 for the batch that a case does.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "networks.hpp"
#include "step.hpp"

#include "m3i/core/atomic_file.hpp"
#include "m3i/core/parallel.hpp"
#include "m3i/testing.hpp"
#include "m3i/train/plot.hpp"

namespace {
using namespace m3i;

struct Work {
  std::string network;
  bool infer = false;
  std::string name() const {
    return (network == "unetr" ? "UNETR-768" : "nnFormer-96") + text(infer ? " inference" : " step");
  }
};

struct Point {
  Index edge = 0, batch = 1;
  int threads = 1;
};

double seconds(const Work& work, const Point& at, Index steps) {
  set_thread_count(at.threads);
  double best = 0;
  bench::with_network(work.network, at.edge, 96, false, [&](const auto& net) {
    const Var<float> x(testing::wave<float>({at.batch, at.edge, at.edge, at.edge, 1}));
    best = bench::measure_step(net, x, work.infer, steps).step();
  });
  memory_release_cached();
  return best;
}

/// The least-squares slope of log y over log x.
double fitted_exponent(const std::vector<double>& x, const std::vector<double>& y) {
  double mean_x = 0, mean_y = 0, xx = 0, xy = 0;
  const auto n = double(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) mean_x += std::log(x[i]) / n, mean_y += std::log(y[i]) / n;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double dx = std::log(x[i]) - mean_x;
    xx += dx * dx, xy += dx * (std::log(y[i]) - mean_y);
  }
  return xy / xx;
}

/// One question: the same works along one axis.
struct Study {
  using Axis = Index Point::*;  // a name of its own: nvcc warns of the type's declarator
  std::string key, title, label;
  std::vector<Point> points;
  Axis index = nullptr;  ///< the axis, unless it is the threads
  double at(const Point& p) const { return index ? double(p.*index) : double(p.threads); }
};

nlohmann::json run(const Study& study, const std::vector<Work>& works, Index steps, const std::string& folder) {
  Chart chart{.title = study.title, .x = {study.label, true}, .y = {"seconds", true}};
  nlohmann::json rows = nlohmann::json::array();
  for (const Work& work : works) {
    Series series;
    for (const Point& p : study.points) {
      const double s = seconds(work, p, steps);
      series.x.push_back(study.at(p)), series.y.push_back(s);
      rows.push_back(
          {{"work", work.name()}, {"edge", p.edge}, {"batch", p.batch}, {"threads", p.threads}, {"seconds", s}});
      std::printf("%-24s edge %4ld  batch %2ld  threads %d  %9.4f s\n", work.name().c_str(), long(p.edge),
                  long(p.batch), p.threads, s);
      std::fflush(stdout);
    }
    const double exponent = fitted_exponent(series.x, series.y);
    rows.back()["fitted_exponent"] = exponent;
    std::printf("%-24s grows as %s^%.2f\n", work.name().c_str(), study.key.c_str(), exponent);
    series.name = text(work.name(), ": ", study.key, "^", fixed_text(exponent, 2));
    chart.series.push_back(std::move(series));
  }
  write_file(folder + "/scaling-" + study.key + ".svg", line_chart(chart));
  return rows;
}
}  // namespace

int main(int argc, char** argv) {
  std::string folder;
  Index largest = 160, steps = 3;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&] { return i + 1 < argc ? std::atol(argv[++i]) : 0; };
    if (word == "--largest") largest = value();
    else if (word == "--steps") steps = value();
    else folder = word;
  }
  if (folder.empty() || folder[0] == '-' || largest < 64 || steps < 1) {
    std::fputs("scaling FOLDER [--largest 160] [--steps 3]\n", stderr);
    return 2;
  }
  const int all = thread_count();
  const std::vector<Work> works = {{"nnformer", false}, {"nnformer", true}, {"unetr", false}, {"unetr", true}};
  Study edge{"edge", "Time against the edge of the volume (batch 1, all threads)", "edge, voxels", {}, &Point::edge};
  for (Index e = 32; e <= largest; e += 32) edge.points.push_back({e, 1, all});
  Study batch{"batch", "Time against the batch (64^3 voxels, all threads)", "batch", {}, &Point::batch};
  for (const Index b : {1, 2, 4, 8}) batch.points.push_back({64, b, all});
  Study threads{"threads", "Time against the threads (96^3 voxels, batch 1)", "threads", {}};
  for (int t = 1; t <= all; t *= 2) threads.points.push_back({96, 1, t});
  nlohmann::json out;
  try {
    for (const Study& study : {edge, batch, threads})
      if (study.points.size() > 1) out[study.key] = run(study, works, steps, folder);
    write_file(folder + "/scaling.json", out.dump(1) + "\n");
  } catch (const Error& error) {
    std::fprintf(stderr, "scaling: %s\n", error.what());
    return 1;
  }
}
