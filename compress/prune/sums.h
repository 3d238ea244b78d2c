// The sums that evidence is made of: what one batch adds to what is known of a layer. In double over chunks that the
// sizes decide, so that threads change no bit.
#pragma once
#include <espalier/compress/prune/scorer.h>

namespace espalier {

// sum += scale·x, on x's device; an undefined sum starts with zeros.
void add_to(Tensor& sum, const Tensor& x, float scale = 1);
// Zeros, sums and positions of min(max(y, 0), ceiling), y [N,C,H,W] or [N,C].
void count_activations(const Tensor& y, float ceiling, LayerEvidence& e);
// Squares of the inputs that each weight of a layer's filters meets, and the products of all pairs. x is the layer's
// input, [N,C,H,W] for a convolution, else [N,C]; padding adds nothing.
void add_input_squares(Module& layer, const Tensor& x, LayerEvidence& e);
void add_gram(Module& layer, const Tensor& x, LayerEvidence& e);

}  // namespace espalier
