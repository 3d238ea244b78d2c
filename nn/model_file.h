// Model files that describe themselves: a state dict as PyTorch writes it, and beside it a note in JSON that names the
// model. load_model("shrunk.pth") rebuilds a bundled model, whatever its widths, without being told which it is.
#pragma once
#include <espalier/core/io/pth.h>
#include <espalier/nn/models.h>

namespace espalier {

// The note: {"espalier": "0.1.0", "model": "vgg19", "input": [3,32,32]}.
ESPALIER_API std::string model_note(const std::string& model, const Shape& input);

// Writes module's state dict and the note; `model` is one of model_list()'s names (or "-smooth" twins).
ESPALIER_API void save_model(const std::string& path, Module& module, const std::string& model);

struct LoadedModel {
  std::unique_ptr<Module> module;  // in eval mode
  ModelInfo info;                  // info.name is the model's name
};
// A bundled model with the file's weights: a state dict, or a checkpoint that holds one. `model` names it where the
// file does not (a plain PyTorch file), and wins where both do. Throws ErrorKind::data on a file that does not fit.
ESPALIER_API LoadedModel load_model(const std::string& path, const std::string& model = "");

// The weights among what a file holds: the state dict itself, or the entry "model" or "state_dict" of a checkpoint.
ESPALIER_API pth::StateDict weights_of(const pth::Value& value, const std::string& path);

}  // namespace espalier
