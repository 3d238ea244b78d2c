// Model files that describe themselves: a state dict as PyTorch writes it, and beside it a note in JSON that names the
// model. load_model("shrunk.pth") rebuilds it, whatever its widths, without being told which it is.
#pragma once
#include <espalier/core/io/pth.h>
#include <espalier/nn/models.h>

namespace espalier {

// The note: {"espalier": "0.1.0", "model": "vgg19", "input": [3,32,32], "classes": 10} and, where info.image knows it,
// "layout": "NCHW", "channels": "RGB" (or "grey"), "mean": [..], "std": [..], "class_names": [..].
ESPALIER_API std::string model_note(const ModelInfo& info);

// Writes module's state dict and the note; `model` is one of model_list()'s names (or "-smooth" twins). A module that
// carries masks or other transforms is written as {"model": state dict, "ports": their tensors}, as in checkpoints.
// `classes` is what the model was made with; 0: as many as model_info(model) says.
ESPALIER_API void save_model(const std::string& path, Module& module, const std::string& model, int64_t classes = 0);
// The same for the info of a model that was loaded, or trained on images that it tells of.
ESPALIER_API void save_model(const std::string& path, Module& module, const ModelInfo& info);

// A model, and what its file said of it.
struct LoadedModel {
  std::unique_ptr<Module> module;  // in eval mode
  ModelInfo info;                  // info.name is the model's name
};
// A model with the file's weights: a state dict, or a checkpoint that holds one (weights_of), whose names may begin
// with what DataParallel, torch.compile and Lightning put there; shrunk or at full size, with the masks that the file
// carries on its ports. `model` names it where the file does not (a plain PyTorch file), and wins where both do. Throws
// ErrorKind::data on a file that does not fit: only fewer channels are taken as the same model (never another kernel,
// input or number of classes), every tensor of a port must be known (nn/ports.h), and weights and buffers must be
// finite. Weights of s8 or u8 are codes, whose worth the ports say; packed ones (core/io/packed.h) are unpacked.
ESPALIER_API LoadedModel load_model(const std::string& path, const std::string& model = "",
                                    const std::string& key = "");

// The weights among what a file holds: the entry `key` ("ema" or, of a dict in a dict, "nets.ema"); without one, the
// value itself where it is a dict of tensors, or the only dict of tensors in it, on the outermost level that has any.
// Throws ErrorKind::data where there are several, with their keys, unless `own` says that espalier wrote the file,
// whose weights are "model"; and where there is none. Numbers and texts beside tensors are left out.
ESPALIER_API pth::StateDict weights_of(const pth::Value& value, const std::string& path, const std::string& key = "",
                                       bool own = false);

}  // namespace espalier
