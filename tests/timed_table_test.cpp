// The table of timings that the tools print: spread beside every median, and a word where the spread is wide.
#include <doctest/doctest.h>
#include <espalier/tools/setup.h>

#include <sstream>

using namespace espalier;

namespace {

tool::Comparison table(tool::Latency masked, tool::Latency shrunk) {
  return {.batches = {1},
          .masked = {200, 2000, 800, {masked}},
          .shrunk = {100, 500, 400, {shrunk}},
          .difference = 1e-6,
          .largest = 2};
}

std::string text(const tool::Comparison& c) {
  std::ostringstream out;
  out << c;
  return out.str();
}

}  // namespace

TEST_CASE("a timed table shows its spread, and warns when it is wide") {
  const tool::Latency calm{8, 7.5, 9, 50}, busy{8, 7, 40, 50};
  const std::string quiet = text(table(calm, calm)), loud = text(table(calm, busy));
  CHECK(quiet.find("8.00 (7.50-9.00)") != std::string::npos);
  CHECK(quiet.find("warning") == std::string::npos);
  CHECK(loud.find("warning: the times of batch 1 spread widely (1.2x masked, 5.7x shrunk)") != std::string::npos);
  CHECK_FALSE(tool::to_json(table(calm, busy))["masked"]["latency"]["batch_1"]["wide"].get<bool>());
  CHECK(tool::to_json(table(calm, busy))["shrunk"]["latency"]["batch_1"]["wide"].get<bool>());
}
