// A small network, a small set and one process's worth of training: what the tests of the training loop share.
#pragma once
#include <espalier/compress/slim_penalty.h>
#include <espalier/core/io/file.h>
#include <espalier/nn/models.h>
#include <espalier/nn/state_dict.h>
#include <espalier/nn/train.h>

#include <cmath>
#include <filesystem>
#include <sstream>

#include "formula.h"

namespace espalier::training {

// 4 batches of 6 images that depend on the epoch; the last one is short.
struct Source : BatchSource {
  explicit Source(Shape s) : input(s) {}
  int64_t batches() const override { return 4; }
  int64_t examples() const override { return 21; }
  void start(int64_t e) override {
    epoch = e;
    place = 0;
  }
  bool next(Batch& b) override {
    if (place == batches()) return false;
    b = formula::batch(input, place == 3 ? 3 : 6, uint32_t(100 * epoch + 10 * place));
    if (poison >= 0 && epoch * batches() + place == poison) b.images.mutable_data()[5] = NAN;
    ++place;
    return true;
  }
  Shape input;
  int64_t epoch = 0, place = 0, poison = -1;
};

// A small network with everything that training touches: convolution, both batch norms, dropout, linear.
struct Small : Module {
  Sequential body, head;
  Small() {
    body.add<Conv2d>(1, 5, Conv2dOptions{.kernel = 3, .padding = 1, .bias = false});
    body.add<BatchNorm2d>(5);
    body.add<Dropout2d>(0.2f);
    body.add<MaxPool2d>(PoolOptions{.kernel = 2});
    body.add<Flatten>();
    head.add<Linear>(5 * 3 * 3, 16);
    head.add<BatchNorm1d>(16);
    head.add<Dropout>(0.3f);
    head.add<Linear>(16, 10);
  }
  std::string_view type() const override { return "Small"; }
  void members(Members& m) override {
    m("body", body);
    m("head", head);
  }
  Tensor forward(const Tensor& x) override { return head(body(x)); }
};

inline const Shape small_input{1, 7, 7};

// One process's worth of training: everything is made anew, as after a restart.
struct Process {
  struct Seed {
    Seed() { manual_seed(7); }
  } seed;
  Small model;
  SGD optimizer;
  Source train_set{small_input}, test_set{small_input};
  SlimPenalty penalty{1e-3};
  TrainOptions options;
  explicit Process(const std::string& out) : optimizer(model, {.lr = 0.05, .momentum = 0.9, .weight_decay = 1e-4}) {
    if (!out.empty()) std::filesystem::create_directories(out);
    options.epochs = 3;
    options.loss = [](const Tensor& y, const Tensor& t) { return cross_entropy(y, t); };
    options.schedule = one_cycle_lr({.max_lr = 0.1, .total_steps = 12});
    options.out = out;
    options.resume = true;
  }
  TrainResult run(std::vector<TrainObserver*> observers = {}) {
    observers.insert(observers.begin(), &penalty);
    return train(model, optimizer, train_set, &test_set, options, observers);
  }
};

inline std::string bits(Module& m) {
  std::string all;
  for (auto& [name, t] : state_dict(m)) all.append(static_cast<const char*>(t.in().data), t.bytes());
  return all;
}

inline std::string text_of(const std::string& path) {
  const auto bytes = read_file(path, 1 << 20);
  return {bytes.begin(), bytes.end()};
}

// metrics.csv without its last column, the time.
inline std::string without_seconds(const std::string& csv) {
  std::istringstream in(csv);
  std::string all;
  for (std::string line; std::getline(in, line);) all += line.substr(0, line.rfind(',')) + "\n";
  return all;
}

struct Folder {
  std::string path;
  explicit Folder(std::string p) : path(std::move(p)) { std::filesystem::remove_all(path); }
  ~Folder() { std::filesystem::remove_all(path); }
};

}  // namespace espalier::training
