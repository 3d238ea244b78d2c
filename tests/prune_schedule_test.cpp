// Schedules: NNI's numbers, what each reads of a config list, and pruners that follow one through training, stopped and
// resumed anywhere.
#include <doctest/doctest.h>
#include <espalier/compress/mask.h>
#include <espalier/compress/prune/admm.h>
#include <espalier/compress/prune/lottery.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/core/tape.h>
#include <espalier/nn/init.h>

#include <cmath>

#include "training.h"

using namespace espalier;

namespace {

std::vector<double> table(const PruneSchedule& schedule, const ConfigEntry& entry, int64_t last) {
  std::vector<double> all;
  for (int64_t t = 0; t <= last; ++t) all.push_back(schedule.at(entry, double(t)).value_or(-1));
  return all;
}

void check_near(const std::vector<double>& got, const std::vector<double>& expected) {
  REQUIRE(got.size() == expected.size());
  for (size_t i = 0; i < got.size(); ++i) CHECK(got[i] == doctest::Approx(expected[i]).epsilon(2e-6));
}

Parameter& parameter(Module& model, const std::string& name) {
  for (auto& [n, p] : named_parameters(model))
    if (n == name) return *p;
  FAIL("no parameter " << name);
  std::abort();
}

std::string everything(Module& model) {
  std::string all = training::bits(model);
  for (const auto& [name, t] : masks_of(model)) all.append(static_cast<const char*>(t.in().data), t.bytes());
  return all;
}

const Tensor image = Tensor::ones({1, 1, 7, 7});

}  // namespace

TEST_CASE("agp: NNI's numbers; one step where its span is empty; nothing after the end") {
  check_near(table(agp_schedule(), {.initial_sparsity = 0., .final_sparsity = 0.8, .end_epoch = 10}, 11),
             {0, .238134, .423594, .562963, .662826, .729767, .770370, .791221, .798903, .8, .8, -1});
  check_near(
      table(agp_schedule(), {.initial_sparsity = 0.05, .final_sparsity = 0.8, .end_epoch = 10, .frequency = 2}, 12),
      {.05, -1, .483594, -1, .70625, -1, .788281, -1, .8, -1, .8, -1, -1});
  // NNI 1.7 ends with an AssertionError here.
  check_near(
      table(agp_schedule(),
            {.initial_sparsity = 0.1, .final_sparsity = 0.6, .start_epoch = 2, .end_epoch = 4, .frequency = 3}, 5),
      {-1, -1, .6, -1, -1, -1});
  check_near(table(agp_schedule(), {.initial_sparsity = 0.7, .final_sparsity = 0.6, .end_epoch = 3}, 4),
             {.6, .6, .6, .6, -1});
}

TEST_CASE("lottery, iterative, linear, cubic and once") {
  check_near(table(lottery_schedule(), {.sparsity = 0.8, .prune_iterations = 5}, 6),
             {0, .275220, .474694, .619269, .724054, .8, -1});
  check_near(table(lottery_schedule(), {.sparsity = 0.96, .prune_iterations = 5}, 5),
             {0, .474694, .724054, .855044, .923854, .96});
  check_near(
      table(iterative_schedule(), {.sparsity = 0.75, .start_epoch = 1, .frequency = 2, .prune_iterations = 2}, 5),
      {-1, .5, -1, .75, -1, -1});
  check_near(
      table(linear_schedule(), {.initial_sparsity = 0.2, .final_sparsity = 0.8, .start_epoch = 1, .end_epoch = 4}, 5),
      {-1, .2, .4, .6, .8, -1});
  check_near(table(cosine_schedule(), {.final_sparsity = 0.8, .start_epoch = 1, .end_epoch = 5}, 6),
             {-1, 0, .8 * .146447, .4, .8 * .853553, .8, -1});
  check_near(table(once_schedule(), {.sparsity = 0.3}, 1), {.3, -1});
  const ConfigEntry cubic{.initial_sparsity = 0.1, .final_sparsity = 0.9, .start_epoch = 1, .end_epoch = 3};
  for (const auto& [t, s] :
       {std::pair{0., .1}, {1., .1}, {2., .9 - .8 * .125}, {1.5, .9 - .8 * .421875}, {3., .9}, {9., .9}})
    CHECK(*cubic_schedule().at(cubic, t) == doctest::Approx(s));
  CHECK(schedule_csv(linear_schedule(), {{.final_sparsity = 0.5, .end_epoch = 2}}) ==
        "epoch,sparsity\n0,0\n1,0.25\n2,0.5\n3,0.5\n");
  CHECK(schedule_csv(lottery_schedule(), {{.sparsity = 0.75, .prune_iterations = 2}}) ==
        "round,sparsity\n0,0\n1,0.5\n2,0.75\n3,0.75\n");
  CHECK(make_prune_schedule("AGPPruner").name == "agp");
  CHECK_THROWS_WITH_AS(make_prune_schedule("agb"), doctest::Contains("did you mean \"agp\"?"), Error);
}

