// What happens to a batch between the image set and the network, as functions of whole batches. Random draws are a
// function of (seed, epoch, place of the image in its set), so that neither threads, nor batches, nor a resumed run
// change them.
#pragma once
#include <espalier/data/images.h>

#include <span>

namespace espalier {

// What is done to training images at random.
struct Augment {
  int padding = 0;    // RandomCrop: the image is padded by so many black pixels and cropped back at a random place
  bool flip = false;  // RandomHorizontalFlip, probability 1/2
  int cutout = 0;     // Cutout (DeVries & Taylor 2017, arXiv 1708.04552): side of the square that is blanked
};
// What NNI's examples do: pad 4, crop and flip for photographs; for digits pad 2 and crop only.
ESPALIER_API Augment standard_augment(const ImageSet& set);

// Which draw it is: a seed and an epoch.
struct Draw {
  uint64_t seed = 0;
  int64_t epoch = 0;
};

// The images at `indices`, in that order: u8 [n,C,H,W].
ESPALIER_API Tensor take(const Tensor& images, std::span<const int64_t> indices);
// The same, padded, cropped and mirrored at random.
ESPALIER_API Tensor take_crop_flip(const Tensor& images, std::span<const int64_t> indices, const Augment& augment,
                                   Draw draw);
// u8 [n,C,H,W] -> f32 [n,C,H,W], bit for bit as torchvision's ToTensor and Normalize.
ESPALIER_API Tensor normalize(const Tensor& images, const Normalize& constants);
// Sets a square of side `length`, centred at a random pixel and clipped at the border, to 0 in each image of a
// normalised batch, in place. `indices` are the images' places in their set.
ESPALIER_API void cutout(Tensor& batch, std::span<const int64_t> indices, int length, Draw draw);

}  // namespace espalier
