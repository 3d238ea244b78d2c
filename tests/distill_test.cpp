// Distillation: PyTorch's numbers, finite differences, hints that learn and leave; and batch norms measured anew.
#include <doctest/doctest.h>
#include <espalier/compress/distill.h>
#include <espalier/compress/recalibrate.h>
#include <espalier/core/tape.h>
#include <espalier/nn/init.h>
#include <espalier/nn/model_file.h>
#include <espalier/nn/trace.h>

#include <cmath>

#include "refusal.h"
#include "training.h"

using namespace espalier;
using training::Folder;
using training::Small;
using training::small_input;

namespace {

const std::vector<float> student_logits{0.3f, -1.2f, 2.0f, 0.5f, 1.5f, -0.7f},
    teacher_logits{1.0f, -0.5f, 0.8f, -2.0f, 2.5f, 0.1f};

// The same in double: mean over rows of KL(softmax(t/T) || softmax(s/T)).
double kl(const std::vector<double>& s, const std::vector<double>& t, double T, size_t rows) {
  const size_t n = s.size() / rows;
  double all = 0;
  for (size_t r = 0; r < rows; ++r) {
    double zs = 0, zt = 0;
    for (size_t i = r * n; i < (r + 1) * n; ++i) {
      zs += std::exp(s[i] / T);
      zt += std::exp(t[i] / T);
    }
    for (size_t i = r * n; i < (r + 1) * n; ++i) {
      const double p = std::exp(t[i] / T) / zt;
      all += p * (std::log(p) - s[i] / T + std::log(zs));
    }
  }
  return all / double(rows);
}

std::vector<double> doubles(const std::vector<float>& v) { return {v.begin(), v.end()}; }

Loss plain() {
  return [](const Tensor& y, const Tensor& t) { return cross_entropy(y, t); };
}

}  // namespace

TEST_CASE("PyTorch's KLDivLoss and its gradient; finite differences") {
  // torch.nn.functional.kl_div(log_softmax(s/T), softmax(t/T), reduction='batchmean') and its gradient, float64.
  struct Case {
    double T, loss;
    std::vector<double> gradient;
  };
  const Case cases[] = {
      {1,
       0.334194060749,
       {-0.170215228383, -0.0379801521618, 0.208195380545, 0.119353151492, -0.115652941421, -0.00370021007109}},
      {2.5,
       0.0994403689331,
       {-0.0241337010495, -0.0132448567009, 0.0373785577504, 0.0429423098907, -0.0332644377159, -0.00967787217478}},
      {5,
       0.0299356445117,
       {-0.00522623527537, -0.0038716905983, 0.00909792587366, 0.0131703282009, -0.00876937631078, -0.00440095189015}}};
  for (const Case& c : cases) {
    CAPTURE(c.T);
    Tensor s = Tensor::from(student_logits, {2, 3});
    s.set_requires_grad();
    const Tensor t = Tensor::from(teacher_logits, {2, 3});
    const Tensor loss = distillation_loss(s, t, c.T);
    CHECK(loss.item() == doctest::Approx(c.loss).epsilon(1e-5));
    CHECK(loss.item() == doctest::Approx(kl(doubles(student_logits), doubles(teacher_logits), c.T, 2)).epsilon(1e-5));
    backward(loss);
    const auto g = s.grad().to_vector();
    for (size_t i = 0; i < g.size(); ++i) {
      CHECK(g[i] == doctest::Approx(c.gradient[i]).epsilon(1e-4));
      auto up = doubles(student_logits), down = up;
      up[i] += 1e-4;
      down[i] -= 1e-4;
      const double slope = (kl(up, doubles(teacher_logits), c.T, 2) - kl(down, doubles(teacher_logits), c.T, 2)) / 2e-4;
      CHECK(g[i] == doctest::Approx(slope).epsilon(1e-4));
    }
  }
}

