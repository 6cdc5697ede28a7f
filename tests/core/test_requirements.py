"""The plugins that a config pins: what is missing, too old or broken is told with what to do."""

from __future__ import annotations

import re
from typing import Any

import pytest

from segkit import plugins
from segkit.config import read_config
from segkit.engine.checkpoint import refuse_changes
from segkit.errors import ConfigError, RunFolderError
from segkit.plugins import unmet_requirements

WANTED = r"a list of distributions and versions is needed, such as \['segkit-poly>=0.1'\]"
TABLES = {
    "dataset": {"name": "shapes"},
    "model": {"name": "unet"},
    "loss": [{"name": "dice"}],
}


@pytest.fixture
def poly(site: Any) -> Any:
    """segkit-poly 1.5, and segkit-bad 1.5, which is broken."""
    site.offer("Segkit_Poly", "poly", "losses", {"poly": "poly_loss:Poly"})
    site.install("segkit-bad", "bad", "import no_such_library")
    return site


@pytest.mark.parametrize(
    "needed",
    ["segkit-poly", "segkit-poly>=1", "SEGKIT.poly==1.5", "segkit-poly ~= 1.0, != 1.2", "segkit", "segkit>=0.0.1"],
)
def test_what_is_there_is_no_problem(poly: Any, needed: str) -> None:
    assert unmet_requirements([needed]) == []


@pytest.mark.parametrize(
    ("needed", "problem"),
    [
        ("segkit-poly>=1.6", '^segkit-poly 1.5 is installed; >=1.6 is needed: pip install "segkit-poly>=1.6"$'),
        ("segkit-poly<1.0", '^segkit-poly 1.5 is installed; <1.0 is needed: pip install "segkit-poly<1.0"$'),
        ("segkit>=99", r'^segkit [\d.]+ is installed; >=99 is needed: pip install "segkit>=99"$'),
        ("unheard-of >= 1", '^unheard-of is not installed: pip install "unheard-of >= 1"$'),
        ("segkit-poly=1", f"^'segkit-poly=1': {WANTED}$"),
        (
            "segkit-poly @ https://example.org/x.whl",
            WANTED,
        ),
        ("segkit-poly; python_version > '3'", WANTED),
        ("segkit-poly[fast]", WANTED),
        ("", "^'': "),
        ({"a": 1}, f"^{{'a': 1}}: {WANTED}$"),
    ],
)
def test_what_is_not_there_is_told_with_what_to_do(poly: Any, needed: object, problem: str) -> None:
    (told,) = unmet_requirements([needed])
    assert re.search(problem, told), told


def test_a_version_under_development_counts(poly: Any) -> None:
    path = poly.folder / "Segkit_Poly-1.5.dist-info" / "METADATA"
    path.write_text(path.read_text().replace("1.5", "1.6.dev3"))
    plugins.installed.cache_clear()
    assert unmet_requirements(["segkit-poly>=1.5"]) == unmet_requirements(["segkit-poly"]) == []


def test_one_requirement_that_is_no_list_is_told() -> None:
    (told,) = unmet_requirements("segkit-poly")
    assert re.fullmatch(f"'segkit-poly': {WANTED}", told)


def test_a_config_tells_it_with_all_that_is_wrong_and_records_what_it_needs(poly: Any) -> None:
    config = read_config({"plugins": ["segkit-poly>=1"], **TABLES})
    assert config.plugins == ("segkit-poly>=1",)
    assert read_config(config.record()).plugins == ("segkit-poly>=1",)  # as `evaluate` reads it again
    assert read_config(TABLES).plugins == ()
    with pytest.raises(ConfigError) as caught:
        read_config({"plugins": ["segkit-poly>=2", "unheard-of"], **TABLES, "loss": [{"name": "unheard"}]})
    assert [problem.partition(" is ")[0] for problem in caught.value.problems] == [
        "plugins: segkit-poly 1.5",
        "plugins: unheard-of",
        "loss[0].name: there",
    ]


def test_a_run_may_be_resumed_with_other_requirements() -> None:
    for before in ({}, {"plugins": ["segkit-poly>=1"]}):  # an older version recorded none
        refuse_changes(before, {"plugins": ["segkit-poly>=2"]}, "runs/a")
    with pytest.raises(RunFolderError, match=r"model\.name"):  # what is computed may not change
        refuse_changes({"model": {"name": "unet"}}, {"model": {"name": "smp"}}, "runs/a")


def test_a_run_tells_it_with_the_component_that_is_not_there(poly: Any) -> None:
    (poly.folder / "mine.toml").write_text(
        'plugins = ["segkit-poly>=2"]\n[dataset]\nname = "shapes"\n[model]\nname = "unet"\n[[loss]]\nname = "poly"\n'
    )
    told = poly.segkit("run", "mine.toml")
    assert told.returncode == 2
    first, second = told.stderr.splitlines()
    assert first == (
        'segkit: mine.toml: plugins: segkit-poly 1.5 is installed; >=2 is needed: pip install "segkit-poly>=2"'
    )
    assert second.startswith("mine.toml: loss[0]: loss 'poly' of plugin 'poly'")


@pytest.mark.parametrize(
    "needed", ["absent===`touch${IFS}x`", "absent===$(id", "absent===1.0", "a>=1;id", "a>=1\nid", 'a>=1"id', "--help"]
)
def test_nothing_that_a_shell_would_run_stands_in_a_command_to_paste(needed: str) -> None:
    (problem,) = unmet_requirements([needed])
    assert "pip install" not in problem
    assert re.search(WANTED, problem)
