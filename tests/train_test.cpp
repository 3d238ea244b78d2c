// The training loop: exact resume, signals, thread counts, NaN, learning.
#include <doctest/doctest.h>
#include <espalier/core/parallel.h>
#include <espalier/nn/progress.h>

#include <algorithm>

#include "sanitized.h"
#include "training.h"

using namespace espalier;
using namespace espalier::training;

namespace {

struct StopAt : TrainObserver {
  explicit StopAt(int64_t s, std::atomic<int>& f) : at(s), flag(f) {}
  void step_ends(const StepReport& r) override {
    if (r.step == at) flag = 15;
  }
  int64_t at;
  std::atomic<int>& flag;
};

// As a kill would: leaves in the middle of an epoch without a word.
struct Kill : TrainObserver {
  void step_begins(const StepContext& c) override {
    if (c.step == 6) throw std::runtime_error("killed");
  }
};

}  // namespace

TEST_CASE("a run that is killed, stopped or split has the bits of one that is not") {
  Folder whole("train_test_whole"), killed("train_test_killed"), stopped("train_test_stopped");
  Process straight(whole.path);
  const TrainResult result = straight.run();
  CHECK(result.state.step == 12);
  CHECK(result.state.rows.size() == 3);
  const std::string expected = bits(straight.model), metrics = without_seconds(text_of(whole.path + "/metrics.csv"));

  {
    Process first(killed.path);
    Kill kill;
    CHECK_THROWS_WITH(first.run({&kill}), "killed");
  }
  Process second(killed.path);
  CHECK(second.run().state.step == 12);
  CHECK(bits(second.model) == expected);
  CHECK(without_seconds(text_of(killed.path + "/metrics.csv")) == metrics);

  for (int64_t at : {1, 3, 6}) {
    CAPTURE(at);
    std::filesystem::remove_all(stopped.path);
    {
      Process first(stopped.path);
      std::atomic<int> flag{0};
      StopAt stop(at, flag);
      first.options.stop = &flag;
      const TrainResult half = first.run({&stop});
      CHECK(half.stopped == 15);
      CHECK(half.state.step == at + 1);
    }
    Process next(stopped.path);
    next.run();
    CHECK(bits(next.model) == expected);
    CHECK(without_seconds(text_of(stopped.path + "/metrics.csv")) == metrics);
  }

  Process finished(whole.path);  // nothing is left to do
  CHECK(finished.run().state.step == 12);
  CHECK(bits(finished.model) == expected);
  CHECK(without_seconds(text_of(whole.path + "/metrics.csv")) == metrics);
}

TEST_CASE("a checkpoint of another model is refused") {
  Folder folder("train_test_other");
  Process process(folder.path);
  process.options.epochs = 1;
  process.run();
  auto other = make_model("lenet");
  SGD optimizer(*other, {.lr = 0.1});
  CHECK_THROWS_AS(load_checkpoint(folder.path + "/last.pth", *other, optimizer), Error);
}

TEST_CASE("1, 2, 3, 4 and 8 threads train to the same bits") {
  const int before = num_threads();
  for (const auto& [name, steps] : {std::pair{"naive", 3u}, {"vgg11", 2u}, {"resnet20", 3u}, {"mobilenetv2", 1u}}) {
    if (thread_sanitizer && name == std::string("vgg11")) continue;
    CAPTURE(name);
    std::string first;
    for (int threads : {1, 2, 3, 4, 8}) {
      CAPTURE(threads);
      set_num_threads(threads);
      manual_seed(1);
      auto model = make_model(name);
      SGD optimizer(*model, {.lr = 0.01, .momentum = 0.9, .weight_decay = 1e-4});
      for (uint32_t step = 0; step < steps; ++step) {
        const Batch b = formula::batch(model_info(name).input, 3, step);
        optimizer.zero_grad();
        backward(loss_of(model_info(name))((*model)(b.images), b.labels));
        optimizer.step();
      }
      if (first.empty()) first = bits(*model);
      CHECK(bits(*model) == first);
    }
  }
  set_num_threads(before);
}

TEST_CASE("a loss that is not finite stops with the step and the layer") {
  Folder folder("train_test_nan");
  {
    Process process(folder.path);
    process.train_set.poison = 6;
    CHECK_THROWS_WITH(process.run(), "[train] the loss is nan at step 6 (epoch 1, batch 2): the images are not finite");
    CHECK(load_checkpoint(folder.path + "/last.pth", process.model, process.optimizer).epoch == 1);
  }
  Folder other("train_test_nan2");
  Process process(other.path);
  struct Spoil : TrainObserver {
    Module& model;
    explicit Spoil(Module& m) : model(m) {}
    void step_begins(const StepContext& c) override {
      if (c.step == 2) named_parameters(model)[3].second->value().mutable_data()[0] = INFINITY;
    }
  } spoil(process.model);
  CHECK_THROWS_WITH(process.run({&spoil}),
                    "[train] the loss is nan at step 2 (epoch 0, batch 2): the first output that is not finite is that "
                    "of head.0, whose parameter head.0.weight is not finite");
}

TEST_CASE("a network learns, progress is told in plain lines, and best.pth is the best") {
  Folder folder("train_test_learn");
  Process process(folder.path);
  struct Fixed : Source {
    using Source::Source;
    void start(int64_t) override { Source::start(0); }
  } same{small_input};
  process.options.epochs = 30;
  process.options.schedule = {};
  std::ostringstream lines;
  Progress progress(lines, false, "training");
  const TrainResult result = train(process.model, process.optimizer, same, &same, process.options, {&progress});
  CHECK(result.state.rows.back().test_loss < 0.2 * result.state.rows.front().test_loss);
  CHECK(result.state.best_accuracy == 1);
  const std::string told = lines.str();
  CHECK(told.starts_with("training: epoch 1/30  0:0"));
  CHECK(std::count(told.begin(), told.end(), '\n') >= 30);
  CHECK(told.find('\r') == std::string::npos);
  load_checkpoint(folder.path + "/best.pth", process.model, process.optimizer);
  CHECK(evaluate(process.model, same, process.options.loss).accuracy == 1);
  CHECK(process.model.training());
  CHECK(clock_text(3723) == "1:02:03");
}
