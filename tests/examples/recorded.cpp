/// run.cuda_graph: on the host nothing is recorded, but inputs and random numbers go the way of a recorded step.

#include <algorithm>
#include <cmath>

#include "log_column.hpp"
#include "programs.hpp"

using namespace programs;

TEST_CASE("run.cuda_graph: the programs end with the bits of a run without it", "[examples]") {
  const auto check = [](const std::string& program, const Arguments& fixed, const Arguments& more) {
    const Scratch folder;
    const std::string plain = folder / "plain", recorded = folder / "recorded";
    const auto arguments = [&](const std::string& out, const std::string& graph) {
      Arguments all{fixed[0], out};
      all.insert(all.end(), fixed.begin() + 1, fixed.end());
      Arguments settings = more;
      settings.insert(settings.end(), {"--set", "network.drop_path=0.3", "--set", "run.cuda_graph=" + graph});
      return with_tiny(all, settings);
    };
    done(program, arguments(plain, "false"));
    done(program, arguments(recorded, "true"));
    INFO(program);
    // A model file names the setting, so it is the logs that are compared: all digits of every loss and gradient.
    for (const std::string key : {"loss", "grad_norm"}) {
      auto found = column(recorded + "/log.jsonl", key), expected = column(plain + "/log.jsonl", key);
      for (auto* const values : {&found, &expected})
        std::replace_if(
            values->begin(), values->end(), [](double v) { return std::isnan(v); }, -1);  // steps that f16 skips
      CHECK(found == expected);
      CHECK(found.size() > 5);
    }
  };
  const Arguments data{World::get().phantoms()};
  for (const std::string dtype : {"f32", "bf16", "f16"})
    check("pretrain", {World::get().triplets(), "--towers", World::get().towers()},
          {"--set", "pretrain.epochs=1000", "--set", "pretrain.max_steps=6", "--dtype", dtype});
  for (const std::string task : {"segmentation", "classification"})
    check("finetune_" + task, data,
          {"--set", task + ".training.epochs=1000", "--set", task + ".training.max_steps=8", "--set",
           task + ".training.freeze_epochs=1", "--set", "segmentation.deep_supervision=true", "--set",
           "classification.dropout=0.2"});
}

TEST_CASE("run.cuda_graph: several ranks are refused before anything is computed", "[examples]") {
  const Scratch folder;
  refuses("pretrain",
          with_tiny({World::get().triplets(), folder / "out", "--towers", World::get().towers()},
                    {"--ranks", "2", "--set", "run.cuda_graph=true"}),
          {"run.cuda_graph", "2 ranks"});
}

TEST_CASE("pretrain on the emulated device, where transport stays, gives the host's losses", "[examples]") {
  const Scratch folder;
  for (const std::string device : {"cpu", "emulated"})
    done("pretrain", with_tiny({World::get().triplets(), folder / device, "--towers", World::get().towers()},
                               {"--set", "pretrain.max_steps=3", "--set", "run.device=" + device}));
  for (const std::string key : {"loss", "alignment", "ot_text.diagonal_mass"}) {
    const auto found = column(folder / "emulated/log.jsonl", key), expected = column(folder / "cpu/log.jsonl", key);
    REQUIRE(found.size() == 3);
    for (std::size_t i = 0; i < 3; ++i) CHECK(found[i] == Approx(expected[i]).epsilon(1e-4));
  }
}
