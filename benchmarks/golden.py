"""Golden files: what another checkout of segkit gives and what this one gives, on one machine, and where they differ.

For a change that must not change results: `git worktree add ../base COMMIT`, an environment in it, then

    python benchmarks/golden.py ../base [--quick] [--only WORD] [--keep FOLDER]

Both run the same commands in float32 on one thread. Compared are result.json and metrics.jsonl without times, the final
weights bit by bit, check --json, predicted masks, list --json and show --json. No results are committed: CPUs round
differently. The status is 1 where something differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("SEGKIT_TEST_DATA", HERE.parent / "shared" / "data"))
TIMES = {"seconds", "images_per_second", "time", "started", "ended", "peak_memory_bytes", "version", "place"}

BASE = """
[train]
epochs = 2
batch_size = 4
device = "cpu"
precision = "fp32"
workers = 0
[output]
samples = 1
"""
SHAPES = '[dataset]\nname = "shapes"\nimages = [24, 8, 8]\nsize = 48\n'
UNET = '[model]\nname = "unet"\nwidth = 8\ndepth = 2\n'
CE = '[[loss]]\nname = "cross_entropy"\n'


def config(
    dataset: str, *, model: str = UNET, losses: str = CE, augment: str = "", train: str = "", rest: str = ""
) -> str:
    """A config of two short epochs in float32 on a CPU."""
    base = BASE.replace("[output]", train + "\n[output]")
    return "\n".join([rest, dataset, model, losses, "[augment]\n" + augment, base])


def loss_tables(*names: str) -> str:
    """Losses by name, as tables of a config."""
    return "".join(f'[[loss]]\nname = "{name}"\n' for name in names)


WEIGHTED = '[[loss]]\nname = "cross_entropy"\nclass_weights = "median_frequency"\nlabel_smoothing = 0.1\n'
VIEWS = "crop = 32\nscale = [0.7, 1.4]\nrotation = 20\ncolour = 0.5\nflip_vertical = 0.5\n"
BALANCED = "crop = 24\nclass_balanced = 0.5\nmax_class_share = 0.8\n"
SMP = '[model]\nname = "smp"\nencoder = "resnet18"\n'
METRICS = '[[metric]]\nname = "mean_dice"\n'
VOC = f'[dataset]\nname = "voc"\nroot = "{DATA}"\nyear = "2012"\n'

# name -> config; those of the quick set first
QUICK = {
    "shapes": config(SHAPES, losses=WEIGHTED + loss_tables("dice")),
    "views": config(
        SHAPES, augment=VIEWS, losses=loss_tables("focal", "lovasz"), train='optimizer = "muon"\nema = 0.9'
    ),
    "balanced": config(
        SHAPES, augment=BALANCED, losses=loss_tables("ohem", "tversky"), train="accumulate = 2\nclip_norm = 1.0"
    ),
}
SLOW = {
    "dice_cross_entropy": config(
        SHAPES, losses=loss_tables("dice_cross_entropy"), train='optimizer = "sgd"\nrepeat = 2'
    ),
    "valid": config(SHAPES.replace("48", "96"), model=UNET + 'padding = "valid"\n', train='schedule = "one_cycle"'),
    "cache": config(
        VOC,
        augment="crop = 96\nscale = [0.7, 1.4]\nrotation = 20\n",
        train="max_steps = 6",
        rest='[data]\ncache = "ram"\nresize = 0.3\n',
    ),
    "device_cache": config(SHAPES, augment=VIEWS, rest='[data]\ncache = "device"\n'),
    "smp": config(SHAPES, model=SMP, train="encoder_lr_mult = 0.1"),
    "voc": config(
        VOC, augment="crop = 128\nscale = [0.3, 0.6]\n", train="max_steps = 8", rest="[data]\nresize = 0.4\n"
    ),
    "workers": config(SHAPES, augment=VIEWS).replace("workers = 0", "workers = 2"),
}
MINIATURES = ("voc", "carvana", "gta5", "folder")
WRITE = """
import json, sys
from pathlib import Path
import segkit
options = segkit.datasets[sys.argv[1]].write_sample(sys.argv[2]) or {}
Path(sys.argv[2], "options.json").write_text(json.dumps(options))
"""


class Checkout:
    """One of the two: runs its segkit in a folder of its own.

    Args:
        root: the checkout, with an environment in .venv.
        folder: where everything is written.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root.resolve(), folder
        folder.mkdir(parents=True)
        own = self.root / ".venv" / "bin" / "python"
        self.python = str(own) if own.exists() else sys.executable
        self.environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "SEGKIT_CACHE": str(folder / "cache"),
            "SEGKIT_REPORT": "0",
            "SEGKIT_TENSORBOARD": "0",
            "PYTHONPATH": os.pathsep.join([str(self.root), str(self.root / "plugins")]),
        }

    def ask(self, *command: str) -> dict[str, Any]:
        """Status, standard output as JSON or text, and the last line of errors, of one command."""
        done = subprocess.run(
            [self.python, *command], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        try:
            output = json.loads(done.stdout)
        except ValueError:
            output = done.stdout
        if done.returncode:
            return {"status": done.returncode, "output": output, "errors": done.stderr[-2000:]}
        return {"status": 0, "output": output}

    def segkit(self, *arguments: str) -> dict[str, Any]:
        """What a command of segkit answers."""
        return self.ask("-m", "segkit", *arguments)

    def run(self, name: str, text: str) -> dict[str, Any]:
        """Check, train, evaluate and predict with one config."""
        (self.folder / f"{name}.toml").write_text(text)
        run = f"runs/{name}"
        found: dict[str, Any] = {"check": self.segkit("check", f"{name}.toml", "--json")}
        trained = self.segkit("run", f"{name}.toml", f'output.dir="{run}"', "--quiet")
        found["run"] = {"status": trained["status"], "errors": trained.get("errors", "")}
        if trained["status"]:
            return found
        folder = self.folder / run
        found["result"] = json.loads((folder / "result.json").read_text())
        found["metrics"] = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        found["weights"] = self.ask("-c", DIGEST, f"{run}/model.safetensors")["output"]
        found["evaluate"] = self.segkit("evaluate", run, "--json")["output"]
        return found

    def predict(self, name: str, images: Path) -> dict[str, Any]:
        """Predicted masks of two images, whole, in tiles, mirrored and scaled."""
        ways = {
            "whole": [],
            "tiles": ["--tile", "96", "--batch-size", "3"],
            "tta": ["--tta"],
            "probabilities": ["--probabilities"],
        }
        found: dict[str, Any] = {}
        for way, options in ways.items():
            place = self.folder / f"predicted-{name}-{way}"
            done = self.segkit("predict", f"runs/{name}", str(images), "--out", str(place), "--json", *options)
            found[way] = done
            for path in sorted(place.iterdir()) if place.is_dir() else []:
                found[f"{way}/{path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found


DIGEST = """
import hashlib, json, sys
from safetensors.torch import load_file
weights = load_file(sys.argv[1])
print(json.dumps({k: [list(v.shape), hashlib.sha256(v.numpy().tobytes()).hexdigest()] for k, v in weights.items()}))
"""


def listing(checkout: Checkout) -> dict[str, Any]:
    """``list --json`` and ``show --json`` of every component and table."""
    found = {"list": checkout.segkit("list", "--json")}
    components = found["list"]["output"]
    for component in components if isinstance(components, list) else []:
        if component["kind"] in ("model", "loss", "dataset", "metric"):
            shown = checkout.segkit("show", component["kind"], component["name"], "--json")
            found[f"show {component['kind']} {component['name']}"] = shown
    for table in ("data", "augment", "train", "output"):
        found[f"show {table}"] = checkout.segkit("show", table, "--json")
    return found


def miniature(checkout: Checkout, name: str) -> dict[str, Any]:
    """Check and train on the miniature that a dataset writes of itself."""
    root = checkout.folder / f"mini-{name}"
    checkout.ask("-c", WRITE, name, str(root))
    options = json.loads((root / "options.json").read_text())
    (root / "options.json").unlink()
    lines = [f"{key} = {json.dumps(value)}" for key, value in options.items()]
    table = "\n".join(["[dataset]", f'name = "{name}"', f'root = "mini-{name}"', *lines]) + "\n"
    return checkout.run(f"mini-{name}-run", config(table, augment="crop = 32\n", train="max_steps = 3"))


def differences(path: str, ours: Any, theirs: Any) -> list[str]:
    """Where two values differ, as lines ``path: base -> change``; times are left out."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = [key for key in {**theirs, **ours} if key not in TIMES]
        return [
            line
            for key in keys
            for line in differences(f"{path}.{key}", ours.get(key, "(none)"), theirs.get(key, "(none)"))
        ]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [line for place, (one, two) in pairs for line in differences(f"{path}[{place}]", one, two)]
    if ours == theirs or (ours != ours and theirs != theirs):
        return []
    return [f"{path}: {str(theirs)[:300]!r} -> {str(ours)[:300]!r}"]


def without(text: str, folder: Path) -> Any:
    """Everything that was found, with the folder it was found in taken out."""
    return json.loads(json.dumps(text).replace(str(folder), "FOLDER"))


def main() -> int:
    """Run every case in both checkouts and print the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, help="the other checkout, with an environment in .venv")
    parser.add_argument("--quick", action="store_true", help="three runs on shapes, list and show")
    parser.add_argument("--only", default="", metavar="WORD", help="cases whose name holds it")
    parser.add_argument("--keep", type=Path, help="keep what was written here")
    arguments = parser.parse_args()
    work = arguments.keep or Path(tempfile.mkdtemp())
    both = [Checkout(arguments.base, work / "base"), Checkout(HERE, work / "change")]
    runs = QUICK if arguments.quick else QUICK | SLOW
    cases: dict[str, Any] = {"listing": listing}
    for name, text in runs.items():
        if name not in ("voc", "cache") or (DATA / "VOCdevkit").exists():
            cases[name] = lambda checkout, name=name, text=text: checkout.run(name, text)
    if "shapes" in runs and (DATA / "VOCdevkit").exists():
        pictures = work / "pictures"
        pictures.mkdir(parents=True)
        for path in sorted((DATA / "VOCdevkit" / "VOC2012" / "JPEGImages").iterdir())[:2]:
            shutil.copy(path, pictures)
        cases["predict-shapes"] = lambda checkout: checkout.predict("shapes", pictures)
    if not arguments.quick:
        cases |= {f"mini-{name}": lambda checkout, name=name: miniature(checkout, name) for name in MINIATURES}
    status = 0
    for name, case in cases.items():
        if arguments.only not in name:
            continue
        theirs, ours = (without(case(checkout), checkout.folder) for checkout in both)
        found = differences(name, ours, theirs)
        failed = [key for key in ("run", "check") if isinstance(ours, dict) and ours.get(key, {}).get("status")]
        print(
            f"{name}: {'equal' if not found else f'{len(found)} differences'}{' FAILED' if failed else ''}", flush=True
        )
        for line in found[:40]:
            print(f"    {line}")
        if failed:
            print("    " + str([ours[key] for key in failed])[:1000])
        status |= bool(found or failed)
    if not arguments.keep:
        shutil.rmtree(work)
    return status


if __name__ == "__main__":
    sys.exit(main())