TEST_CASE("a pruner refuses keys that its schedule does not read, and misses those that it needs") {
  training::Small net;
  const auto complaint = [&](ConfigList list, PruneSchedule schedule) {
    PrunerOptions options;
    options.schedule = std::move(schedule);
    try {
      LevelPruner(net, std::move(list), options);
    } catch (const Error& e) {
      CHECK(e.kind() == ErrorKind::usage);
      return std::string(e.what());
    }
    return std::string();
  };
  const std::vector<std::string> conv{"Conv2d"};
  CHECK(complaint({{.op_types = conv, .sparsity = .5, .frequency = 2}}, once_schedule()) ==
        "[level] config entry 1 has frequency, which the schedule \"once\" does not read; it reads sparsity");
  CHECK(complaint({{.op_types = conv, .sparsity = .5}}, agp_schedule())
            .find("[level] config entry 1 has sparsity, which") == 0);
  CHECK(complaint({{.op_types = conv, .final_sparsity = .5}}, agp_schedule()) ==
        "[level] config entry 1 has no end_epoch, which the schedule \"agp\" needs");
  CHECK(complaint({{.op_types = conv, .final_sparsity = .5, .end_epoch = 3}, {.op_names = {"head.0"}, .exclude = true}},
                  agp_schedule())
            .empty());
  CHECK(complaint({{.op_types = conv, .initial_sparsity = 1., .final_sparsity = .5, .end_epoch = 3}}, agp_schedule()) ==
        "[config] entry 1: initial_sparsity is 1, expected at least 0 and less than 1");
  CHECK(complaint({{.op_types = conv, .final_sparsity = .5, .end_epoch = 3, .frequency = 0}}, agp_schedule()) ==
        "[config] entry 1: frequency is 0, expected 1 to 1000000");
  const ConfigList list = parse_config(
      R"([{"initial_sparsity": 0, "final_sparsity": 0.5, "start_epoch": 0, "end_epoch": 4, "frequency": 1,
           "op_types": ["Conv2d"]}])");
  CHECK(to_json(parse_config(to_json(list))) == to_json(list));
  CHECK(complaint(list, agp_schedule()).empty());
}

TEST_CASE("counts follow the schedule, masks only grow, and one that hangs on another's handle sees it") {
  manual_seed(1);
  training::Small net;
  AGPPruner pruner(net, {{.op_types = {"Linear"}, .final_sparsity = 0.8, .end_epoch = 6}});
  pruner.compress();
  const Mask* held = mask_of(parameter(net, "head.0.weight"));
  REQUIRE(held != nullptr);
  std::vector<float> before = held->value().to_vector();
  CHECK(std::count(before.begin(), before.end(), 0.f) == 0);  // k = 0 is an update, too
  for (int e = 1; e < 9; ++e) {
    pruner.update_epoch(e);
    pruner.update_epoch(e);
    const auto now = held->value().to_vector();
    const double s = agp_schedule().at(pruner.config_list()[0], std::min(e, 6)).value();
    CHECK(std::count(now.begin(), now.end(), 0.f) == prune_count(720, s));
    for (size_t i = 0; i < now.size(); ++i) CHECK(now[i] <= before[i]);
    before = now;
  }
  CHECK(pruner.updates() == 7);
}

