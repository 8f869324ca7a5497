#include "log_column.hpp"
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

void check_close(const std::vector<double>& got, const std::vector<double>& expected, double tolerance) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(expected[i]).epsilon(tolerance));
}
/// The losses, and the norms of the gradients that the ranks have averaged.
void check_same_steps(const std::string& out, const std::string& expected, double tolerance) {
  for (const std::string key : {"loss", "grad_norm"}) {
    INFO(key);
    check_close(column(out + "/log.jsonl", key), column(expected + "/log.jsonl", key),
                key == "loss" ? std::min(tolerance, 1e-4) : tolerance);
  }
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
  check_same_steps(folder / "two", folder / "one", 1e-3);

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
  check_same_steps(folder / "two", folder / "one", 1e-3);
}

namespace {

/// Eight steps of fine-tuning that draw no random numbers of their own.
Arguments finetuning(const std::string& task, const std::string& out, const Arguments& more) {
  const std::string training = task + ".training.";
  Arguments all{"--set", training + "epochs=1000",
                "--set", training + "max_steps=8",
                "--set", training + "batch_size=4",
                "--set", training + "validate_every=2",
                "--set", training + "freeze_epochs=1",
                "--set", "segmentation.deep_supervision=true",
                "--set", "segmentation.loss=dice_cross_entropy",
                "--set", training + "optimizer.learning_rate=1e-3"};
  all.insert(all.end(), more.begin(), more.end());
  return with_tiny({World::get().phantoms(), out}, all);
}

}  // namespace

TEST_CASE("finetune: two and four ranks give one process's losses and validation, and one set of files", "[examples]") {
  const std::string task = GENERATE("segmentation", "classification");
  const Scratch folder;
  const auto names = [](const std::string& out) {
    std::vector<std::string> list;
    for (const auto& [path, bytes] : snapshot(out)) list.push_back(path.substr(out.size()));
    return list;
  };
  done("finetune_" + task, finetuning(task, folder / "1", {}));
  const std::string score = task == "segmentation" ? "validation" : "validation_loss";
  const auto validated = column(folder / "1/log.jsonl", score);
  CHECK(validated.size() > 2);
  for (const std::string ranks : {"2", "4"}) {
    INFO(task << " on " << ranks << " ranks");
    done("finetune_" + task, finetuning(task, folder / ranks, {"--ranks", ranks}));
    check_same_steps(folder / ranks, folder / "1", 1e-3);
    check_close(column(folder / ranks + "/log.jsonl", score), validated, 1e-4);
    CHECK(names(folder / ranks) == names(folder / "1"));
  }
  refuses("finetune_" + task, finetuning(task, folder / "3", {"--ranks", "3"}), {"batch size 4", "3 ranks"});
  CHECK_FALSE(fs::exists(folder / "3"));
}

TEST_CASE("finetune: in bf16 and f16 two ranks take one process's steps, to the precision of the type", "[examples]") {
  const Scratch folder;
  for (const std::string dtype : {"bf16", "f16"}) {
    for (const std::string ranks : {"1", "2"})
      done("finetune_segmentation",
           finetuning("segmentation", folder / (dtype + ranks),
                      {"--dtype", dtype, "--ranks", ranks, "--set", "segmentation.training.max_steps=6"}));
    check_same_steps(folder / (dtype + "2"), folder / (dtype + "1"), 1e-2);
  }
}

TEST_CASE("finetune: Ctrl-C in one rank stops all after the same step; resumed, they end with the same bits",
          "[examples]") {
  const Scratch folder;
  const Arguments more{"--ranks", "2",
                       "--set",   "classification.training.max_steps=40",
                       "--set",   "classification.training.validate_every=10"};
  const std::string whole = folder / "whole", out = folder / "stopped";
  done("finetune_classification", finetuning("classification", whole, more));
  Running run("finetune_classification", finetuning("classification", out, more));
  Running::until([&] { return lines_of(out + "/log.jsonl") >= 7; });
  REQUIRE(run.children().size() == 2);
  ::kill(run.children()[1], SIGINT);
  const Answer answer = run.wait();
  INFO(answer.errors);
  CHECK(answer.code == 130);
  CHECK_FALSE(fs::exists(out + "/metrics.json"));
  Arguments again = finetuning("classification", out, more);
  again.push_back("--resume");
  done("finetune_classification", again);
  CHECK(slurp(out + "/model.safetensors") == slurp(whole + "/model.safetensors"));
  CHECK(slurp(out + "/metrics.json") == slurp(whole + "/metrics.json"));
}

TEST_CASE("finetune: a killed rank ends all of them with one message that names it", "[examples]") {
  const Scratch folder;
  Running run("finetune_classification",
              finetuning("classification", folder / "out",
                         {"--ranks", "2", "--set", "classification.training.max_steps=100000"}));
  Running::until([&] { return lines_of(folder / "out/log.jsonl") >= 3; });
  REQUIRE(run.children().size() == 2);
  ::kill(run.children()[1], SIGKILL);
  const Answer answer = run.wait();
  CHECK(answer.code == 2);
  const auto at = answer.errors.find("finetune_classification: error: rank 1: ended by signal 9");
  REQUIRE(at != std::string::npos);
  CHECK(answer.errors.find("error:", answer.errors.find("error:") + 1) == std::string::npos);
}
