"""Prediction by segkit beside its peers: files through ``predict`` and through loops, sliding windows beside MONAI's.

    python benchmarks/inference.py --root path/to/camvid --json inference.jsonl

trains a small network first, or takes that of ``--run``. Each contestant runs in a process of its own, in turns, and
its JSON line is there as soon as it has ended; tables of medians and of ratios follow. On a CPU look at CPU time.
``contestants/prediction.py`` holds what runs.

The part ``files``: ``segkit predict`` beside a loop of PyTorch and Pillow with the same network, that loop as it is
written for smp, and ONNX runtime. The part ``windows``: the same network, windows, overlap and Gaussian weights over
one large image, from its pixels to its labels; the windows are compared before anything is timed. ``beyond`` is what
is taken beside the network's own calls, ``apart`` the share of pixels whose labels are not those of the whole image.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from contestants.prediction import CONTESTANTS, PART_OF, Given, mosaic, profile, same_windows
from contestants.table import markdown, spread
from contestants.task import CLASSES, copy_pairs

ONLY_FP32 = ("onnx", "whole")
NEEDS = {"onnx": ("onnxruntime", "onnx"), "monai": ("monai",), "monai max": ("monai",)}
OURS = ("predict", "segkit")
SHARES = {"s": "seconds", "CPU s": "cpu_seconds", "beyond": "beyond_seconds", "memory": "memory_bytes"}
COLUMNS = {  # of a row -> head, factor, digits
    "files": {
        "images_per_second": ("images/s", 1.0, 2),
        "seconds": ("s", 1.0, 2),
        "cpu_seconds": ("CPU s", 1.0, 2),
        "memory_bytes": ("memory, MiB", 2.0**-20, 0),
    },
    "windows": {
        "seconds": ("s", 1.0, 2),
        "cpu_seconds": ("CPU s", 1.0, 2),
        "network_seconds": ("network", 1.0, 2),
        "beyond_seconds": ("beyond", 1.0, 2),
        "memory_bytes": ("memory, MiB", 2.0**-20, 0),
        "apart": ("apart", 1.0, 5),
    },
}


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="images/{train,val,test}/*, masks/{train,val}/*.png")
    parser.add_argument("--run", type=Path, help="a run folder; left out: --model is trained for --steps steps")
    parser.add_argument("--model", default="unet16", help="unet and a width, or an encoder for smp's U-Net: resnet18")
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--parts", default="files,windows", help="files, windows")
    parser.add_argument("--contestants", help=f"of {', '.join(CONTESTANTS)}; left out: all that can be had here")
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], help="left out: fp32, and bf16 if fast")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--images", type=int, default=200, help="of the part files")
    parser.add_argument("--side", type=int, default=4000, help="pixels, of the image of the part windows")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--batch", type=int, default=1, help="windows at a time")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="a file for the JSON lines; left out: the standard output")
    parser.add_argument("--profile", action="store_true", help="where predict spends its CPU time, and nothing else")
    parser.add_argument("--work", type=Path, help="a folder for what is written; left out: one that is deleted")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def contestants(arguments: argparse.Namespace, is_smp: bool) -> list[str]:
    """``part:name:precision`` of all that are asked for and can be had; what cannot is told."""
    from segkit.engine.precision import cpu_has_bf16

    fast = arguments.device == "cuda" or cpu_has_bf16()
    chosen = arguments.contestants.split(",") if arguments.contestants else list(CONTESTANTS)
    found = []
    for name in chosen:
        if name not in CONTESTANTS:
            sys.exit(f"there is no contestant '{name}'; there are {', '.join(CONTESTANTS)}")
        missing = [package for package in NEEDS.get(name, ()) if find_spec(package) is None]
        if missing:
            print(f"{name} is left out: {', '.join(missing)} is not installed", file=sys.stderr)
        elif name == "smp" and not is_smp:
            print("smp is left out: the network is none of smp's (--model resnet18)", file=sys.stderr)
        else:
            for precision in arguments.precisions or ["fp32", *(["bf16"] if fast else [])]:
                if PART_OF[name] in arguments.parts.split(",") and (precision == "fp32" or name not in ONLY_FP32):
                    found.append(f"{PART_OF[name]}:{name}:{precision}")
    return found


def prepare(arguments: argparse.Namespace, work: Path) -> None:
    """The run, a list of images, the large image: what all contestants read."""
    run = arguments.run or work / "run"
    if not run.exists():
        copy_pairs(arguments.root, work / "data", {"train": 48, "val": 4})
        train(arguments, work, run)
    (work / "run.txt").write_text(str(run.resolve()))
    folder = arguments.root / "images" / "test"
    images = sorted((folder if folder.is_dir() else arguments.root / "images" / "val").iterdir())
    (work / "images.json").write_text(json.dumps([str(path.resolve()) for path in images[: arguments.images]]))
    mosaic(images, arguments.side, work / "large.npy")


def train(arguments: argparse.Namespace, work: Path, run: Path) -> None:
    """A small network that has learned something: labels of random weights say nothing."""
    unet = arguments.model.removeprefix("unet")
    model = {"name": "unet", "width": int(unet)} if unet.isdecimal() else {"name": "smp", "encoder": arguments.model}
    tables = {
        "dataset": {"name": "folder", "root": str(work / "data"), "classes": CLASSES, "void": [11, 255]},
        "model": model,
        "augment": {"crop": [192, 256]},
        "train": {"max_steps": arguments.steps, "epochs": 1, "repeat": 100, "device": arguments.device, "workers": 0},
        "output": {"dir": str(run), "samples": 0},
    }
    lines = []
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    (work / "run.toml").write_text("\n".join([*lines, '[[loss]]\nname = "dice_cross_entropy"\n']))
    command = [sys.executable, "-m", "segkit", "run", str(work / "run.toml"), "--quiet"]
    subprocess.run(command, check=True, env={**os.environ, "SEGKIT_CACHE": str(work / "cache")}, stdout=sys.stderr)


def given(arguments: argparse.Namespace, work: Path, precision: str) -> Given:
    """What a contestant is given."""
    return Given(
        run=Path((work / "run.txt").read_text()),
        images=[Path(each) for each in json.loads((work / "images.json").read_text())],
        work=work,
        device=arguments.device,
        precision=precision,
        window=arguments.window,
        overlap=arguments.overlap,
        batch=arguments.batch,
    )


def child(argv: Sequence[str], work: Path, only: str) -> dict[str, Any]:
    """The row of one contestant, in a process of its own: nobody inherits another's memory."""
    command = [sys.executable, __file__, *argv, "--work", str(work), "--only", only]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stderr}\n{only} failed with exit status {done.returncode}")
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def tables(rows: Sequence[Mapping[str, Any]]) -> str:
    """Medians with the lowest and the highest, and below them segkit's share of what each other contestant takes."""
    text = []
    for part, columns in COLUMNS.items():
        found: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            if row["part"] == part:
                found.setdefault(row["contestant"], []).append(row)
        if found:
            heads = [head for head, *_ in columns.values()]
            text.append(markdown([part, *heads], [[name, *_cells(found[name], columns)] for name in found]))
        ratios = [
            [f"{mine} / {other}", *_shares(found[mine], found[other])]
            for mine in found
            for other in found
            if mine.startswith(OURS) and not other.startswith(OURS) and mine.split()[-1] == other.split()[-1]
        ]
        if ratios:
            text.append(markdown(["ratio", *SHARES], ratios))
    return "\n\n".join(text)


