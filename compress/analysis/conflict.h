// Conflicts between masks. A mask file that was made layer by layer, as NNI's are, may mask a channel in one branch of
// a sum and keep it in the other, or leave a grouped convolution with groups of different sizes. fix_mask_conflict
// gives back what cannot be cut out, so that what remains masked can: it only ever unmasks. Masks that plan() makes
// have no such conflicts.
#pragma once
#include <espalier/compress/mask.h>
#include <espalier/nn/examples.h>

#include <string>
#include <vector>

namespace espalier {

// What fix_mask_conflict did: filters that were masked in all, masked_before() and masked_after().
struct ESPALIER_API ConflictReport {
  // A layer by name: its filters, and how many of them were masked (masked_before) and still are (masked_after).
  struct Layer {
    std::string name;
    int64_t filters, masked_before, masked_after;
  };
  std::vector<Layer> layers;       // that have a mask of whole filters
  std::vector<std::string> notes;  // layers that were left alone, and why
  int64_t masked_before() const;
  int64_t masked_after() const;
};

// The masks after NNI's two repairs, until neither changes anything:
//  - group: of a convolution whose channels must divide into parts (GroupDependency), each part loses as many filters
//  as
//    the part that loses fewest, its first ones;
//  - channel: of layers that must keep the same channels (ChannelDependency), all keep what one of them keeps; a layer
//    without a mask keeps everything.
// The biases' masks follow, and a concatenation, whose parts may differ, changes none (NNI 1.7 does neither). A layer
// of which single weights are masked takes no part; neither do masks of other layers, as batch norms. Throws data where
// a mask is none of this model's, usage without an example.
ESPALIER_API Masks fix_mask_conflict(Module& model, const Examples& examples, const Masks& masks,
                                     ConflictReport* report = nullptr);

}  // namespace espalier
