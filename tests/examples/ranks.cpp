#include "programs.hpp"

using namespace programs;

namespace {

Arguments training(const std::string& out, const Arguments& more) {
  Arguments all{"--set", "pretrain.epochs=1000",
                "--set", "pretrain.max_steps=30",
                "--set", "pretrain.batch_size=4",
                "--set", "pretrain.alignment_batch=global",
                "--set", "pretrain.reconstruction.mask_ratio=0.5"};
  all.insert(all.end(), more.begin(), more.end());
  return with_tiny({World::get().triplets(), out, "--towers", World::get().towers()}, all);
}

/// The losses of a log, one a step.
std::vector<double> losses_of(const std::string& log) {
  std::istringstream lines(slurp(log));
  std::vector<double> out;
  for (std::string line; std::getline(lines, line);) {
    const auto at = line.rfind("\"loss\":", line.find("\"grad_norm\""));
    REQUIRE(at != std::string::npos);
    out.push_back(std::strtod(line.c_str() + at + 7, nullptr));
  }
  return out;
}

long lines_of(const std::string& path) {
  const std::string bytes = slurp(path);
  return std::count(bytes.begin(), bytes.end(), '\n');
}

}  // namespace

TEST_CASE("pretrain: two ranks give one process's losses; stopped and resumed they give the same bits", "[examples]") {
  const Scratch folder;
  done("pretrain", training(folder / "one", {}));
  done("pretrain", training(folder / "two", {"--ranks", "2"}));
  const auto expected = losses_of(folder / "one/log.jsonl"), got = losses_of(folder / "two/log.jsonl");
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(expected[i]).epsilon(1e-4));

  const std::string out = folder / "stopped";
  Running run("pretrain", training(out, {"--ranks", "2"}));
  Running::until([&] { return lines_of(out + "/log.jsonl") >= 5; });
  run.send(SIGINT);
  CHECK(run.wait().code == 130);
  done("pretrain", training(out, {"--ranks", "2", "--resume"}));
  CHECK(slurp(out + "/model.safetensors") == slurp(folder / "two/model.safetensors"));
}

TEST_CASE("pretrain: a batch that the ranks cannot share is refused once, with the rank", "[examples]") {
  const Scratch folder;
  refuses("pretrain", training(folder / "out", {"--ranks", "3"}), {"batch size 4", "3 ranks"});
}

TEST_CASE("fit_clip: two ranks give one process's losses", "[examples]") {
  const Scratch folder;
  done("fit_clip", with_tiny({World::get().triplets(), folder / "one"}));
  done("fit_clip", with_tiny({World::get().triplets(), folder / "two"}, {"--ranks", "2"}));
  const auto expected = losses_of(folder / "one/log.jsonl"), got = losses_of(folder / "two/log.jsonl");
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(expected[i]).epsilon(1e-4));
}