def _cells(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, tuple[str, float, int]]) -> list[str]:
    values = [[row[key] * factor for row in rows if key in row] for key, (_, factor, _) in columns.items()]
    return [spread(each, digits) if each else "" for each, (*_, digits) in zip(values, columns.values(), strict=True)]


def _shares(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> list[str]:
    """By repeat, as those two ran one after the other."""
    found = []
    for key in SHARES.values():
        ratios = [a[key] / b[key] for a, b in zip(ours, theirs, strict=False) if a.get(key) and b.get(key)]
        found.append(f"{median(ratios):.2f}" if ratios else "")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Run all of them, and print the tables."""
    argv = list(sys.argv[1:] if argv is None else argv)
    arguments = options(argv)
    if arguments.only:
        part, name, precision = arguments.only.split(":")
        if name not in OURS:  # whose memory is as they find it
            from segkit.inference import predictor

            predictor.use_cpu = lambda: None
        row = CONTESTANTS[name](given(arguments, arguments.work, precision))
        print(json.dumps({"part": part, "contestant": f"{name} {precision}", **row}))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = (arguments.work or Path(folder)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        prepare(arguments, work)
        if arguments.profile:
            print(profile(given(arguments, work, "fp32")))
            return
        import segkit

        is_smp = type(segkit.load(Path((work / "run.txt").read_text()), device="cpu").model).__name__ == "Smp"
        every = contestants(arguments, is_smp)
        if any(each.startswith("windows:monai") for each in every):
            print(f"the same {same_windows(given(arguments, work, 'fp32'))} windows", file=sys.stderr)
        rows = []
        for repeat in range(arguments.repeats):
            for only in every:
                if repeat and only.startswith("windows:whole"):
                    continue
                print(f"repeat {repeat + 1} of {arguments.repeats}: {only}", file=sys.stderr, flush=True)
                rows.append({**child(argv, work, only), "repeat": repeat + 1})
                if arguments.json:
                    with arguments.json.open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
                else:
                    print(json.dumps(rows[-1]), flush=True)
        print(tables(rows))


if __name__ == "__main__":
    main()
