"""A config, a data set or a run folder from a stranger: what is shown of it orders nothing, and it runs no code."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segkit
from segkit import plugins
from segkit.cli import main
from segkit.errors import SegkitError

ORDER = "\x1b]0;owned\x07\x9b2J\u202e"  # sets a title, clears the screen, turns the text around
CONFIG = """
[dataset]
name = "folder"
root = "data"
classes = ["background", "first", "second\u202e"]
[model]
name = "unet"
width = 2
depth = 1
[[loss]]
name = "dice"
[train]
epochs = 1
batch_size = 2
device = "cpu"
workers = 0
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set the names of whose files are orders to the terminal, and lines of their own."""
    monkeypatch.chdir(tmp_path)
    segkit.datasets["folder"].write_sample(tmp_path / "data")
    for folder in ("images", "masks"):
        for path in list((tmp_path / "data" / folder).glob("*/*")):
            path.rename(path.with_name(f"{path.stem}{ORDER}\nline{path.suffix}"))
    path = tmp_path / "mine.toml"
    path.write_text(CONFIG, "utf-8")
    return path


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, once it is known to be lines of letters."""
    text = "".join(capsys.readouterr())
    assert text.replace("\n", "").isprintable()
    return text


def test_check_prints_no_orders(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = sorted((tmp_path / "data" / "masks" / "train").iterdir())
    masks[0].write_bytes(b"<html>")
    Image.fromarray(np.full((30, 40), 77, np.uint8)).save(masks[1])
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(masks[2])
    masks[3].unlink()
    assert main(["check", str(config), "--pictures", "sheets", "data.on_bad=skip"]) == 2
    text = shown(capsys)
    assert r"train_0\x1b]0;owned\x07\x9b2J\u202e\nline" in text
    assert r"second\u202e" in text
    assert main(["check", str(config), "--json"]) == 2
    assert shown(capsys).isascii()


def test_a_class_name_that_orders_is_refused(config: Path, tmp_path: Path) -> None:
    for order in ("\x1b[2J", "\x9b2J", "\nline"):
        with pytest.raises(SegkitError, match="control character") as caught:
            segkit.run(config, {"dataset.classes": ["background", "first", f"second{order}"]})
        assert str(caught.value).isprintable()
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_run_on_odd_names_leaves_its_folder_by_none(config: Path, tmp_path: Path) -> None:
    before = {path for path in tmp_path.rglob("*") if "runs" not in path.parts}
    segkit.run(config)
    assert {path for path in tmp_path.rglob("*") if "runs" not in path.parts} == before
    assert all(path.name.isprintable() for path in (tmp_path / "runs").rglob("*"))


def test_a_scored_run_prints_no_orders(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segkit.run(config)
    capsys.readouterr()
    assert main(["evaluate", "runs/mine"]) == 0
    assert r"second\u202e" in shown(capsys)
    assert main(["evaluate", "runs/mine", "--json"]) == 0
    assert shown(capsys).isascii()


def test_a_damaged_record_of_class_weights_is_told(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segkit.run(config)
    record = json.loads(Path("runs/mine/run.json").read_text("utf-8"))
    for wrong in ([[1, 1, 1], [1, 1, 1]], "text"):
        Path("runs/mine/run.json").write_text(json.dumps({**record, "class_weights": wrong}))
        capsys.readouterr()
        assert main(["evaluate", "runs/mine"]) == 2
        assert "run.json is damaged: class_weights" in shown(capsys)


@pytest.mark.parametrize("place", ["dataset", "model", "loss.0", "metric.0"])
@pytest.mark.parametrize("name", ["stranger:Ran", "stranger", "os:system", "../stranger", "segkit.cli:main"])
def test_a_config_names_components_and_imports_nothing(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, name: str
) -> None:
    (tmp_path / "stranger.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Ran: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SegkitError, match=f"there is no [a-z]+ '{name}'"):
        segkit.run(config, {f"{place}.name": name})
    assert "stranger" not in sys.modules
    assert not (tmp_path / "ran").exists()


def test_a_plugin_that_is_listed_prints_no_orders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    offers = "import segkit\n@segkit.hookimpl\ndef segkit_losses():\n    return {'odd': 'odd_loss:Odd'}\n"
    loss = f"class Odd:\n    '''An {ORDER} loss.\n\n    Args:\n        width: how {ORDER} wide.\n    '''\n"
    loss += f"    def __init__(self, width: str = {ORDER!r}) -> None: pass\n"
    for name, text in (("odd_plugin", offers), ("odd_loss", loss), ("bad_plugin", f"raise ValueError({ORDER!r})")):
        (tmp_path / f"{name}.py").write_text(text, "utf-8")
    info = tmp_path / "odd-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[segkit]\nodd = odd_plugin\nodd{ORDER} = bad_plugin\nbad = bad_plugin\n", "utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    plugins.installed.cache_clear()
    try:
        assert main(["plugins"]) == 1  # one of them is broken
        assert "odd" in shown(capsys)
        for command in (["list"], ["list", "--markdown"], ["list", "--json"], ["show", "odd"]):
            assert main(command) == 0
            assert "odd" in shown(capsys)
    finally:
        plugins.installed.cache_clear()
        for name in ("odd_plugin", "odd_loss"):
            sys.modules.pop(name, None)