TEST_CASE("the loss is alpha times the labels' and beta times T squared times the teacher's; an evaluation is plain") {
  manual_seed(2);
  Small student, teacher;
  student.eval();
  training::Source source(small_input);
  source.start(0);
  Batch batch;
  source.next(batch);
  const Tensor y = student(batch.images);
  teacher.eval();
  Tensor t;
  {
    NoGrad no_grad;
    t = teacher(batch.images);
  }
  const double ce = cross_entropy(y, batch.labels).item(), k = distillation_loss(y, t, 3).item();
  const auto total = [&](DistillOptions options) {
    Distillation d(student, teacher, plain(), options);
    return d.loss()(y, batch).item();
  };
  CHECK(total({.temperature = 3, .alpha = 0.25, .beta = 2}) == doctest::Approx(0.25 * ce + 2 * 9 * k).epsilon(1e-5));
  CHECK(total({.temperature = 3, .alpha = 1, .beta = 0.8, .t_squared = false}) ==
        doctest::Approx(ce + 0.8 * k).epsilon(1e-5));
  CHECK(total({.temperature = 3, .alpha = 0, .beta = 1}) == doctest::Approx(9 * k).epsilon(1e-5));
  NoGrad no_grad;
  CHECK(total({.temperature = 3}) == doctest::Approx(ce).epsilon(1e-6));
}

TEST_CASE("a student of a teacher with its own weights and no labels has nothing to learn") {
  manual_seed(3);
  Small teacher, student;
  for (auto& [name, m] : named_modules(student))
    if (auto* d = dynamic_cast<Dropout*>(m)) d->p = 0;
  load_state_dict(student, state_dict(teacher));
  Distillation d(student, teacher, plain(), {.alpha = 0, .beta = 1});
  student.eval();
  training::Source source(small_input);
  source.start(0);
  Batch batch;
  source.next(batch);
  const Tensor loss = d.loss()(student(batch.images), batch);
  CHECK(std::abs(loss.item()) < 1e-5);
  backward(loss);
  for (auto& [name, p] : named_parameters(student)) {
    if (p->grad().defined())
      for (const float g : p->grad().to_vector()) CHECK(std::abs(g) < 1e-4);
  }
  for (auto& [name, p] : named_parameters(teacher)) CHECK(!p->grad().defined());
}

TEST_CASE("hints: wider features pass a 1x1 that learns with the student, travels in checkpoints and leaves") {
  manual_seed(4);
  Sequential teacher;
  teacher.add<Conv2d>(1, 8, Conv2dOptions{.kernel = 3, .padding = 1});
  teacher.add<MaxPool2d>(PoolOptions{.kernel = 2});
  teacher.add<Flatten>();
  teacher.add<Linear>(8 * 9, 10);
  const Folder folder("distill_hints");
  const DistillOptions options{.hints = {{"body.0", "0", 2.0}, {"head.3", "3"}},
                               .example = Tensor::zeros({1, 1, 7, 7})};
  std::string whole;
  const auto run = [&](const std::string& out, std::atomic<int>* stop, TrainObserver* watch) {
    training::Process process(out);
    Distillation d(process.model, teacher, plain(), options);
    process.options.loss = {};
    process.options.batch_loss = d.loss();
    process.options.stop = stop;
    std::vector<TrainObserver*> observers;
    if (watch) observers.push_back(watch);
    const auto learned = learned_parameters(process.model);
    const auto found =
        std::find_if(learned.begin(), learned.end(), [](const auto& l) { return l.first == "body.0.output_hint"; });
    REQUIRE(found != learned.end());
    CHECK(found->second->value().shape() == Shape{8, 5, 1, 1});
    const auto before = found->second->value().to_vector();
    process.run(observers);
    if (!stop) CHECK(found->second->value().to_vector() != before);
    return training::bits(process.model);
  };
  whole = run("", nullptr, nullptr);
  struct Stop : TrainObserver {
    std::atomic<int> flag{0};
    void step_ends(const StepReport& r) override { flag = r.step == 5; }
  } stop;
  run(folder.path, &stop.flag, &stop);
  CHECK(run(folder.path, nullptr, nullptr) == whole);
  // Nobody listens afterwards, and a file with such a convolution is read without the teacher.
  training::Process again(folder.path);
  CHECK(named_leaves(again.model).size() == state_dict(again.model).size());
  restore_ports(again.model, {{"body.0.output_hint", Tensor::zeros({8, 5, 1, 1})}});
  CHECK(again.model.body[0].output.empty());

  Small student;
  const auto refused = [&](DistillOptions o) {
    return refusal([&] { Distillation(student, teacher, plain(), std::move(o)); }, ErrorKind::usage);
  };
  CHECK(refused({.temperature = 0}).find("temperature") != std::string::npos);
  CHECK(refused({.hints = {{"body.9", "0"}}, .example = Tensor::zeros({1, 1, 7, 7})}).find("no layer \"body.9\"") !=
        std::string::npos);
  CHECK(refused({.hints = {{"body.0", "1"}}, .example = Tensor::zeros({1, 1, 7, 7})}).find("same height") !=
        std::string::npos);
  CHECK(refused({.hints = {{"body.0", "0"}}}).find("example") != std::string::npos);
  CHECK(student.body[0].output.empty());
  CHECK(teacher[0].output.empty());
}

