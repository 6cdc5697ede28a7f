"""What is worth measuring on one large card, in 8 minutes: one script, in the order of worth, a JSON line as it comes.

    python benchmarks/h200.py --root path/to/camvid --json h200.jsonl

Each part is a command of its own with a limit of its own, and one that is out of time keeps the lines it has written.
Called again with the same file, the script goes on with the parts that have not ended, so a card that is lent for a few
minutes at a time will do. ``--try`` runs every part with tiny sizes on a CPU, which shows that the script works, and no
speed. Beside each part stands what is predicted; no prediction is a measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Part:
    """A command, whose JSON lines are in the file ``{rows}``.

    Attributes:
        name: of the part.
        seconds: it is ended after them.
        predicted: before anything was measured, in words.
        command: what runs.
    """

    name: str
    seconds: int
    predicted: str
    command: Sequence[str]


def parts(root: Path, work: Path, tiny: bool) -> list[Part]:
    """In the order of worth."""
    python, device = sys.executable, "cpu" if tiny else "cuda"
    tests = ["tests/engine/test_cuda.py", "--collect-only"] if tiny else ["tests"]  # they want a card
    shared = ["--root", str(root), "--device", device, "--json", "{rows}"]
    side = ["--model", "resnet34", "--batch", "8", "--epochs", "4", "--repeats", "1", "--graph"]
    side += ["--contestants", "lightning,segkit"]
    large = ["--model", "unet64", "--steps", "20", "--batch", "8", "--precisions", "bf16", "--repeats", "2"]
    if tiny:
        side = ["--model", "unet4", "--batch", "2", "--crop", "32", "32", "--epochs", "2", "--repeats", "1"]
        side += ["--images", "4", "--val", "2", "--contestants", "bare,segkit", "--precision", "fp32"]
        large = ["--model", "unet4", "--steps", "1", "--side", "160", "--window", "64", "--repeats", "1"]
        large += ["--precisions", "fp32", "--contestants", "network,segkit"]
    found = [
        Part("tests", 60, "all pass", [python, "-m", "pytest", "-q", "-m", "gpu and not slow", *tests]),
        *benches(root, tiny),
        Part(
            "side by side, graphs on both sides",
            120,
            "segkit trains 1.5 times as fast as Lightning end to end",
            [python, str(HERE / "side_by_side.py"), *shared, *side],
        ),
        Part(
            "losses and metrics",
            30,
            "dice_cross_entropy takes a quarter of smp + torch's time, and a third of its memory",
            [python, str(HERE / "losses_and_metrics.py"), "--device", device, "--json", "{rows}"],
        ),
        Part(
            "windows beside MONAI",
            60,
            "4,000 x 4,000 by unet 64 in 0.6 s, beyond the network half of what MONAI takes, a tenth of its memory",
            [python, str(HERE / "inference.py"), *shared, *large, "--parts", "windows"],
        ),
        camvid(root, work / "camvid-468", tiny),
    ]
    return [part for part in found if not (tiny and part.name.startswith("losses"))]  # on a CPU it takes minutes


BENCH = """
import json, sys
from segkit.config import read_config
from segkit.files import to_jsonable
from segkit_bench.measure import measure
rows, seconds, config, *overrides = sys.argv[1:]
for name, figures in measure(read_config(config, overrides), float(seconds)):
    with open(rows, "a") as file:
        file.write(json.dumps({"measurement": name, **to_jsonable(figures)}) + "\\n")
