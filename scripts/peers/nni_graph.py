"""Makes the graph tools of NNI 1.7 (dependency sets, mask conflicts, ModelSpeedup) run on PyTorch 1.13: import it after
nni.compression.torch. NNI's own logic is not touched, only what newer traces put in its way."""
import contextlib
import torch
import nni._graph_utils as graph_utils


@contextlib.contextmanager
def set_training(model, mode):  # was removed from torch.onnx
    before = model.training
    if mode is not None and before != mode:
        model.train(mode)
    try:
        yield
    finally:
        model.train(before)


torch.onnx.set_training = set_training
original = graph_utils.TorchModuleGraph._build_index


def build_index(self, nodes):
    """Drops groups of bookkeeping nodes, keeps tensors only as inputs and outputs, numbers modules that are called twice."""
    def plumbing(c):
        return c.kind().startswith('prim::')
    nodes[:] = [n for n in nodes if any(not plumbing(c) for c in n.node_cpps)]
    tensors = {o.debugName() for c in self.trace.graph.nodes() for o in c.outputs()
               if o.type().kind() == 'TensorType' and not plumbing(c)}
    tensors |= {i.debugName() for i in self.trace.graph.inputs() if i.type().kind() == 'TensorType'}
    uses = {}
    for n in nodes:
        n.inputs, n.outputs = [i for i in n.inputs if i in tensors], [o for o in n.outputs if o in tensors]
        if n.type == 'module':
            k = uses.get(n.name, 0)
            uses[n.name] = k + 1
            n.unique_name = n.name if not k else f'{n.name}.{k}'
    return original(self, nodes)


graph_utils.TorchModuleGraph._build_index = build_index
