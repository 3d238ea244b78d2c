// One thread per epoch fills a short queue. It uses no thread team: preparing a batch is a few hundred microseconds
// of copying, and the team belongs to the network.
#include <espalier/core/random.h>
#include <espalier/data/loader.h>

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <numeric>
#include <thread>

namespace espalier {

struct Loader::State {
  ImageSet set;
  LoaderOptions options;

  std::thread worker;
  std::mutex guard;  // over what follows
  std::condition_variable changed;
  std::deque<Batch> ready;
  std::exception_ptr error;
  bool done = true, stop = false;

  Batch prepare(std::span<const int64_t> indices, int64_t epoch) const {
    const Augment& a = options.augment;
    const Draw draw{options.seed, epoch};
    Batch batch;
    batch.images = normalize(
        a.padding || a.flip ? take_crop_flip(set.images, indices, a, draw) : take(set.images, indices), set.normalize);
    if (a.cutout) cutout(batch.images, indices, a.cutout, draw);
    batch.labels = Tensor::empty({int64_t(indices.size())}, DType::s64);
    int64_t* out = batch.labels.mutable_data<int64_t>();
    for (int64_t i : indices) *out++ = set.labels.data<int64_t>()[i];
    return batch;
  }

  void run(std::vector<int64_t> order, int64_t epoch) {
    try {
      for (size_t at = 0; at < order.size(); at += size_t(options.batch_size)) {
        const size_t n = std::min(size_t(options.batch_size), order.size() - at);
        Batch batch = prepare(std::span(order).subspan(at, n), epoch);
        std::unique_lock lock(guard);
        changed.wait(lock, [&] { return stop || ready.size() < size_t(options.prefetch); });
        if (stop) return;
        ready.push_back(std::move(batch));
        changed.notify_all();
      }
    } catch (...) {
      std::lock_guard lock(guard);
      error = std::current_exception();
    }
    std::lock_guard lock(guard);
    done = true;
    changed.notify_all();
  }

  void halt() {
    {
      std::lock_guard lock(guard);
      stop = true;
      changed.notify_all();
    }
    if (worker.joinable()) worker.join();
    ready.clear();
    error = nullptr;
    stop = false;
    done = true;
  }
};

Loader::Loader(ImageSet set, LoaderOptions options) : state_(std::make_unique<State>()) {
  if (options.batch_size < 1)
    fail(ErrorKind::usage, "[loader] batch size ", options.batch_size, ", expected at least 1");
  if (options.prefetch < 1) fail(ErrorKind::usage, "[loader] prefetch ", options.prefetch, ", expected at least 1");
  state_->set = std::move(set);
  state_->options = options;
}

Loader::~Loader() { state_->halt(); }

int64_t Loader::batches() const { return (examples() + state_->options.batch_size - 1) / state_->options.batch_size; }
int64_t Loader::examples() const { return state_->set.size(); }
const ImageSet& Loader::images() const { return state_->set; }

// Fisher and Yates, one draw per place.
std::vector<int64_t> Loader::order(int64_t epoch) const {
  auto places = std::vector<int64_t>(size_t(examples()));
  std::iota(places.begin(), places.end(), int64_t(0));
  if (!state_->options.shuffle) return places;
  const uint64_t stream = stream_of("shuffle", uint64_t(epoch));
  for (size_t i = places.size(); i > 1; --i)
    std::swap(places[i - 1], places[random_below(state_->options.seed, stream, i, i)]);
  return places;
}

void Loader::start(int64_t epoch) {
  state_->halt();
  state_->done = false;
  state_->worker = std::thread([s = state_.get(), places = order(epoch), epoch] { s->run(places, epoch); });
}

bool Loader::next(Batch& batch) {
  State& s = *state_;
  std::unique_lock lock(s.guard);
  s.changed.wait(lock, [&] { return !s.ready.empty() || s.done; });
  if (!s.ready.empty()) {
    batch = std::move(s.ready.front());
    s.ready.pop_front();
    s.changed.notify_all();
    return true;
  }
  if (s.error) std::rethrow_exception(s.error);
  return false;
}

}  // namespace espalier
