"""The same model, data, batch, crop, loss and precision through a bare PyTorch loop, Lightning with smp, and segkit.

    python benchmarks/side_by_side.py --root path/to/camvid --model unet64

trains each contestant in a process of its own, one after the other, as often as ``--repeats`` says. It prints a JSON
line a training and then a table: seconds an epoch of training and validation, of training alone, start-up (imports,
segkit's scan of the labels and Lightning's sanity check among it) and what was learned in these steps.
``contestants/`` holds what runs, a file a contestant.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from contestants.table import tables
from contestants.task import Task, copy_pairs

PLACES = {"bare": "bare", "tuned": "bare", "lightning": "lightning_smp", "segkit": "segkit_fit"}
OPTIONS = {"tuned": {"tuned": True}}  # of a contestant that shares its file with another
NEEDS = {"lightning": ("pytorch_lightning", "torchmetrics")}  # the others need nothing that segkit does not
PACKAGES = ("torch", "torchvision", "segmentation-models-pytorch", "pytorch-lightning", "numpy", "pillow")


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="images/{train,val}/*, masks/{train,val}/*.png")
    parser.add_argument("--model", default="unet64", help="unet and a width, or an encoder for smp's U-Net: resnet34")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16"])
    parser.add_argument(
        "--lightning-precision", nargs="+", choices=["fp32", "bf16"], help="a row each; fp32 is its own"
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument(
        "--crop", type=int, nargs=2, default=[352, 480], help="height, width; smp wants multiples of 32"
    )
    parser.add_argument("--images", type=int, default=0, help="of train; 0 is all")
    parser.add_argument("--val", type=int, default=0, help="images of val; 0 is all")
    parser.add_argument("--epochs", type=int, default=3, help="the first warms up and is not counted")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, help="processes that load data; left out: as many as segkit would take")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--cache", default="", help="segkit's data.cache")
    parser.add_argument("--graph", action="store_true", help="CUDA graphs (reduce-overhead) for segkit and Lightning")
    parser.add_argument("--contestants", default="bare,lightning,segkit", help=", ".join(PLACES))
    parser.add_argument("--json", type=Path, help="a file for the JSON lines; left out: the standard output")
    parser.add_argument("--only", help="run one contestant in this process: lightning, or lightning:fp32")
    arguments = parser.parse_args(argv)
    if arguments.epochs < 2:
        parser.error(f"--epochs {arguments.epochs}: the first is not counted, so there must be two")
    for name in arguments.only.split(":")[:1] if arguments.only else arguments.contestants.split(","):
        if name not in PLACES:
            parser.error(f"there is no contestant '{name}'; there are {', '.join(PLACES)}")
        missing = [package for package in NEEDS.get(name, ()) if find_spec(package) is None]
        if missing:
            parser.exit(2, f"{name} needs {', '.join(missing)}: pip install -r benchmarks/requirements.txt\n")
    return arguments


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """One contestant, once: its row."""
    name, _, precision = arguments.only.partition(":")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        copy_pairs(arguments.root, root, {"train": arguments.images, "val": arguments.val})
        began = time.perf_counter()  # before torch is imported
        from contestants.clock import Clock

        from segkit.engine.precision import device_name, peak_memory, pick_device

        task, clock = task_of(arguments, root, precision or arguments.precision), Clock(began)
        scores = import_module(f"contestants.{PLACES[name]}").run(task, clock, **OPTIONS.get(name, {}))
        device = pick_device(task.device)
        return {
            "contestant": f"{name} {task.precision}",
            **clock.seconds(),
            **scores,
            "images_an_epoch": task.steps_an_epoch * task.batch,
            "val_images": len(task.pairs("val")),
            "steps": task.epochs * task.steps_an_epoch,
            "peak_memory_bytes": peak_memory(device),
            "device": device_name(device),
            **{key: value for key, value in vars(task).items() if key not in ("root", "folder", "device")},
            **environment(),
        }


def task_of(arguments: argparse.Namespace, root: Path, precision: str) -> Task:
    """What the command line asks for, on the data in ``root``."""
    from segkit.data.loader import worker_count
    from segkit.engine.precision import pick_device

    device = pick_device(arguments.device)
    return Task(
        root=root,
        folder=root.parent,
        model=arguments.model,
        device=device.type,
        precision=precision,
        batch=arguments.batch,
        crop=tuple(arguments.crop),
        epochs=arguments.epochs,
        workers=worker_count("auto" if arguments.workers is None else arguments.workers, device),
        lr=arguments.lr,
        cache=arguments.cache,
        graph=arguments.graph,
    )


def environment() -> dict[str, Any]:
    """Threads and versions."""
    import torch

    versions = {"python": platform.python_version(), "cuda": torch.version.cuda}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {"threads": torch.get_num_threads(), "cores": os.cpu_count(), "versions": versions}


def child(argv: Sequence[str], only: str) -> dict[str, Any]:
    """The row of one contestant, in a process of its own: nobody inherits another's memory, threads or kernels."""
    with tempfile.TemporaryDirectory() as cache:  # of segkit's scan: each start reads the labels anew
        done = subprocess.run(
            [sys.executable, __file__, *argv, "--only", only],
            env={**os.environ, "SEGKIT_CACHE": cache},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        sys.exit(f"{done.stderr}\n{only} failed with exit status {done.returncode}")
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])  # after what the contestants print
    return row


def main(argv: Sequence[str] | None = None) -> None:
    """Run all of them, and print the table."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = options(argv)
    if arguments.only:
        print(json.dumps(measure(arguments)))
        return
    contestants = []
    for name in arguments.contestants.split(","):
        precisions = arguments.lightning_precision if name == "lightning" else None
        contestants += [f"{name}:{precision}" for precision in precisions or [arguments.precision]]
    rows = []
    for repeat in range(arguments.repeats):
        for only in contestants:
            print(f"repeat {repeat + 1} of {arguments.repeats}: {only}", file=sys.stderr, flush=True)
            rows.append({**child(argv, only), "repeat": repeat + 1})
            line = json.dumps(rows[-1])
            if arguments.json:
                with arguments.json.open("a") as file:
                    file.write(f"{line}\n")
            else:
                print(line, flush=True)
    print(tables(rows))


if __name__ == "__main__":
    main()
