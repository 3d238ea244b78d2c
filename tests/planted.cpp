// Faults planted on purpose, one per argument: the sanitizer presets must find each of them, in code that runs
// on the library's own thread team. A sanitizer that has been blinded would let the whole suite pass.
#include <espalier/core/parallel.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>
#include <vector>

namespace {

// Two threads of the team count in the same variable. A nap per chunk, so that both have come.
int race() {
  int64_t shared = 0;
  espalier::set_num_threads(2);
  espalier::parallel_for(100, 1, [&](int64_t begin, int64_t end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    for (int64_t i = begin; i < end; ++i) shared += i;
  });
  return int(shared & 1);
}

// The last element is one past the end.
int overflow() {
  std::vector<float> values(64);
  float* data = values.data();
  espalier::parallel_for(65, 65, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) data[i] = 1;
  });
  return values[0] == 1 ? 0 : 1;
}

int leak() {
  void* volatile block = std::malloc(1000);
  block = nullptr;
  return block != nullptr;
}

int undefined() {
  volatile int number = 2147483647;
  number = number + 1;
  return number == 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view fault = argc == 2 ? argv[1] : "";
  if (fault == "race") return race();
  if (fault == "overflow") return overflow();
  if (fault == "leak") return leak();
  if (fault == "undefined") return undefined();
  std::fprintf(stderr, "usage: planted race|overflow|leak|undefined\n");
  return 2;
}
