// Writing sparse models: see pack.h.
#include <espalier/compress/mask.h>
#include <espalier/compress/pack.h>
#include <espalier/core/io/packed.h>
#include <espalier/nn/find_not_finite.h>
#include <espalier/nn/state_dict.h>

namespace espalier {

void save_packed(const std::string& path, Module& model, const std::string& note) {
  if (const std::string bad = first_not_finite(model); !bad.empty())
    fail(ErrorKind::other, "[save_packed] ", bad, " holds values that are not finite");
  const Baked baked(model);
  pth::save(path, pth::from_state_dict(pth::pack_zeros(state_dict(model))), note);
}

}  // namespace espalier
