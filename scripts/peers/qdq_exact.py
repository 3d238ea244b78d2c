#!/usr/bin/env python3
"""Runs espalier's quantized ONNX files in ONNX Runtime and compares every code of every tensor with exact()'s.

    python scripts/peers/qdq_exact.py BUILD/tests/qdq_test     writes the files into a folder first
    python scripts/peers/qdq_exact.py FOLDER                   compares FOLDER/*.onnx with FOLDER/*.pth

A .pth beside a model is a dict: "input", "output", and "codes", a dict of u8 tensors by name; the file's tensor of
codes is NAME.codes. Default optimisation, 0 codes may differ. Needs torch (to read .pth), onnx and onnxruntime.
"""
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime
import torch


def check(model_path):
    model = onnx.load(model_path)
    onnx.checker.check_model(model, full_check=True)
    run = torch.load(model_path.with_suffix(".pth"), weights_only=True)
    made = {name for node in model.graph.node for name in node.output}
    codes = {name: t for name, t in run["codes"].items() if name + ".codes" in made}
    for name in codes:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name + ".codes", onnx.TensorProto.UINT8, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: numpy.ascontiguousarray(run["input"].numpy())}
    names = ["output"] + [name + ".codes" for name in codes]
    results = dict(zip(names, session.run(names, given)))
    differ = total = 0
    first = ""
    for name, expected in codes.items():
        actual = results[name + ".codes"]
        n = int((actual != expected.numpy()).sum())
        if n and not first:
            first = f", first in {name}: {n} of {actual.size}"
        differ += n
        total += actual.size
    output = results["output"]
    classes = int((output.argmax(1) != run["output"].numpy().argmax(1)).sum())
    print(f"{model_path.stem:32} {len(codes):4} tensors {total:9} codes, {differ} differ{first}; "
          f"{classes} of {len(output)} classes")
    return differ, classes, total


def main(place):
    onnxruntime.set_default_logger_severity(3)
    with tempfile.TemporaryDirectory() as made:
        folder = place
        if os.path.isfile(place):
            subprocess.run([place], check=True, env={**os.environ, "ESPALIER_QDQ_OUT": made})
            folder = made
        results = [check(path) for path in sorted(pathlib.Path(folder).glob("*.onnx"))]
    assert results, f"no .onnx files in {folder}"
    differ, classes, total = (sum(column) for column in zip(*results))
    print(f"ONNX Runtime {onnxruntime.__version__}: {len(results)} files, {total} codes, {differ} differ, "
          f"{classes} classes differ")
    return differ == 0 and classes == 0


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    sys.exit(0 if main(sys.argv[1]) else 1)
