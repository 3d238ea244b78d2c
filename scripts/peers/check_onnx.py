#!/usr/bin/env python3
"""Checks espalier's ONNX files in ONNX Runtime: the same outputs as espalier computed, at two batch sizes.

    python scripts/peers/check_onnx.py BUILD/tests/onnx_test     every operation; every bundled model plain, masked, shrunk
    python scripts/peers/check_onnx.py FOLDER                    compares FOLDER/*.onnx with FOLDER/*.pth
    python scripts/peers/check_onnx.py FILE.onnx LOGITS.pth      one file with what `evaluate --logits` wrote

A .pth beside a model is a dict of runs, each a dict of the inputs by name and "output". Errors are relative to the
largest output; the bar is 1e-4. Needs torch (to read .pth), onnx and onnxruntime.
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

BAR = 1e-4


def check(model_path, pth_path):
    """The largest error of the file, relative to the largest output."""
    onnx.checker.check_model(onnx.load(model_path), full_check=True)
    session = onnxruntime.InferenceSession(str(model_path), providers=["CPUExecutionProvider"])
    worst = 0.0
    runs = torch.load(pth_path, weights_only=True)
    if "output" in runs or "logits" in runs:  # a single run
        runs = {"run": runs}
    for run in runs.values():
        expected = (run["output"] if "output" in run else run["logits"]).numpy()
        names = [i.name for i in session.get_inputs()]
        given = {name: numpy.ascontiguousarray(run[name].numpy()) for name in names}
        (actual,) = session.run(None, given)
        assert actual.shape == expected.shape, f"{model_path}: shape {actual.shape}, expected {expected.shape}"
        assert numpy.isfinite(actual).all(), f"{model_path}: not finite"
        worst = max(worst, float(numpy.abs(actual - expected).max() / max(numpy.abs(expected).max(), 1e-30)))
    return worst


def check_folder(folder):
    worst = {}
    for model in sorted(pathlib.Path(folder).glob("*.onnx")):
        worst[model.stem] = check(model, model.with_suffix(".pth"))
        print(f"{model.stem:32} {worst[model.stem]:.2e}")
    assert worst, f"no .onnx files in {folder}"
    name = max(worst, key=worst.get)
    print(f"ONNX Runtime {onnxruntime.__version__}: {len(worst)} files, worst {name} {worst[name]:.2e}, bar {BAR:.0e}")
    return worst[name] <= BAR


def main(first, second=None):
    onnxruntime.set_default_logger_severity(3)
    if second:
        error = check(first, second)
        print(f"{first}: {error:.2e}, bar {BAR:.0e}")
        return error <= BAR
    if os.path.isdir(first):
        return check_folder(first)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([first], check=True, stdout=subprocess.DEVNULL, env={**os.environ, "ESPALIER_ONNX_OUT": folder})
        return check_folder(folder)


sys.exit(0 if main(*sys.argv[1:]) else "the outputs differ")
