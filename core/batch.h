// Batch and BatchSource: what a training loop eats and who serves it. They live in core so that the loop (nn) and
// the loaders (data) meet without knowing each other.
#pragma once
#include <espalier/core/tensor.h>

namespace espalier {

// Examples and their classes.
struct Batch {
  Tensor images;  // f32 [N,C,H,W], normalised, on the CPU
  Tensor labels;  // s64 [N], on the CPU
};

// One pass over a set of examples, in batches. Order and augmentation are a function of the source's own seed and
// of the epoch's number alone, so that a resumed run sees what an uninterrupted one would have seen.
class ESPALIER_API BatchSource {
 public:
  virtual ~BatchSource() = default;
  virtual int64_t batches() const = 0;    // in an epoch, the last, shorter one included
  virtual int64_t examples() const = 0;   // in an epoch
  virtual void start(int64_t epoch) = 0;  // begins epoch `epoch` (0, 1, ...); may be called at any time
  virtual bool next(Batch& batch) = 0;    // false at the end of the epoch
};

}  // namespace espalier
