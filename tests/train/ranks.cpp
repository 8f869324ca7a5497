#include "catch.hpp"
#include "io/scratch.hpp"
#include "m3i/dist/fork.hpp"
#include "m3i/ops/arithmetic.hpp"
#include "m3i/ops/reduce.hpp"
#include "m3i/ot/problem.hpp"
#include "m3i/train/finetuning.hpp"

using namespace m3i;

namespace {

/// Five steps on weights [2], of which `fails(step, rank)` says where the loss cannot be computed.
std::vector<float> train(const std::string& folder, Communicator& ranks, const std::function<void(Index, int)>& fails) {
  const Var<float> w(Tensor<float>::full({2}, 1.0f), true);
  Trainer<float> trainer({w}, {.learning_rate = 0.1}, 5);
  make_folder(folder);
  TrainingRun<float> run(folder, {}, "two numbers", 5, "ranks");
  run.add_trainer("w", trainer);
  run.add_ranks(ranks);
  run.start(false);
  DataParallel<float> parallel(ranks, {w});
  MixedPrecision f32;
  run.loop([&](Index step, OrderedJson& record) {
    fails(step, ranks.rank());
    const auto own = Tensor<float>::full({2}, float(1 + step * ranks.rank()));
    return descend(sum(square(w - Var<float>(own))), trainer, parallel, f32, record);
  });
  require<Error>(trainer.steps() == 3, "rank ", ranks.rank(), " has taken ", trainer.steps(), " steps");
  return w.value().to_vector();
}

}  // namespace

TEST_CASE("ranks: a loss that one rank cannot compute skips the step on all", "[train][dist]") {
  const Scratch scratch;
  CHECK_NOTHROW(fork_ranks(3, [&](Communicator& c) {
    const auto w = train(scratch / "run", c, [](Index step, int rank) {
      if (step == 1 && rank == 2) throw OtError("infeasible_mass", "no plan exists");
      if (step == 3 && rank < 2) fail<NumericError>("a value is not finite");
    });
    const auto all = c.all_gather(Tensor<float>::from(w, {2}));
    for (Index i = 0; i < all.size(); ++i) require<Error>(all.data()[i] == w[0], "weights differ");
    return 0;
  }));
  std::vector<std::string> errors;
  for (const OrderedJson& record : read_log(scratch / "run/log.jsonl").records)
    errors.push_back(record.value("error", ""));
  CHECK(errors == std::vector<std::string>{"", "rank 2: no plan exists", "", "rank 0: a value is not finite", ""});
}

TEST_CASE("ranks: any other error in a step ends all of them", "[train][dist][errors]") {
  const Scratch scratch;
  CHECK_THROWS_WITH(fork_ranks(2,
                               [&](Communicator& c) {
                                 train(scratch / "run", c, [](Index step, int rank) {
                                   if (step == 1 && rank == 1) fail<FileError>("volume.nii: no such file");
                                 });
                                 return 0;
                               }),
                    "rank 1: volume.nii: no such file");
}

TEST_CASE("ranks: scores that they share are those of one process, bit for bit", "[train][dist]") {
  const std::vector<Index> entries{7, 3, 9, 1, 4};
  const auto score = [](Index entry) { return entry == 9 ? std::nan("") : 1 / double(entry); };
  const int ranks = GENERATE(1, 2, 3, 6);
  CHECK_NOTHROW(fork_ranks(ranks, [&](Communicator& c) {
    const auto scores = shared_scores(c, entries, score);
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const double expected = score(entries[i]);
      require<Error>(scores[i] == expected || (std::isnan(scores[i]) && std::isnan(expected)), "entry ", entries[i]);
    }
    require<Error>(shared_scores(c, {}, score).empty(), "no entries");
    return 0;
  }));
}
