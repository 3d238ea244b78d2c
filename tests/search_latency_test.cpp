// Searches that are asked for milliseconds: measured, met or missed by so much, and the same again from their table.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>

#include "sanitized.h"
#include "search_chain.h"

using namespace search_chain;

TEST_CASE("a latency that was asked for is measured, or missed by so much") {
  Chain model;
  const Tensor x = Tensor::zeros({1, 3, 32, 32});
  const Folder folder("search_latency");
  std::filesystem::create_directory(folder.path);
  GreedyPruner search(model, half,
                      {.evaluator = [](Module&) { return 0.5; },
                       .target = parse_budget("latency@1<60%"),
                       .folder = folder.path,
                       .example = x,
                       .timing_seconds = 0.02});
  search.compress();
  const SearchResult& r = search.result();
  const double asked = 0.6 * r.timing_before.median;
  CHECK((r.timing.median <= latency_slack * asked) == r.missed.empty());
  MESSAGE("asked for " << asked << " ms, predicted " << r.predicted_ms << ", measured " << r.timing.median);
  CHECK(r.after.flops < r.before.flops);
  // From the table and the history the same again.
  Chain twin;
  GreedyPruner again(twin, half,
                     {.evaluator = [](Module&) -> double { throw Killed{}; },
                      .target = parse_budget("latency@1<60%"),
                      .folder = folder.path,
                      .resume = true,
                      .example = x,
                      .timing_seconds = 0.02});
  again.compress();
  CHECK(masks_text(twin) == masks_text(model));
  CHECK(again.result().timing.n > 0);  // measured anew: what chose it does not judge it
  Chain third;
  GreedyPruner never(third, half,
                     {.evaluator = [](Module&) { return 0.5; },
                      .target = parse_budget("latency@1<0.001ms"),
                      .example = x,
                      .timing_seconds = 0.02});
  never.compress();
  REQUIRE(never.result().missed.size() == 1);
  CHECK(never.result().missed[0].find("latency@1: ") == 0);
}

TEST_CASE("every search for channels can be asked for milliseconds") {
  const Folder folder("search_ms");
  std::filesystem::create_directory(folder.path);
  const bool slow = thread_sanitizer || address_sanitizer;
  for (const std::string& name : slow ? std::vector<std::string>{"netadapt"} : search_names()) {
    CAPTURE(name);
    int64_t timed = 0;
    // Beside busy neighbours a table may show no layer that saves anything: then another is measured.
    for (int attempt = 1; attempt <= 3; ++attempt) {
      Chain model;
      auto options = options_for();
      options.example = Tensor::zeros({1, 3, 32, 32});
      options.target = parse_budget("latency@1<60%");
      options.latency_table = folder.path + "/table" + std::to_string(attempt) + ".json";
      options.timing_seconds = 0.02;
      options.trainer = [](Module&, TrainObserver&, int64_t, const std::string&) {};
      options.progress = [&](const SearchProgress& p) { timed = std::max(timed, p.timed); };
      if (name == "amc")
        options.settings = {{"train_episode", 4}, {"warmup", 2}, {"lbound", 0.05}, {"channel_round", 1}};
      if (name == "autocompress") options.settings = {{"num_iterations", 2}, {"admm_num_iterations", 0}};
      if (name == "netadapt") options.settings = {{"sparsity_per_iteration", 0.1}};
      const auto search = make_search(name, model, half, options);
      search->compress();
      const SearchResult& r = search->result();
      CHECK((r.timing.median <= latency_slack * 0.6 * r.timing_before.median) == r.missed.empty());
      const bool ended = std::any_of(r.notes.begin(), r.notes.end(), [](const std::string& note) {
        return note.find("ends before its target") != note.npos;
      });
      if (!ended && r.after.flops < 0.9 * double(r.before.flops)) break;
      CHECK_MESSAGE(attempt < 3, name << " has left " << r.after.flops << " of " << r.before.flops << " FLOPs");
    }
    if (name == "greedy") CHECK(timed > 3);
  }
}

TEST_CASE("one table serves several networks and lists of layers") {
  const Folder folder("search_tables");
  std::filesystem::create_directory(folder.path);
  const auto before = [&](const ConfigList& config, const Shape& x) {
    Chain model;
    GreedyPruner search(model, config,
                        {.evaluator = [](Module&) { return 0.5; },
                         .target = parse_budget("latency@1<90%"),
                         .example = Tensor::zeros(x),
                         .latency_table = folder.path + "/table.json",
                         .timing_seconds = 0.02});
    search.compress();
    return search.result().timing_before.median;
  };
  const double small = before(half, {1, 3, 8, 8});
  CHECK(before(half, {1, 3, 96, 96}) > 5 * small);
}
