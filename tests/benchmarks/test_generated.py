"""What is drawn is read by the datasets as the real files are."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

import segkit


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    generated = importlib.import_module("generated")
    monkeypatch.setattr(generated, "CAR", (480, 320))
    monkeypatch.setattr(generated, "STREET", (957, 526))
    monkeypatch.setattr("sys.argv", ["generated.py", str(tmp_path), "--cars", "0", "--streets", "0"])
    generated.main()
    for number in range(3):
        generated.car(tmp_path / "carvana", number)
        generated.street(tmp_path / "gta5", number + 1)
    return tmp_path


@pytest.mark.slow
def test_cars_are_dealt_whole_and_stand_before_a_wall(drawn: Path) -> None:
    splits = [segkit.datasets["carvana"](root=drawn / "carvana", split=split) for split in ("train", "val", "test")]
    assert [len(each) for each in splits] == [16, 16, 16]
    mask = np.asarray(splits[0][0].mask)
    assert mask.shape == (320, 480)
    assert 0.05 < (mask == 1).mean() < 0.5


def test_streets_have_gta5s_classes_and_void(drawn: Path) -> None:
    dataset = segkit.datasets["gta5"](root=drawn / "gta5", split="train", fractions=[0.4, 0.3, 0.3])
    mask = np.asarray(dataset[0].mask)
    names = {dataset.classes[value] for value in np.unique(mask) if value != 255}
    assert {"sky", "road", "building", "person", "pole"} <= names
    assert (mask[-5:] == 255).all()  # the bonnet
