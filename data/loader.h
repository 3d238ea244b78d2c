// Loader: an image set as batches. A thread of its own prepares the next batches while the network works on this
// one; which images meet in a batch and how they are augmented depends on (seed, epoch) alone.
#pragma once
#include <espalier/core/batch.h>
#include <espalier/data/augment.h>

#include <memory>

namespace espalier {

// How a set becomes batches. seed: of the order and of what is drawn.
struct LoaderOptions {
  int64_t batch_size = 64;  // the last batch of an epoch is shorter where the set's size asks for it
  bool shuffle = true;      // a new order in every epoch; else the set's
  Augment augment{};        // what is drawn for each image; nothing by default
  uint64_t seed = 0;
  int prefetch = 2;  // batches that may be ready before they are asked for
};

class ESPALIER_API Loader : public BatchSource {
 public:
  explicit Loader(ImageSet set, LoaderOptions options = {});  // throws usage on sizes below 1
  ~Loader() override;

  int64_t batches() const override;
  int64_t examples() const override;
  void start(int64_t epoch) override;
  // Rethrows what went wrong on the loader's thread.
  bool next(Batch& batch) override;

  // The images' places in the set in the order in which this epoch shows them.
  std::vector<int64_t> order(int64_t epoch) const;
  const ImageSet& images() const;  // the set that it serves

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace espalier
