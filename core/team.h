// The thread team behind parallel_for. A loop is cut into chunks, which are claimed one by one by whoever has time: the
// caller first of all, and those helpers that the system has let run. A helper that has not begun is never waited for,
// so a busy machine costs a loop its help, not its time; one that holds a chunk is.
#pragma once
#include <espalier/core/parallel.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>

namespace espalier {

class Team {
 public:
  struct Loop {
    int64_t n, grain;  // no chunk is shorter than a grain
    int64_t shares;    // the next chunk is one of so many parts of what is left,
    int64_t most;      // but no longer than this: the last chunks are short, so that none is waited for long
    RangeFunction f;
    void* context;
    int room;                      // helpers that may still join
    bool wake;                     // worth waking a helper that sleeps
    std::atomic<int64_t> next{0};  // the first index that nobody has claimed
    std::atomic<int> helpers{0};   // those who have joined and not left
    std::exception_ptr error{};    // the first; under the team's lock
    Loop *before = nullptr, *after = nullptr;
  };

  static Team& everyone();  // a forked child has a new one: its parent's threads did not come along
  static bool inside();     // this thread is in a chunk: loops within loops are not shared out

  // Every chunk of the loop once, on this thread and on those of the team that have time; throws what a chunk threw.
  // Several threads may run loops at once; they share the helpers.
  void run(Loop& loop);
  void grow(int helpers);  // until there are so many, as far as the system allows

 private:
  void help();
  void work_on(Loop& loop);
  Loop* open_loop() const;

  std::mutex guard_;
  std::condition_variable opened_, left_;
  Loop* first_ = nullptr;           // loops with callers, newest first
  std::atomic<uint64_t> count_{0};  // loops ever opened; helpers that have just worked watch it for a while
  std::atomic<int> members_{0};
  std::atomic<int> disturbed_{0};   // so many loops more count as beside a busy neighbour
  int sleeping_ = 0, waiting_ = 0;  // helpers without a loop, callers whose helpers hold chunks
};

}  // namespace espalier
