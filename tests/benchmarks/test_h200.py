"""The script for a card: its parts end in time, keep their lines, and are not run twice."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def h200(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("h200")


WRITES = """
import sys, time
print("hello")
with open(sys.argv[1], "a") as file:
    file.write('{"speed": 3, "part": "its own"}\\n')
time.sleep(float(sys.argv[2]))
sys.exit(int(sys.argv[3]))
"""


def part(h200: ModuleType, name: str, sleep: float = 0, status: int = 0, most: int = 60) -> object:
    return h200.Part(name, most, "fast", [sys.executable, "-c", WRITES, "{rows}", str(sleep), str(status)])


def test_a_part_out_of_time_keeps_its_lines_and_is_run_again(
    h200: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "rows.jsonl"
    every = [part(h200, "good"), part(h200, "bad", status=3), part(h200, "slow", sleep=600, most=5)]
    monkeypatch.setattr(h200, "parts", lambda *_: every)
    monkeypatch.setattr(h200, "Part", None)  # no other is made
    how = ["--root", str(tmp_path), "--json", str(file)]
    assert h200.main(how) == 1
    assert h200.ended(file) == {"good": "done", "bad": "failed with exit status 3", "slow": "out of time"}
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["part"] for line in lines if line.get("speed") == 3] == ["good", "bad", "slow"]
    assert lines[1]["predicted"] == "fast"
    assert lines[1]["told"] == ["hello"]
    del every[1:]
    assert h200.main(how) == 0
    assert len(file.read_text().splitlines()) == len(lines), "what is done was done again"


@pytest.mark.slow
def test_every_part_works(h200: ModuleType, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4), ("test", 2)):
        for folder in ("images", "masks"):
            (tmp_path / "data" / folder / split).mkdir(parents=True)
        for number in range(count):
            labels = rng.integers(0, 11, (4, 5), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
            Image.fromarray(labels).save(tmp_path / "data" / "masks" / split / f"{split}{number}.png")
            Image.fromarray(labels * 20).convert("RGB").save(tmp_path / "data/images" / split / f"{split}{number}.jpg")
    file = tmp_path / "rows.jsonl"
    how = ["--try", "--root", str(tmp_path / "data"), "--json", str(file)]
    assert h200.main(how) == 0, file.read_text()
    parts = {json.loads(line)["part"] for line in file.read_text().splitlines() if "ended" not in json.loads(line)}
    assert {"bench unet 64, compiled", "side by side, graphs on both sides", "windows beside MONAI"} <= parts
