#include "programs.hpp"

using namespace programs;

namespace {

/// Sixty steps, a checkpoint every ten.
Arguments training(const std::string& out, const Arguments& more = {}) {
  Arguments all{"--set", "pretrain.epochs=1000", "--set", "pretrain.max_steps=60", "--set", "run.save_every=10"};
  all.insert(all.end(), more.begin(), more.end());
  return with_tiny({World::get().triplets(), out, "--towers", World::get().towers()}, all);
}

long lines_of(const std::string& path) {
  const std::string bytes = slurp(path);
  return std::count(bytes.begin(), bytes.end(), '\n');
}

/// What the log says, without the times.
std::string losses_of(const std::string& log) {
  std::istringstream lines(slurp(log));
  std::string out;
  for (std::string line; std::getline(lines, line);) out += line.substr(0, line.find("\"data_wait\"")) + "\n";
  return out;
}

const std::string& uninterrupted() {
  static const Scratch folder;
  static const std::string out = [] {
    done("pretrain", training(folder / "whole"));
    return folder / "whole";
  }();
  return out;
}

void check_same_end(const std::string& out) {
  CHECK(slurp(out + "/model.safetensors") == slurp(uninterrupted() + "/model.safetensors"));
  CHECK(losses_of(out + "/log.jsonl") == losses_of(uninterrupted() + "/log.jsonl"));
}

}  // namespace

TEST_CASE("pretrain: killed at step 37 and resumed, it ends with the bits of an uninterrupted run", "[examples]") {
  const Scratch folder;
  const std::string out = folder / "killed";
  {
    Running run("pretrain", training(out));
    Running::until([&] { return lines_of(out + "/log.jsonl") >= 37; });
    run.send(SIGKILL);
    CHECK(run.wait().code == 128 + SIGKILL);
  }
  CHECK_FALSE(fs::exists(out + "/model.safetensors"));
  CHECK_THAT(done("pretrain", training(out, {"--resume"})).out, Catch::Contains("continues after step"));
  check_same_end(out);
  CHECK_THAT(done("pretrain", training(out, {"--resume", "--set", "run.keep=2"})).out,
             Catch::Contains("note: another setting than before: run.keep: 2 here, 3 there"));
}

TEST_CASE("pretrain: Ctrl-C saves and leaves with 130; --resume continues to the same bits", "[examples]") {
  const Scratch folder;
  const std::string out = folder / "stopped";
  Running run("pretrain", training(out));
  Running::until([&] { return lines_of(out + "/log.jsonl") >= 13; });
  run.send(SIGINT);
  const Answer answer = run.wait();
  CHECK(answer.code == 130);
  CHECK_THAT(answer.out + answer.errors, Catch::Contains("--resume"));
  CHECK_FALSE(fs::exists(out + "/model.safetensors"));
  done("pretrain", training(out, {"--resume"}));
  check_same_end(out);
}

TEST_CASE("pretrain: a folder in which a run is going on is refused, and that run goes on", "[examples]") {
  const Scratch folder;
  const std::string out = folder / "busy";
  Running run("pretrain", training(out));
  Running::until([&] { return lines_of(out + "/log.jsonl") >= 3; });
  run.send(SIGSTOP);  // so that it is there while the other one is refused
  refuses("pretrain", training(out, {"--resume"}), {"log.jsonl", "is being written"});
  run.send(SIGCONT);
  CHECK(run.wait().code == 0);
  check_same_end(out);
}

TEST_CASE("pretrain: a loss that is not finite stops it, and the last good checkpoint stays", "[examples]") {
  const Scratch folder;
  const std::string out = folder / "diverged";
  const Answer good = done("pretrain", training(out, {"--set", "pretrain.max_steps=10"}));
  const std::string kept = out + "/checkpoints/step-000000000010.safetensors", before = slurp(kept);
  REQUIRE_FALSE(before.empty());
  refuses("pretrain",
          training(out, {"--resume", "--set", "pretrain.optimizer.learning_rate=1e30", "--set", "run.max_bad_steps=3"}),
          {"not finite", "step-000000000010.safetensors", "learning rate"});
  CHECK(slurp(kept) == before);
}

TEST_CASE("pretrain: a disk that fills up ends it with a message, and the last whole checkpoint stays", "[examples]") {
  const Scratch folder;
  const std::string out = folder / "full";
  done("pretrain", training(out, {"--set", "pretrain.max_steps=10"}));
  const std::string kept = out + "/checkpoints/step-000000000010.safetensors", before = slurp(kept);
  Running run("pretrain", training(out, {"--resume"}), rlim_t(before.size() / 2));
  const Answer answer = run.wait();
  INFO(answer.errors);
  CHECK(answer.code == 2);
  CHECK_THAT(answer.errors, Catch::Contains("step-000000000020.safetensors") && Catch::Contains("unchanged"));
  CHECK(slurp(kept) == before);
  done("pretrain", training(out, {"--resume"}));
  check_same_end(out);
}

TEST_CASE("pretrain and fit_clip: in bf16 and f16, killed and resumed, they end with the bits of an uninterrupted run",
          "[examples]") {
  const Scratch folder;
  const auto check = [&](const std::string& program, const std::string& model, const auto& arguments) {
    for (const std::string dtype : {"bf16", "f16"}) {
      const std::string whole = folder / (program + dtype), killed = whole + "-killed";
      done(program, arguments(whole, {"--dtype", dtype}));
      {
        Running run(program, arguments(killed, {"--dtype", dtype}));
        Running::until([&] { return lines_of(killed + "/log.jsonl") >= 13; });
        run.send(SIGKILL);
        run.wait();
      }
      done(program, arguments(killed, {"--dtype", dtype, "--resume"}));
      INFO(program << " " << dtype);
      CHECK(losses_of(killed + "/log.jsonl") == losses_of(whole + "/log.jsonl"));
      CHECK(slurp(killed + model) == slurp(whole + model));
    }
  };
  check("pretrain", "/model.safetensors", [](const std::string& out, Arguments more) {
    more.insert(more.end(), {"--set", "pretrain.max_steps=20"});
    return training(out, more);
  });
  check("fit_clip", "/towers/model.safetensors", [](const std::string& out, Arguments more) {
    more.insert(more.end(), {"--set", "clip.epochs=1000", "--set", "clip.max_steps=20", "--set", "run.save_every=10"});
    return with_tiny({World::get().triplets(), out}, more);
  });
  refuses("pretrain", training(folder / "wrong", {"--dtype", "fp16"}), {"run.dtype", "fp16", "bf16"});
}
