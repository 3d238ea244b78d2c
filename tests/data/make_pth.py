#!/usr/bin/env python3
"""Writes the sample files that tests/pth_test.cpp reads, with whatever PyTorch runs this script.

The committed ones were made by PyTorch 1.13.1 and 2.15.0:  python make_pth.py FOLDER
Element i of every tensor is a formula of i alone, so that the test knows all values without reading them here.
"""
import argparse
import collections
import sys

import numpy
import torch


def ramp(n, dtype=torch.float32):
    i = torch.arange(n, dtype=torch.int64)
    steps = i * 7 % 23 - 11
    if dtype in (torch.bool,):
        return steps > 0
    if dtype == torch.uint8:
        return (steps + 11).to(dtype)
    return steps.to(dtype) if not dtype.is_floating_point else (steps.to(torch.float64) / 8).to(dtype)


def tensors():
    yield "rank0", ramp(1).reshape(())
    yield "rank1", ramp(5)
    yield "rank2", ramp(12).reshape(3, 4)
    yield "rank3", ramp(24).reshape(2, 3, 4)
    yield "rank4", ramp(120).reshape(2, 3, 4, 5)
    yield "rank4_channels_last", ramp(120).reshape(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    yield "rank4_one_channel", ramp(40).reshape(2, 1, 4, 5).contiguous(memory_format=torch.channels_last)
    yield "rank5", ramp(48).reshape(2, 3, 2, 2, 2)
    yield "transposed", ramp(12).reshape(3, 4).t().contiguous().t()
    yield "permuted", ramp(24).reshape(2, 3, 4).permute(2, 0, 1).contiguous().permute(1, 2, 0)
    base = torch.cat([torch.full((4,), 99.0), ramp(12), torch.full((4,), 99.0)])
    yield "view_with_offset", base[4:16].reshape(3, 4)
    yield "view_shared", base[4:9]
    pairs = torch.stack([ramp(6), torch.full((6,), 99.0)], 1)
    yield "view_strided", pairs[:, 0]
    yield "expanded", ramp(1).reshape(1, 1).expand(3, 4)
    yield "empty", torch.zeros(0, 3)
    yield "parameter", torch.nn.Parameter(ramp(12).reshape(3, 4))
    for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
                  torch.int8, torch.uint8, torch.bool):
        yield str(dtype).replace("torch.", ""), ramp(23, dtype).reshape(23)


def script(folder, model):
    """Checkpoints as training scripts leave them, in every pickle protocol and format (the committed ones: 2.15's)."""
    with torch.no_grad():
        for t in model.parameters():
            t.copy_(ramp(t.numel()).reshape(t.shape))
    value = {"net": torch.nn.DataParallel(model).state_dict(), "accuracy": numpy.float64(0.625),
             "loss": numpy.float32(-1.5), "epoch": numpy.int64(-3), "best": numpy.bool_(True), "seen": {1, 2},
             "empty": collections.defaultdict(dict, inside="x"), "args": argparse.Namespace(lr=0.1, layers=[1, 2]),
             "history": numpy.arange(4.0), "raw": b"bytes", "device": torch.device("cpu"),
             "view": model[0].bias.detach()[1:]}
    for protocol in range(2, 6):
        torch.save(value, f"{folder}/script_{protocol}.pth", pickle_protocol=protocol)
    torch.save(value, f"{folder}/script_legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(model, f"{folder}/module.pth")


def main(folder):
    state = collections.OrderedDict(tensors())
    state._metadata = collections.OrderedDict([("", {"version": 1})])
    torch.save(state, f"{folder}/tensors.pth")

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    with torch.no_grad():
        for t in model.parameters():
            t.copy_(ramp(t.numel()).reshape(t.shape))
    torch.save(model.state_dict(), f"{folder}/state_dict.pth")

    optimizer = torch.optim.SGD(model.parameters(), lr=0.25, momentum=0.5)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[3, 5])
    for p in model.parameters():
        p.grad = ramp(p.numel()).reshape(p.shape)
    optimizer.step()
    schedule.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(),
                "epoch": 7, "loss": 0.125, "big": 2 ** 40, "negative": -3, "best": True, "nothing": None,
                "name": "größe", "list": [1, [2.5, "x"], {}], "size": torch.Size([2, 3])},
               f"{folder}/checkpoint.pth")

    torch.save({"conv": {"weight": torch.ones(2, 3), "bias": None}}, f"{folder}/masks.pth")
    script(folder, model)
    torch.save({"a": ramp(3)}, f"{folder}/legacy.pth", _use_new_zipfile_serialization=False)
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), f"{folder}/torchscript.pth")


main(sys.argv[1])
