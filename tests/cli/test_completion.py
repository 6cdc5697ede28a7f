"""What the shell is offered at the Tab key: asked as bash asks, in a process of its own, and in this one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("argcomplete", reason="segkit[completion] is not installed")

WORD_BREAKS = " \t\n\"'><=;|&(:"


def offered(folder: Path, line: str, start: int = 3) -> list[str]:
    """The words that ``python -m segkit`` answers to bash; they come through descriptor 8."""
    asked = {
        **os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9", "_ARGCOMPLETE": str(start),
        "_ARGCOMPLETE_SHELL": "bash", "_ARGCOMPLETE_COMP_WORDBREAKS": WORD_BREAKS, "_ARGCOMPLETE_IFS": "\v",
    }  # fmt: skip
    shell = f'"{sys.executable}" -m segkit 8>&1 9>/dev/null >/dev/null'
    done = subprocess.run(shell, shell=True, env=asked, cwd=folder, text=True, capture_output=True, timeout=60)
    assert done.stderr == ""
    return [word.strip() for word in done.stdout.split("\v") if word]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("here")
    (place / "mine.toml").write_text("")
    (place / "notes.txt").write_text("")
    (place / "data").mkdir()
    return place


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ru", ["run"]),
        ("--ver", ["--version"]),
        ("run ", ["mine.toml", "data/"]),
        ("run mine.toml --res", ["--resume"]),
        ("run mine.toml train.pre", ["train.precision="]),
        ("run mine.toml train.epochs=3 train.precision=b", ["bf16"]),
        ("run mine.toml --resume data.cache=", ["auto", "none", "ram", "device"]),
        ("run mine.toml train.ema=0.9 augment.fl", ["augment.flip=", "augment.flip_vertical="]),
        ("run mine.toml train.channels_last=", ["true", "false"]),
        ("run mine.toml model.name=u", ["unet"]),
        ("show loss lov", ["lovasz"]),
        ("show mean_i", ["mean_iou"]),
        ("check-plugin shap", ["shapes"]),
        ("evaluate da", ["data/"]),
        ("export data --to to", ["torch-export"]),
    ],
)
def test_words(folder: Path, line: str, words: list[str]) -> None:
    assert sorted(offered(folder, f"python -m segkit {line}")) == sorted(words)


def test_a_plugins_own_argument_is_offered_by_its_program(folder: Path) -> None:
    assert offered(folder, "segkit export --t", start=1) == ["--to"]


def test_without_argcomplete_nothing_is_offered_and_nothing_run(folder: Path) -> None:
    code = "import sys; sys.modules['argcomplete'] = None; import segkit.__main__ as m; m.main()"
    asked = {**os.environ, "_ARGCOMPLETE": "1", "COMP_LINE": "segkit new-plugin x --kind loss", "COMP_POINT": "10"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=asked, cwd=folder, text=True, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert not (folder / "segkit-x").exists()


def test_it_is_found_by_argcompletes_own_search() -> None:
    """For ``activate-global-python-argcomplete``, which looks for the mark at the beginning of the module."""
    import segkit.__main__

    assert "PYTHON_ARGCOMPLETE_OK" in Path(segkit.__main__.__file__).read_text("utf-8")[:1024]


def test_torch_is_not_imported_for_it(folder: Path) -> None:
    code = "import sys, segkit_inspect.completion as c; c.parser_of(['run']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=folder, timeout=60).returncode == 0
