// The quantizers by name. A quantizer is a line here and a scheme in a file of its own in quantizers/; the line gives
// it its class and a place in --quantizer.
#pragma once
#include <espalier/compress/quantize/quantizer.h>

namespace espalier {

// Names in --quantizer and classes, NNI's where it has one.
#define ESPALIER_QUANTIZERS(X)                                                                          \
  X(naive, NaiveQuantizer)      /* NNI's: weights of 8 bits, cut off towards zero */                    \
  X(qat, QAT_Quantizer)         /* quantization-aware training (Jacob et al. 2018, arXiv 1712.05877) */ \
  X(dorefa, DoReFaQuantizer)    /* DoReFa-Net's weights (Zhou et al. 2016, arXiv 1606.06160) */         \
  X(bnn, BNNQuantizer)          /* signs (Hubara et al. 2016, arXiv 1602.02830) */                      \
  X(lsq, LSQQuantizer)          /* scales that learn (Esser et al. 2020, arXiv 1902.08153) */           \
  X(lsq_plus, LSQPlusQuantizer) /* and offsets (Bhalgat et al. 2020, arXiv 2004.09576) */               \
  X(ptq, PTQ_Quantizer)         /* without a step: ranges from images, by calibrate() */                \
  /* the next one's line goes here */

// What LSQ and LSQ+ share: learned scales, with `plus` an offset too (quantizers/lsq.cpp).
Scheme learned_scheme(const std::string& name, bool plus);

// The scheme of `Class`, a Quantizer. The class throws usage as Quantizer does.
#define X(name, Class)                                                                     \
  ESPALIER_API Scheme name##_scheme();                                                     \
  class Class : public Quantizer {                                                         \
   public:                                                                                 \
    Class(Module& model, ConfigList config_list, QuantizerOptions options = {})            \
        : Quantizer(name##_scheme(), model, std::move(config_list), std::move(options)) {} \
  };
ESPALIER_QUANTIZERS(X)
#undef X

ESPALIER_API std::vector<std::string> quantizer_names();  // "naive", ...
// By name. Throws usage, naming the nearest, on a name that is none.
ESPALIER_API Scheme make_scheme(const std::string& name);
// Throws usage, naming the nearest, on a name that is none.
ESPALIER_API std::unique_ptr<Quantizer> make_quantizer(const std::string& name, Module& model, ConfigList config_list,
                                                       QuantizerOptions options = {});

}  // namespace espalier
