#!/usr/bin/env python3
"""Checks with PyTorch that espalier's .pth files are PyTorch's own: files that torch.save wrote are loaded and saved by
espalier, loaded here with torch.load(weights_only=True) and compared element for element.

    python scripts/peers/check_pth.py BUILD/tests/pth_test      (any PyTorch from 1.13 on, torch's only requirement)
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import torch

# What espalier keeps a type as, where it has none of its own.
KEPT_AS = {torch.float64: torch.float32, torch.float16: torch.float32, torch.int16: torch.int32, torch.bool: torch.uint8}
# 1.13's weights_only cannot read a float, not even its own.
SAFELY = {"weights_only": True} if int(torch.__version__.split(".")[0]) >= 2 else {}
compared = 0


def compare(where, ours, theirs):
    global compared
    compared += 1
    if isinstance(theirs, torch.Tensor):
        assert isinstance(ours, torch.Tensor), f"{where}: {type(ours)}"
        theirs = theirs.detach()
        theirs = theirs.to(KEPT_AS.get(theirs.dtype, theirs.dtype))
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape, f"{where}: {ours.dtype} {tuple(ours.shape)}"
        assert torch.equal(ours, theirs), f"{where}: values differ"
        if ours.dim() == 4:
            assert ours.is_contiguous(memory_format=torch.channels_last), f"{where}: strides {ours.stride()}"
    elif isinstance(theirs, dict):
        assert isinstance(ours, dict) and list(ours) == [str(k) for k in theirs], f"{where}: keys {list(ours)}"
        for key, value in theirs.items():
            compare(f"{where}.{key}", ours[str(key)], value)
    elif isinstance(theirs, (list, tuple)):
        assert isinstance(ours, list) and len(ours) == len(theirs), f"{where}: {ours}"
        for i, value in enumerate(theirs):
            compare(f"{where}[{i}]", ours[i], value)
    else:
        assert type(ours) is type(theirs) and ours == theirs, f"{where}: {ours!r}, expected {theirs!r}"


def network():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 37, 3), torch.nn.BatchNorm2d(37), torch.nn.Conv2d(37, 37, 3, groups=37), torch.nn.Flatten(),
        torch.nn.Linear(37 * 16, 10))


def main(binary):
    torch.manual_seed(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        (folder / "in").mkdir()
        (folder / "out").mkdir()
        maker = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "make_pth.py"
        subprocess.run([sys.executable, "-W", "ignore", maker, folder / "in"], check=True)
        (folder / "in" / "legacy.pth").unlink()  # refused, as the test suite checks
        (folder / "in" / "torchscript.pth").unlink()

        for name, make in {"sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
                           "adam": lambda p: torch.optim.Adam(p), "adamw": lambda p: torch.optim.AdamW(p)}.items():
            for layout in (torch.contiguous_format, torch.channels_last):
                model = network().to(memory_format=layout)
                optimizer = make(model.parameters())
                schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
                for _ in range(2):
                    model(torch.randn(4, 3, 8, 8).contiguous(memory_format=layout)).square().sum().backward()
                    optimizer.step()
                    schedule.step()
                state = schedule.state_dict()
                state.pop("_get_lr_called_within_step", None)
                torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": state},
                           folder / "in" / f"{name}_{str(layout)[6:]}.pth")

        subprocess.run([binary, "-tc=resave for a peer"], check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "ESPALIER_RESAVE": str(folder)})
        files = sorted(p.name for p in (folder / "in").iterdir())
        for name in files:
            ours = torch.load(folder / "out" / name, **SAFELY)
            compare(name, ours, torch.load(folder / "in" / name))
            with zipfile.ZipFile(folder / "out" / name) as archive:
                assert archive.testzip() is None, f"{name}: {archive.testzip()} has a wrong checksum"
                assert archive.read("archive/espalier.json") == b'{"peer": true}', name
            if "_" in name and name.startswith(("sgd", "adam")):
                network().load_state_dict(ours["model"])
    print(f"PyTorch {torch.__version__}: {len(files)} files, {compared} values, all equal")


main(sys.argv[1])
