// The quantizers by name. A quantizer is a line here and a scheme in a file of its own in quantizers/; the line gives
// it its class and a place in --quantizer.
#pragma once
#include <espalier/compress/quantize/quantizer.h>

namespace espalier {

#define ESPALIER_QUANTIZERS(X)  \
  X(naive, NaiveQuantizer)      \
  X(qat, QAT_Quantizer)         \
  X(dorefa, DoReFaQuantizer)    \
  X(bnn, BNNQuantizer)          \
  X(lsq, LSQQuantizer)          \
  X(lsq_plus, LSQPlusQuantizer) \
  X(ptq, PTQ_Quantizer)         \
  /* the next one's line goes here */

// What LSQ and LSQ+ share: learned scales, with `plus` an offset too (quantizers/lsq.cpp).
Scheme learned_scheme(const std::string& name, bool plus);

#define X(name, Class)                                                                     \
  ESPALIER_API Scheme name##_scheme();                                                     \
  class Class : public Quantizer {                                                         \
   public:                                                                                 \
    Class(Module& model, ConfigList config_list, QuantizerOptions options = {})            \
        : Quantizer(name##_scheme(), model, std::move(config_list), std::move(options)) {} \
  };
ESPALIER_QUANTIZERS(X)
#undef X

ESPALIER_API std::vector<std::string> quantizer_names();
// Throws usage, naming the nearest, on a name that is none.
ESPALIER_API Scheme make_scheme(const std::string& name);
// Throws usage, naming the nearest, on a name that is none.
ESPALIER_API std::unique_ptr<Quantizer> make_quantizer(const std::string& name, Module& model, ConfigList config_list,
                                                       QuantizerOptions options = {});

}  // namespace espalier
