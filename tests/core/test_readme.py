"""What the README says is there is there, and what is there is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from segkit.registry import PLURALS, REGISTRIES

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.parametrize("kind", REGISTRIES)
def test_the_table_names_every_component_of_ours_and_no_other(kind: str) -> None:
    (row,) = re.findall(rf"^\| {PLURALS[kind]} \| (.*) \|$", README.read_text("utf-8"), re.MULTILINE)
    without_remarks = re.sub(r"\([^)]*\)|;.*", "", row)
    ours = {component.name for component in REGISTRIES[kind].components() if component.distribution == "segkit"}
    assert set(re.findall(r"`(\w+)`", without_remarks)) == ours


def test_there_is_one_command_to_try_it_and_one_to_test_it() -> None:
    commands = re.findall(r"^    (python3 -m venv .*)$", README.read_text("utf-8"), re.MULTILINE)
    assert [command.rpartition(" && ")[2] for command in commands] == [
        ".venv/bin/python -m segkit run examples/quickstart.toml",
        ".venv/bin/python -m pytest",
    ]
