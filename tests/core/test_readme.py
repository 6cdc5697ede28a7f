"""What the README says is there is there, and what is there is said."""

from __future__ import annotations

import re
from importlib.metadata import distributions
from pathlib import Path

import pytest

from segkit import plugins
from segkit.cli import STATUSES, main

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


def test_the_table_of_components_is_what_list_prints_of_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = [distribution for distribution in distributions() if distribution.metadata["Name"] == "segkit"]
    points = [point for distribution in ours for point in distribution.entry_points.select(group="segkit")]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    plugins.installed.cache_clear()
    assert main(["list", "--markdown"]) == 0
    markers = r"<!-- components: .* -->\n(.*)\n<!-- end of components -->"
    table = re.search(markers, (ROOT / "docs" / "components.md").read_text("utf-8"), re.DOTALL)
    assert table
    assert capsys.readouterr().out.strip() == table[1]  # else paste it there
    plugins.installed.cache_clear()


def test_there_is_one_command_to_try_it_and_one_to_test_it() -> None:
    commands = re.findall(r"^    (python3 -m venv .*)$", README.read_text("utf-8"), re.MULTILINE)
    assert [command.rpartition(" && ")[2] for command in commands] == [
        "segkit run examples/quickstart.toml",
        'python -m pytest -n auto --maxprocesses 4 --dist loadfile -m "not gpu and not slow"',
    ]


def test_the_exit_statuses_are_those_that_every_help_ends_with() -> None:
    table = re.findall(r"^\| ([\d, ]+) \| (.*) \|$", (ROOT / "docs" / "scripts.md").read_text("utf-8"), re.MULTILINE)
    assert [f"  {numbers:13}  {meaning}".replace("\\|", "|") for numbers, meaning in table] == STATUSES.splitlines()[1:]


def test_every_link_leads_to_a_file_that_is_there() -> None:
    pages = [README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *(ROOT / "docs").glob("*.md")]
    links = [
        (page, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
        if not link.startswith("http") and link.endswith((".md", ".toml", ".py", ".png"))
    ]
    assert len(links) > 20
    assert [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()] == []


def test_the_readme_stays_short() -> None:
    assert len(README.read_text("utf-8").split()) <= 1400
    linked = re.findall(r"\(docs/([\w-]+\.md)\)", README.read_text("utf-8"))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} == set(linked)
