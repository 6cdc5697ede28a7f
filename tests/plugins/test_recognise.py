"""Data sets recognise their own layout in a folder, and no other's."""

from __future__ import annotations

from pathlib import Path

import pytest

from segkit.registry import datasets

KNOWN = {"voc": [{"year": "2012"}, {"year": "2007"}], "carvana": [{}], "gta5": [{}]}


@pytest.mark.parametrize("name", KNOWN)
def test_a_miniature_is_recognised_by_its_own_class_alone(name: str, tmp_path: Path) -> None:
    datasets[name].write_sample(tmp_path)
    assert {each: datasets[each].recognise(tmp_path) for each in KNOWN} == {
        **{each: [] for each in KNOWN},
        name: KNOWN[name],
    }


def test_an_empty_folder_is_nothing(tmp_path: Path) -> None:
    assert all(not datasets[name].recognise(tmp_path) for name in KNOWN)
