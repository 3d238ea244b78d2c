// The one door to oneDNN; no other file says dnnl::. It serves forward convolution and its input gradient where the
// machine has AVX-512, for which oneDNN has the faster kernels; on other machines our own tiles are faster (gather.h).
// Left to itself, oneDNN's bits depend on the number of threads: here it computes a few images per call, on one thread,
// and the threads are ours. Weight gradients, which sum over the batch, never pass here.
#pragma once
#include <espalier/core/cpu/finish.h>
#include <espalier/core/geometry.h>
#include <espalier/core/view.h>

namespace espalier::cpu::onednn {
using namespace geometry;

enum class Use { where_faster, wherever_possible, never };
void set_use(Use use);  // for tests and measurements; where_faster unless set

// True if y or dx has been filled; false if the geometry is ours to compute. Images stay N,H,W,C in memory: a
// primitive that would want them otherwise is refused, so no activation is ever reordered.
bool conv2d(const Conv& g, In x, In w, In b, Out y, const Finish& finish);
bool conv2d_grad_input(const Conv& g, In dy, In w, Out dx);

}  // namespace espalier::cpu::onednn
