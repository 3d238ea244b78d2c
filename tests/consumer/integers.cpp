// The README's second program: a user's, with nothing but the installed library. tests/consumer/run builds and runs it.
#include <espalier/compress/export/onnx.h>
#include <espalier/compress/quantize/engine.h>
#include <espalier/compress/quantize/integer_config.h>
#include <espalier/compress/quantize/ptq.h>
#include <espalier/compress/quantize/quantizers.h>
#include <espalier/data/images.h>
#include <espalier/data/loader.h>
#include <espalier/nn/model_file.h>
#include <espalier/nn/optimizer.h>
#include <espalier/nn/trace.h>
#include <espalier/nn/train.h>

#include <iostream>

using namespace espalier;

int main() {
  const ModelInfo& info = model_info("naive");
  const auto images = [&](Split split, int64_t n) {
    return load_images("synthetic", "", split, {.image = info.input, .count = n});
  };
  Loader train_set(images(Split::train, 1024)), some(images(Split::train, 256)), test_set(images(Split::test, 256));
  const auto model = make_model(info.name);
  SGD sgd(*model, {.lr = 0.02, .momentum = 0.9, .weight_decay = 1e-4});
  train(*model, sgd, train_set, nullptr, {.epochs = 4, .loss = loss_of(info)});

  const Tensor example = Tensor::ones({1, 1, 28, 28});
  PTQ_Quantizer quantizer(*model, integer_config(*model, example).list);  // 8 bits wherever integers need them
  quantizer.compress();
  std::cout << calibrate(quantizer, *model, some, {.loss = loss_of(info)});  // every observer's ranges, in integers
  quantizer.export_model({.model_path = "int8.pth",
                          .calibration_path = "encodings.json",
                          .onnx_path = has_onnx() ? "int8.onnx" : "",  // other runtimes give the same codes
                          .example = example,
                          .note = model_note(info)});

  const LoadedModel small = load_model("int8.pth");    // codes, and what they are worth: a quarter of the bytes
  const Engine engine(trace(*small.module, example));  // runs them in int8
  EngineModule module(engine);
  std::cout << "accuracy " << evaluate(module, test_set, loss_of(info)).accuracy << '\n' << engine.report({example});
}
