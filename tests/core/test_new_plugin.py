"""``new-plugin``: what it writes installs, is found and passes its own tests; what it cannot write it leaves alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import segkit
from segkit.cli import main

KINDS = ("loss", "model", "dataset", "metric", "observer")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package of each kind."""
    folder = tmp_path_factory.mktemp("written")
    for kind in KINDS:
        assert main(["new-plugin", f"own_{kind}", "--kind", kind, "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def installed(written: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which all of them are built and installed, without a network."""
    if find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed; it comes with segkit[dev]")
    target = tmp_path_factory.mktemp("installed")
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--no-compile"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), *map(str, written.iterdir())]
    subprocess.run(command, check=True)
    path = os.pathsep.join([str(target), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "SEGKIT_STRICT": "1"}


@pytest.mark.slow
def test_every_package_passes_its_own_tests(written: Path, installed: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-v", "-W", "error", "-p", "no:cacheprovider", str(written)]
    done = subprocess.run(command, cwd=written, env=installed, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "FAILED" not in done.stdout
    for kind in KINDS:
        assert re.search(rf"tests/test_own_{kind}\.py::test_own_{kind}\S* PASSED", done.stdout), done.stdout


@pytest.mark.slow
def test_every_package_is_found(installed: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "segkit", "plugins"]
    found = subprocess.run(command, cwd=tmp_path, env=installed, check=True, capture_output=True, text=True).stdout
    for kind in KINDS[:-1]:
        line = f"own_{kind}: ok, segkit-own-{kind} 0.1.0, segkit_own_{kind}"
        assert f"{line}\n    {segkit.registry.REGISTRIES[kind].plural}: own_{kind}\n" in found
    assert "segkit_own_observer\n    events: segkit_epoch_ended\n" in found


def test_it_is_complete_and_nothing_else_is_there(written: Path) -> None:
    folder = written / "segkit-own-loss"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        ".gitignore",
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "segkit_own_loss/__init__.py",
        "segkit_own_loss/loss.py",
        "tests/test_own_loss.py",
    ]
    assert f'dependencies = ["segkit>={segkit.__version__}"]' in (folder / "pyproject.toml").read_text()
    assert "YOUR NAME" in (folder / "LICENSE").read_text()
    assert '[[loss]]\nname = "own_loss"' in (folder / "README.md").read_text()
    assert sorted(path.name for path in written.iterdir()) == sorted(f"segkit-own-{kind}" for kind in KINDS)


def test_what_it_writes_has_our_own_style(written: Path) -> None:
    if find_spec("ruff") is None:
        pytest.skip("ruff is not installed; it comes with segkit[dev]")
    for command in (["check", "--ignore", "D103"], ["format", "--check"]):
        options = ["--no-cache", "--config", str(ROOT / "pyproject.toml"), str(written)]
        done = subprocess.run([sys.executable, "-m", "ruff", *command, *options], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_it_says_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-plugin", "two_words", "--kind", "model", "--output", str(tmp_path / "a" / "b")]) == 0
    folder = tmp_path / "a" / "b" / "segkit-two-words"
    assert capsys.readouterr().out == (
        f"{folder} holds the model 'two_words': change segkit_two_words/model.py. Then, in that folder:\n\n"
        '    python -m pip install -e ".[dev]"\n    python -m pytest\n'
    )
    assert "class TwoWordsModel(nn.Module):" in (folder / "segkit_two_words" / "model.py").read_text()


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("segkit-mine", "; did you mean 'mine'?"),
        ("segkit_mine", "; did you mean 'mine'?"),
        ("My Loss", "; did you mean 'my_loss'?"),
        ("focal-tversky", "; did you mean 'focal_tversky'?"),
        ("a__b", "; did you mean 'a_b'?"),
        ("3d", ""),
        ("segkit_3d", ""),
        ("../elsewhere", "; did you mean 'elsewhere'?"),
        ("", ""),
        ("42", ""),
    ],
)
def test_a_name_that_is_none_is_refused(
    name: str, close: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new-plugin", name, "--kind", "loss", "--output", str(tmp_path / "new")]) == 2
    assert capsys.readouterr().err == (
        f"segkit: '{name}' is not a valid loss name: allowed are lower-case letters, digits and single underscores, "
        f"starting with a letter; the package is named segkit-NAME automatically{close}\n"
    )
    assert not (tmp_path / "new").exists()


def test_a_name_that_is_taken_is_warned_of_and_its_package_asks_for_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new-plugin", "dice", "--kind", "loss", "--output", str(tmp_path)]) == 0
    warned = f"warning: there is already a loss 'dice' of plugin 'losses' (segkit {segkit.__version__}); in a config, "
    assert capsys.readouterr().err == f"{warned}write 'dice/dice' for yours\n"
    assert 'checks("loss", "dice/dice")' in (tmp_path / "segkit-dice" / "tests" / "test_dice.py").read_text()
    assert 'name = "dice/dice"' in (tmp_path / "segkit-dice" / "README.md").read_text()


@pytest.mark.parametrize("name", ["mean_iou", "recall", "loss", "floor"])
def test_a_metric_may_not_be_called_as_a_score_of_ours(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new-plugin", name, "--kind", "metric", "--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"segkit: '{name}' is the name of a built-in entry of every result: choose another name\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_package_that_would_hide_another_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-plugin", "losses", "--kind", "loss", "--output", str(tmp_path)]) == 2
    place = ROOT / "plugins" / "segkit_losses" / "__init__.py"
    expected = f"segkit: there is already a Python package segkit_losses ({place}): choose another name\n"
    assert capsys.readouterr().err == expected
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "segkit-mine").mkdir()
    assert main(["new-plugin", "mine", "--kind", "loss", "--output", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"segkit: {tmp_path / 'segkit-mine'} exists already, nothing was changed; remove it")
    assert not list((tmp_path / "segkit-mine").iterdir())


def test_a_full_disk_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(path: Path, *arguments: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    assert main(["new-plugin", "mine", "--kind", "loss", "--output", str(tmp_path)]) == 2
    told = f"segkit: {tmp_path / 'segkit-mine'} cannot be written: No space left on device\n"
    assert capsys.readouterr().err == told


def test_a_link_to_nowhere_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "segkit-mine").symlink_to(tmp_path / "nowhere")
    assert main(["new-plugin", "mine", "--kind", "loss", "--output", str(tmp_path)]) == 2
    assert "segkit-mine exists already, nothing was changed" in capsys.readouterr().err


def test_a_name_that_is_too_long_for_a_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-plugin", "a" * 300, "--kind", "loss", "--output", str(tmp_path)]) == 2
    assert "cannot be written: File name too long" in capsys.readouterr().err


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["new-plugin", "mine", "--kind", "loss", "--output", "~/x"]) == 0
    assert (tmp_path / "x" / "segkit-mine").is_dir()


def test_an_output_that_is_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["new-plugin", "mine", "--kind", "loss", "--output", str(tmp_path / "file")]) == 2
    assert "segkit-mine cannot be written: " in capsys.readouterr().err


def test_another_kind_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["new-plugin", "mine", "--kind", "optimizer"])
    assert left.value.code == 2
    assert "invalid choice: 'optimizer' (choose from " in capsys.readouterr().err
