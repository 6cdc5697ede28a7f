"""The functions that hand on a mask from its file to the loss are few, and those that CONTRIBUTING lists."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import segkit
from segkit.engine.step import TrainingLoop

ROOT = Path(segkit.__file__).parents[1]
SIZE, CROP, BATCH = (61, 47), (24, 20), 2
SHAPES = (SIZE, CROP, (BATCH, *CROP), (BATCH * CROP[0] * CROP[1],))


def is_mask(value: Any) -> bool:
    """Whether it is a mask of the test, in a file's size, cropped or in a batch, or holds one."""
    if isinstance(value, torch.Tensor | np.ndarray):
        whole = not (value.is_floating_point() if isinstance(value, torch.Tensor) else value.dtype.kind == "f")
        return whole and tuple(value.shape) in SHAPES
    return isinstance(value, tuple | list) and any(map(is_mask, value))


@contextmanager
def watched(passed: dict[str, None]) -> Iterator[None]:
    """Notes the functions of segkit and its plugins that return a mask, or a sample or a batch with it."""

    def note(frame: FrameType, event: str, returned: Any) -> None:
        code, file = frame.f_code, Path(frame.f_code.co_filename)
        own = file.is_relative_to(ROOT / "segkit") or file.is_relative_to(ROOT / "plugins")
        if own and event == "return" and "<" not in code.co_name and is_mask(returned):
            passed[code.co_qualname if "." in code.co_qualname else f"{file.stem}.{code.co_qualname}"] = None

    sys.setprofile(note)
    threading.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def test_a_mask_passes_the_functions_that_contributing_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for index in range(BATCH):
            for folder, shape in (("images", (*SIZE, 3)), ("masks", SIZE)):
                path = tmp_path / folder / split / f"{split}{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = random.integers(0, 2 if folder == "masks" else 256, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(path)
    passed: dict[str, None] = {}
    run_epoch = TrainingLoop.run_epoch

    def run_watched(*arguments: Any, **options: Any) -> Any:
        with watched(passed):
            return run_epoch(*arguments, **options)

    monkeypatch.setattr(TrainingLoop, "run_epoch", run_watched)
    segkit.run(
        {
            "dataset": {"name": "folder", "root": str(tmp_path), "classes": ["a", "b"]},
            "model": {"name": "unet", "width": 4, "depth": 2},
            "loss": [{"name": "cross_entropy"}],
            "augment": {"crop": list(CROP)},
            "train": {"epochs": 1, "batch_size": BATCH, "workers": 0, "device": "cpu", "precision": "fp32"},
            "output": {"dir": str(tmp_path / "run"), "samples": 0},
        }
    )
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("A mask passes these functions")[2]
    listed = re.findall(r"`([\w.]+)`", text.partition("\n\n")[0])
    assert sorted(passed) == sorted(listed)
    assert len(listed) <= 14