TEST_CASE("agp with slim takes its one threshold anew at every update") {
  manual_seed(1);
  training::Small net;
  Sequential norms;
  PrunerOptions options;
  options.example = image;
  AGPPruner pruner(net, {{.op_types = {"BatchNorm2d"}, .final_sparsity = 0.8, .end_epoch = 3}}, "slim", options);
  net.body[1].train();
  parameter(net, "body.1.weight").set(Tensor::from(std::vector<float>{5, 1, 4, 2, 3}, {5}));
  pruner.compress();
  std::vector<std::vector<float>> seen;
  for (int e = 0; e < 4; ++e) {
    pruner.update_epoch(e);
    seen.push_back(mask_of(parameter(net, "body.1.weight"))->value().to_vector());
  }
  CHECK(seen[0] == std::vector<float>{1, 1, 1, 1, 1});
  CHECK(seen[1] == std::vector<float>{1, 0, 1, 0, 0});  // int(5 · 0.7)
  CHECK(seen[3] == std::vector<float>{1, 0, 0, 0, 0});
}

TEST_CASE(
    "a run that prunes as it learns, stopped anywhere - also while evidence is gathered - ends with the same bits") {
  struct Way {
    const char *pruner, *schedule;
    ConfigEntry entry;
  };
  const ConfigEntry agp{.op_types = {"Conv2d"}, .initial_sparsity = 0.2, .final_sparsity = 0.8, .end_epoch = 3};
  ConfigEntry linear = agp, iterative{.op_types = {"Conv2d"}, .sparsity = 0.6, .prune_iterations = 3};
  linear.op_types = {"Linear"};
  for (const Way& way : {Way{"taylor", "agp", agp},
                         {"apoz", "iterative", iterative},
                         {"obd", "agp", agp},
                         {"wanda", "linear", linear},
                         {"movement", "cubic", linear},
                         {"obs", "linear", linear}}) {
    CAPTURE(way.pruner);
    const training::Folder folder("prune_schedule_test_run");
    const auto run = [&](int64_t steps) {
      training::Process process(folder.path);
      const auto pruner = make_pruner(way.pruner, process.model, {way.entry},
                                      {.example = image,
                                       .schedule = make_prune_schedule(way.schedule),
                                       .statistics_batch_num = 3,
                                       .loss = process.options.loss});
      process.options.max_steps = steps;
      process.run({pruner.get()});
      if (steps == 0) CHECK(pruner->updates() >= 3);
      return everything(process.model);
    };
    const std::string whole = run(0);
    for (int64_t steps = 1; steps < 12; ++steps) {
      CAPTURE(steps);
      std::filesystem::remove_all(folder.path);
      run(steps);
      CHECK(run(0) == whole);
    }
  }
}

TEST_CASE("evidence is gathered anew for every update, from so many batches") {
  training::Process process("");
  std::vector<int64_t> batches;
  PrunerOptions options{.example = image, .schedule = agp_schedule(), .statistics_batch_num = 2};
  options.updated = [&](const Pruner& p) {
    const auto found = p.evidence().find("body.0");
    batches.push_back(found == p.evidence().end() ? 0 : found->second.batches);
  };
  TaylorFOWeightFilterPruner pruner(process.model, {{.op_types = {"Conv2d"}, .final_sparsity = 0.8, .end_epoch = 3}},
                                    options);
  process.run({&pruner});
  CHECK(batches == std::vector<int64_t>{0, 2, 2});  // nothing goes at first: nothing needs to be known
  for (auto& [name, m] : named_modules(process.model)) CHECK((m->output.empty() && m->input.empty()));
}

TEST_CASE("a loop of one's own: compress(), update_epoch(), step()") {
  training::Process process("");
  ActivationAPoZRankFilterPruner pruner(process.model, {{.op_types = {"Conv2d"}, .sparsity = 0.4}},
                                        {.example = image, .statistics_batch_num = 2});
  pruner.compress();
  CHECK(pruner.waiting());
  CHECK(masks_of(process.model).empty());
  process.train_set.start(0);
  Batch batch;
  for (int i = 0; i < 2; ++i) {
    REQUIRE(process.train_set.next(batch));
    process.model.eval();
    process.model(batch.images);  // an evaluation does not count
    process.model.train();
    process.optimizer.zero_grad();
    backward(process.options.loss(process.model(batch.images), batch.labels));
    process.optimizer.step();
    pruner.step();
  }
  CHECK_FALSE(pruner.waiting());
  CHECK(pruner.evidence().at("body.0").positions == 12 * 49);
  CHECK(pruner.report().layers[0].kept == 3);
}

