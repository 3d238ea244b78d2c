// Post-training quantization: ranges for activations from some images. The float network is run over them once, every
// observer of observer.h looking on; then each observer's ranges are tried on the same images, in integers, and those
// that lose least are kept.
//
//     PTQ_Quantizer quantizer(model, integer_config(model, example).list);
//     quantizer.compress();
//     calibrate(quantizer, model, images, {.loss = loss_of(info)});
#pragma once
#include <espalier/compress/quantize/quantizer.h>
#include <espalier/core/batch.h>

#include <iosfwd>

namespace espalier {

// How ranges are found and compared.
struct CalibrateOptions {
  std::string observer = "auto";                      // or one of calibration_observers(), which then is the only one
  Loss loss = {};                                     // by which ranges are compared; required
  Device device = {};                                 // where the model is
  std::vector<std::vector<std::string>> shared = {};  // layers whose outputs get one range: IntegerConfig::shared
  const std::atomic<int>* stop = nullptr;             // looked at before every batch: non-zero ends it, in an error
};

// What calibrate() found.
struct Calibration {
  // An observer's ranges, tried.
  struct Row {
    std::string observer;   // its name
    double loss, accuracy;  // on the calibration images, by the engine
  };
  std::vector<Row> table;                     // of all that were tried
  double float_loss = 0, float_accuracy = 0;  // of the network before
  std::string observer;                       // whose ranges were kept
  int64_t images = 0;                         // that were seen
};

// Those of observer_names() that calibrate() tries.
ESPALIER_API std::vector<std::string> calibration_observers();

// The quantizer's transforms are on the model. Leaves them fixed. Throws usage without images, and, with the layer's
// name, where a transform has seen nothing; data where what it sees is not finite.
ESPALIER_API Calibration calibrate(Quantizer& quantizer, Module& model, BatchSource& images,
                                   const CalibrateOptions& options);

ESPALIER_API std::ostream& operator<<(std::ostream& out, const Calibration& calibration);  // a table

}  // namespace espalier
