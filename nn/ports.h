// Ports in files: a checkpoint carries the tensors of its model's transforms under their leaf names
// ("feature.0.weight_mask"), and here they become transforms again. What rebuilds a transform from its tensor is
// registered under the tensor's name, by whoever knows the transform; a tensor that nobody knows is refused by name,
// since a model without it would compute something else.
#pragma once
#include <espalier/core/io/pth.h>
#include <espalier/nn/module.h>

#include <set>

namespace espalier {

// Puts a transform that holds `tensor` on `port`, or throws ErrorKind::data. `value` is what passes through the port
// where that is a parameter's; undefined on a module's input or output.
using PortReader = std::function<void(Port& port, const Tensor& value, const Tensor& tensor)>;

// Register before the first model is read; "mask" is there from the start. Throws usage on a name that is taken.
ESPALIER_API void register_port_reader(const std::string& tensor_name, PortReader reader);

// The port tensors of a module by leaf name: what named_leaves lists beyond parameters and buffers.
ESPALIER_API pth::StateDict port_tensors(Module& module);
// Puts the transforms on the module's ports that `tensors` tell of. Throws ErrorKind::data on a tensor whose owner the
// module lacks, that no reader knows, or that does not fit.
ESPALIER_API void restore_ports(Module& module, const pth::StateDict& tensors);
// The parameters of these names hold codes, as files have them: the first transform on the port that knows codes says
// what they are worth. Throws ErrorKind::data where none does.
ESPALIER_API void decode_values(Module& module, const std::set<std::string>& names);

// The readers that are there from the start. compress/ defines it; it is linked and never included.
std::vector<std::pair<std::string, PortReader>> bundled_port_readers();

}  // namespace espalier