TEST_CASE("a schedule by steps moves each entry, not only the one that goes farthest") {
  manual_seed(3);
  training::Small net;
  Pruner pruner(make_scorer("level"), net,
                {{.op_names = {"body.0"}, .final_sparsity = 0.75, .end_epoch = 1},
                 {.op_types = {"Linear"}, .final_sparsity = 0.5, .start_epoch = 1, .end_epoch = 2}},
                {.schedule = make_prune_schedule("cubic")});
  SGD optimizer(net, {.lr = 0.05});
  training::Source source{training::small_input};
  const auto loss = [](const Tensor& y, const Tensor& t) { return cross_entropy(y, t); };
  train(net, optimizer, source, nullptr, {.epochs = 3, .loss = loss}, {&pruner});
  const auto mask = mask_of(parameter(net, "head.0.weight"))->value().to_vector();
  CHECK(std::count(mask.begin(), mask.end(), 0.f) == 360);
}

TEST_CASE("a rewind to a step that the first round has not is refused") {
  training::Small net;
  LotteryTicketPruner pruner(net, {{.op_types = {"Linear"}, .sparsity = 0.6, .prune_iterations = 1}}, nullptr,
                             {.rewind_step = 3});
  pruner.prune_iteration_start();
  pruner.step();
  CHECK_THROWS_WITH_AS(pruner.prune_iteration_start(), "[lottery] rewinds to step 3, and its first round had 1", Error);
}

TEST_CASE("a lottery ticket goes back to what it began with, optimiser and all, or to a later step") {
  for (const int64_t rewind : {0, 2}) {
    CAPTURE(rewind);
    manual_seed(4);
    training::Small net;
    SGD optimizer(net, {.lr = 0.05, .momentum = 0.9});
    LotteryTicketPruner pruner(net, {{.op_types = {"Linear"}, .sparsity = 0.6, .prune_iterations = 2}}, &optimizer,
                               {.rewind_step = rewind});
    std::string first = rewind ? "" : training::bits(net);
    training::Source source{training::small_input};
    std::vector<int64_t> rounds;
    for (const int64_t round : pruner.get_prune_iterations()) {
      rounds.push_back(round);
      std::vector<float> learnt = parameter(net, "head.0.weight").value().to_vector();
      const Mask* old = mask_of(parameter(net, "head.0.weight"));
      const auto older = old ? old->value().to_vector() : std::vector<float>(learnt.size(), 1.f);
      pruner.prune_iteration_start();
      const auto mask = mask_of(parameter(net, "head.0.weight"))->value().to_vector();
      const int64_t k = prune_count(720, after_rounds(0.6, round, 2));
      CHECK(std::count(mask.begin(), mask.end(), 0.f) == k);
      if (round > 0) {
        CHECK(training::bits(net) == first);
        float strongest = 0, weakest = 1e9f;  // by what was learnt
        for (size_t i = 0; i < mask.size(); ++i)
          if (mask[i] == 0)
            strongest = std::max(strongest, std::abs(learnt[i] * older[i]));
          else
            weakest = std::min(weakest, std::abs(learnt[i]));
        CHECK(strongest <= weakest);
      }
      source.start(0);
      Batch batch;
      for (int i = 0; source.next(batch); ++i) {
        optimizer.zero_grad();
        backward(cross_entropy(net(batch.images), batch.labels));
        optimizer.step();
        pruner.step();
        if (round == 0 && i + 1 == rewind) first = training::bits(net);
      }
    }
    CHECK(rounds == std::vector<int64_t>{0, 1, 2});
    CHECK_THROWS_AS(pruner.prune_iteration_start(), Error);
  }
  // NNI 1.7 crashes without an optimiser.
  training::Small net;
  LotteryTicketPruner alone(net, {{.op_types = {"Linear"}, .sparsity = 0.6, .prune_iterations = 1}});
  alone.prune_iteration_start();
  alone.prune_iteration_start();
  CHECK(alone.sparsity() == 0.6);
}