"""  # what `segkit bench --json` prints, a line for each measurement as soon as it is made


def benches(root: Path, tiny: bool) -> list[Part]:
    """Training steps of two networks on a resident batch and in the pipeline, compiled without and with CUDA graphs."""
    models = {"unet 64": [], "smp resnet34": ["model.name=smp", "model.encoder=resnet34"]}
    predicted = [
        "310 images/s on the resident batch (measured once: 310, roof 442), 0.97 of it in the pipeline",
        "315: the card is busy anyway; the aim of 350 stands and falls with batch normalisation",
        "600 images/s: the host is the limit",
        "780 images/s on the resident batch, 755 in the pipeline (measured once: 779, 755)",
    ]
    size = ["augment.crop=512", "train.batch_size=16", "train.compile=true", "train.device=cuda"]
    seconds = "5"
    if tiny:
        models = {name: ["model.width=4", "model.depth=2"] for name in models}
        size = ["augment.crop=32", "train.batch_size=2", "train.device=cpu"]
        seconds = "0.5"
    found = []
    for name, model in models.items():
        for graph in ("false", "true"):
            how = [*_camvid(root), *size, *model, f"train.cuda_graph={graph}"]
            command = [sys.executable, "-c", BENCH, "{rows}", seconds, *how]
            mode = "reduce-overhead" if graph == "true" else "compiled"
            found.append(Part(f"bench {name}, {mode}", 40, predicted[len(found)], command))
    return found


def camvid(root: Path, run: Path, tiny: bool) -> Part:
    """The recipe on train and val, scored on test; a run that was broken off goes on."""
    how = [*_camvid(root), "dataset.train_on_val=true", "data.allow_leaks=true", f"output.dir={run}"]
    how += ["--resume"] if (run / "run.json").exists() else []
    command = [sys.executable, "-m", "segkit", *(["check", *_camvid(root)] if tiny else ["run", *how])]
    text = "test mIoU 0.70: 4,500 steps of 8 crops in 110 s (LETNet 0.705, LMFFNet 0.691)"
    return Part("CamVid, 468 images", 200, text, command)


def _camvid(root: Path) -> list[str]:
    return [str(HERE.parent / "examples" / "camvid.toml"), f"dataset.root={root}"]


def measure(part: Part, limit: float, file: Path) -> str:
    """Run a part, and append its lines and how it ended, which is returned."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        rows, log = Path(folder) / "rows.jsonl", Path(folder) / "log"
        command = [word.replace("{rows}", str(rows)) for word in part.command]
        with log.open("w") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, cwd=HERE.parent
            )
            try:
                status = process.wait(limit)
                ended = "done" if status == 0 else f"failed with exit status {status}"
            except subprocess.TimeoutExpired:
                ended = "out of time"
            finally:  # its own processes too, and after Ctrl-C
                _end(process)
        lines = [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []
        told = log.read_text(errors="replace").strip().splitlines()
    last: dict[str, Any] = {"ended": ended, "seconds": time.monotonic() - began, "predicted": part.predicted}
    last |= {"told": told[-1:] if ended == "done" else told[-20:]}
    with file.open("a") as output:
        output.writelines(json.dumps({**line, "part": part.name}) + "\n" for line in [*lines, last])
    return ended


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ended(file: Path) -> dict[str, str]:
    """How each part ended that the file knows, by its name."""
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return {line["part"]: line["ended"] for line in lines if "ended" in line}


def main(argv: Sequence[str] | None = None) -> int:
    """Run what has not ended, within the time; 0 when every part is done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="CamVid: images/{train,val,test}/*, masks/*/*.png")
    parser.add_argument("--json", type=Path, required=True, help="for the lines; what is done in it is not done again")
    parser.add_argument("--minutes", type=float, default=8, help="for this call")
    parser.add_argument("--try", action="store_true", dest="tiny", help="tiny sizes on a CPU")
    arguments = parser.parse_args(argv)
    end = time.monotonic() + 60 * arguments.minutes
    work = arguments.json.resolve().with_suffix("")
    every = parts(arguments.root.resolve(), work, arguments.tiny)
    for part in every:
        left = end - time.monotonic()
        if ended(arguments.json).get(part.name) == "done":
            continue
        if left < 10:
            print("the time is over; call it again to go on")
            break
        print(f"{part.name}; predicted: {part.predicted}", flush=True)
        print(f"    {measure(part, left if arguments.tiny else min(left, part.seconds), arguments.json)}", flush=True)
    found = ended(arguments.json)
    return 0 if all(found.get(part.name) == "done" for part in every) else 1


if __name__ == "__main__":
    sys.exit(main())
