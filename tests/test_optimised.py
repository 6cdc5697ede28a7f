"""Under ``python -O`` the same is refused: nothing that a user relies on is an ``assert``."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.fault("F45")
def test_no_assert_and_no_debug_outside_the_checks_of_plugins() -> None:
    found = []
    for path in (*(ROOT / "segkit").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")):
        if (ROOT / "segkit" / "testing") in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Assert) or (isinstance(node, ast.Name) and node.id == "__debug__"):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


SCRIPT = """
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import segkit
from segkit_folder.files import PairedFiles
from segkit_folder.masks import read_mask
from segkit.data.scan import scan_splits
from segkit.engine import checkpoint
from segkit.errors import SegkitError
from segkit.metric.confusion import ConfusionMatrix
from segkit_folder.dataset import FolderDataset
from segkit_voc.download import fetch, unpack

try:
    assert False
except AssertionError:
    sys.exit("this is no python -O")
folder = Path(sys.argv[1])
FolderDataset.write_sample(folder)
mask = folder / "masks" / "train" / "train_0.png"
Image.fromarray(np.full((30, 40), 200, np.uint8)).save(mask)
Image.fromarray(np.zeros((30, 40), np.uint8)).save(folder / "lossy.png", "JPEG")
dataset = FolderDataset(folder, "train", "classes.txt")
tables = {
    "dataset": {"name": "folder", "root": str(folder), "classes": "classes.txt"},
    "model": {"name": "unet"},
    "loss": [{"name": "dice"}],
}
logits, target = torch.zeros(1, 3, 4, 4), torch.full((1, 4, 4), 7)
(folder / "bad.pt").write_bytes(b"none")


def confusion():
    matrix = ConfusionMatrix(3, 255)
    matrix.update(logits, target)
    matrix.compute()


attempts = {
    "label": lambda: dataset[0],
    "scan": lambda: scan_splits({"train": dataset}, progress=False).refuse_errors(),
    "jpeg mask": lambda: read_mask(folder / "lossy.png"),
    "run": lambda: segkit.run(tables, {"output.dir": str(folder / "run")}),
    "label in a loss": lambda: segkit.losses["dice"](num_classes=3, ignore_index=255)(logits, target),
    "label in a metric": confusion,
    "shapes": lambda: segkit.losses["cross_entropy"](num_classes=3)(logits, target[0]),
    "class weights": lambda: segkit.losses["cross_entropy"](num_classes=3, class_weights=[1.0, 2.0])(logits, target),
    "negative weight": lambda: segkit.losses["focal"](num_classes=3, class_weights=[1.0, -2.0, 1.0]),
    "option": lambda: segkit.run(tables, {"loss.0.smoth": 1.0}),
    "type": lambda: segkit.run(tables, {"train.epochs": "many"}),
    "range": lambda: segkit.models["unet"](num_classes=3, depth=-1),
    "classes": lambda: PairedFiles([], classes=["a", "a"], palette=[(0, 0, 0)] * 2),
    "checkpoint": lambda: checkpoint.load(folder / "bad.pt"),
    "archive": lambda: unpack(folder / "bad.pt", folder / "out"),
    "checksum": lambda: fetch([], folder / "bad.pt", "0"),
}
for name, attempt in attempts.items():
    try:
        attempt()
    except SegkitError:
        print("refused", name)
    except Exception as error:
        print("raised", name, type(error).__name__, error)
    else:
        print("ACCEPTED", name)
"""


@pytest.mark.fault("F45")
@pytest.mark.parametrize("flag", ["-O", pytest.param("-OO", marks=pytest.mark.slow)])
def test_the_same_is_refused(tmp_path: Path, flag: str) -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
    done = subprocess.run(
        [sys.executable, flag, "-W", "ignore", "-c", SCRIPT, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 16
    assert [line for line in lines if not line.startswith("refused ")] == []