TEST_CASE("recalibration: plain means of what the batches have, nothing else moves") {
  manual_seed(5);
  Small net, copy;
  load_state_dict(copy, state_dict(net));
  training::Source source(small_input);
  const RandomState random = random_state();
  net.train();
  CHECK(recalibrate(net, source, {.batches = 3}) == 3);
  CHECK(net.training());
  CHECK(random_state().draws == random.draws);
  // The first norm's inputs depend on nothing that moves: its means can be computed apart.
  std::vector<double> mean(5, 0), var(5, 0);
  NoGrad no_grad;
  copy.eval();
  source.start(0);
  Batch batch;
  for (int k = 0; k < 3; ++k) {
    source.next(batch);
    const Tensor x = copy.body[0](batch.images);
    const auto v = x.to_vector();
    const size_t pixels = size_t(x.dim(2) * x.dim(3)), images = size_t(x.dim(0));
    for (size_t c = 0; c < 5; ++c) {
      double sum = 0, squares = 0;
      for (size_t n = 0; n < images; ++n)
        for (size_t i = 0; i < pixels; ++i) {
          const double z = v[(n * 5 + c) * pixels + i];
          sum += z;
          squares += z * z;
        }
      const double count = double(images * pixels), m = sum / count;
      mean[c] += m / 3;
      var[c] += (squares - count * m * m) / (count - 1) / 3;
    }
  }
  auto& norm = dynamic_cast<BatchNorm&>(net.body[1]);
  const auto got_mean = norm.running_mean.to_vector(), got_var = norm.running_var.to_vector();
  for (size_t c = 0; c < 5; ++c) {
    CHECK(got_mean[c] == doctest::Approx(mean[c]).epsilon(1e-5));
    CHECK(got_var[c] == doctest::Approx(var[c]).epsilon(1e-5));
  }
  CHECK(norm.num_batches_tracked.item() == 3);
  CHECK(norm.options.momentum == 0.1f);
  for (auto& [name, p] : named_parameters(net))
    for (auto& [other, q] : named_parameters(copy))
      if (name == other) CHECK(p->value().to_vector() == q->value().to_vector());

  // Asked to stop, or poisoned, it leaves everything as it was; a frozen norm is left alone.
  const std::string before = training::bits(net);
  std::atomic<int> stop{1};
  CHECK(recalibrate(net, source, {.stop = &stop}) == 0);
  CHECK(training::bits(net) == before);
  source.poison = 1;
  CHECK(refusal([&] { recalibrate(net, source); }).find("not finite") != std::string::npos);
  CHECK(training::bits(net) == before);
  norm.frozen = true;
  source.poison = -1;
  recalibrate(net, source, {.batches = 100});
  CHECK(norm.running_mean.to_vector() == got_mean);
  CHECK(norm.num_batches_tracked.item() == 3);
  CHECK(refusal([&] { recalibrate(net, source, {.batches = 0}); }, ErrorKind::usage).find("at least 1") !=
        std::string::npos);
}