TEST_CASE("a lottery ticket, stopped in any round, goes on to the same bits") {
  for (const int64_t rewind : {0, 5}) {
    CAPTURE(rewind);
    const training::Folder folder("prune_schedule_test_lottery");
    const auto run = [&](int64_t stopped_in, int64_t steps) {
      training::Process process(folder.path);
      LotteryTicketPruner pruner(process.model, {{.op_types = {"Linear"}, .sparsity = 0.6, .prune_iterations = 2}},
                                 &process.optimizer, {.rewind_step = rewind});
      for (const int64_t round : pruner.get_prune_iterations()) {
        pruner.prune_iteration_start();
        process.options.out = folder.path + "/round" + std::to_string(round);
        std::filesystem::create_directory(process.options.out);
        process.options.max_steps = round == stopped_in ? steps : 0;
        process.run({&pruner});
        if (round == stopped_in) break;
      }
      if (stopped_in < 0) CHECK(pruner.report().layers[0].kept == 288);
      return everything(process.model);
    };
    const std::string whole = run(-1, 0);
    for (const int64_t round : {0, 1, 2})
      for (const int64_t steps : {1, 4, 6, 11}) {
        CAPTURE(round);
        CAPTURE(steps);
        std::filesystem::remove_all(folder.path);
        run(round, steps);
        CHECK(run(-1, 0) == whole);
      }
  }
}

TEST_CASE("admm: the pull is the penalty's gradient; iterations move Z; it ends with masks") {
  manual_seed(4);
  training::Small net;
  ADMMPruner pruner(net, {{.op_types = {"Conv2d"}, .sparsity = 0.4}}, "l1",
                    {.num_iterations = 2, .training_epochs = 1, .row = 0.3}, {.example = image});
  Parameter& w = parameter(net, "body.0.weight");
  CHECK(pruner.penalty() == 0);
  pruner.project();
  CHECK(pruner.residuals()[0].second > 0);
  Tensor moved = w.value().clone();
  for (int64_t i = 0; i < moved.numel(); ++i) moved.mutable_data()[i] += 0.01f * float(i % 7);
  w.value().copy_from(moved);
  w.value().set_grad(Tensor::zeros(w.value().shape()));
  pruner.add_pull();
  const auto pull = w.grad().to_vector(), raw = w.value().to_vector();
  for (size_t i = 0; i < pull.size(); i += 5) {
    const auto at = [&](float step) {
      auto v = raw;
      v[i] += step;
      w.value().copy_from(Tensor::from(v, w.value().shape()));
      return pruner.penalty();
    };
    const double slope = (at(1e-2f) - at(-1e-2f)) / 2e-2;
    CHECK(double(pull[i]) == doctest::Approx(slope).epsilon(1e-4));
  }
  pruner.compress();
  CHECK(pruner.report().layers[0].kept == 3);
}

TEST_CASE("admm in training: Z is no alias of W, the weights come nearer, stopped and resumed to the same bits") {
  const training::Folder folder("prune_schedule_test_admm");
  double first = 0, last = 0;
  const auto run = [&](int64_t steps, double row) {
    training::Process process(folder.path);
    ADMMPruner pruner(process.model, {{.op_types = {"Linear"}, .sparsity = 0.5}}, "level",
                      {.num_iterations = 3, .training_epochs = 1, .row = row});
    process.options.max_steps = steps;
    process.run({&pruner});
    if (steps == 0) {
      pruner.compress();
      CHECK(pruner.iterations() == 3);
      last = pruner.residuals()[0].second;
    }
    return everything(process.model);
  };
  run(0, 0);
  first = last;
  std::filesystem::remove_all(folder.path);
  const std::string whole = run(0, 1);
  CHECK(last < 0.8 * first);  // pulled, what pruning takes is smaller
  for (int64_t steps = 1; steps < 12; ++steps) {
    CAPTURE(steps);
    std::filesystem::remove_all(folder.path);
    run(steps, 1);
    CHECK(run(0, 1) == whole);
  }
}
