// The README's short program: a user's, with nothing but the installed library. tests/consumer/run builds and runs it.
#include <espalier/compress/count.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/speedup.h>
#include <espalier/data/images.h>
#include <espalier/data/loader.h>
#include <espalier/nn/model_file.h>
#include <espalier/nn/optimizer.h>
#include <espalier/nn/train.h>

#include <iostream>

using namespace espalier;

int main() {
  const ModelInfo& info = model_info("naive");  // NNI's little MNIST network; input [1,28,28]
  Loader train_set(load_images("synthetic", "", Split::train, {.image = info.input, .count = 1024}));
  Loader test_set(load_images("synthetic", "", Split::test, {.image = info.input, .count = 256}));
  auto model = make_model(info.name);
  auto learn = [&](int64_t epochs) {
    SGD sgd(*model, {.lr = 0.02, .momentum = 0.9, .weight_decay = 1e-4});
    train(*model, sgd, train_set, &test_set, {.epochs = epochs, .loss = loss_of(info)});
    std::cout << "accuracy " << evaluate(*model, test_set, loss_of(info)).accuracy << '\n';
  };
  learn(4);

  const Tensor example = Tensor::ones({1, 1, 28, 28});
  L1FilterPruner pruner(*model, {{.op_types = {"Conv2d"}, .sparsity = 0.5}}, {.example = example});
  pruner.compress();  // masks on the weakest half of all filters, and on whatever hangs on them
  learn(2);

  std::cout << ModelSpeedup(*model, example).speedup_model();  // cuts them out, checks that the outputs stay
  save_model("small.pth", *model, info.name);                  // a file that PyTorch reads, too
  const LoadedModel small = load_model("small.pth");           // needs no word about model or widths
  std::cout << count_flops_params(*small.module, example.shape()) << '\n';
}
