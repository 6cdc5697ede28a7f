"""A run folder from a stranger: links, pipes, bombs and files made to harm, where a run reads and writes."""

from __future__ import annotations

import os
import sys
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from torch import nn

from segkit.cli import main
from segkit.cli.output import Stream
from segkit.engine import checkpoint
from segkit.engine.console import Console
from segkit.engine.run_folder import check_folder, locked, read_json
from segkit.errors import CheckpointError, RunFolderError


def rewritten(folder: Path, content: dict[str, object], pickle: bytes | None = None, packed: bool = False) -> Path:
    """A checkpoint whose pickle is another, or that is packed."""
    torch.save({"format": checkpoint.FORMAT, **content}, folder / "plain.pt")
    compression = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with (
        zipfile.ZipFile(folder / "plain.pt") as source,
        zipfile.ZipFile(folder / "last.pt", "w", compression) as target,
    ):
        for entry in source.infolist():
            own = pickle is not None and entry.filename.endswith("data.pkl")
            target.writestr(entry.filename, b"\x80\x02" + pickle + b"." if own and pickle else source.read(entry))
    return folder / "last.pt"


@pytest.mark.fault("F05", "F06")
@pytest.mark.parametrize("pickle", [b"h\x05", b"ctorch._utils\n_rebuild_tensor_v2\n)R", b"}]K\x01s", b"0"])
def test_whatever_a_pickle_does_it_is_told_in_a_line(tmp_path: Path, pickle: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"last\.pt") as caught:
        checkpoint.load(rewritten(tmp_path, {}, pickle))
    assert "\n" not in str(caught.value)


def test_a_packed_checkpoint_is_not_unpacked(tmp_path: Path) -> None:
    bomb = rewritten(tmp_path, {"weights": torch.zeros(20_000_000)}, packed=True)
    assert bomb.stat().st_size < 1_000_000
    with pytest.raises(CheckpointError, match="is compressed"):
        checkpoint.load(bomb)


@pytest.mark.timeout(100)
def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="there is no weights file"):
        checkpoint.load(tmp_path / "last.pt")


@pytest.mark.filterwarnings("ignore:Validating sparse tensor:UserWarning")
@pytest.mark.parametrize("value", [5, "text", torch.zeros(2, 2).to_sparse(), torch.zeros(2, 2, device="meta")])
def test_weights_that_are_none_are_refused(value: object) -> None:
    with pytest.raises(CheckpointError, match="values that are not tensors: weight"):
        checkpoint.load_weights(nn.Linear(2, 2), {"weight": value, "bias": torch.zeros(2)}, "best.pt")


def test_json_in_json_without_end_is_refused(tmp_path: Path) -> None:
    for text in ("[" * 100_000, '{"a":' * 100_000):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(RunFolderError, match=r"run\.json cannot be read: .*recursion"):
            read_json(tmp_path / "run.json")


@pytest.mark.fault("F43")
@pytest.mark.parametrize("name", [".lock", ".process", "samples"])
def test_nothing_is_written_through_a_link(tmp_path: Path, name: str) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path if name == "samples" else tmp_path / "precious")
    with pytest.raises(RunFolderError, match=rf"{name} is a link"):
        check_folder(tmp_path / "run", resume=False, overwrite=False)
    assert (tmp_path / "precious").read_text() == "precious"


def test_who_holds_a_folder_is_told_as_text(tmp_path: Path) -> None:
    with locked(tmp_path):
        (tmp_path / ".process").write_text("\x1b[2J\n1")
        with pytest.raises(RunFolderError, match=r"in use by process \\x1b\[2J\\n1$"), locked(tmp_path):
            pass


def test_what_a_run_prints_orders_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with redirect_stdout(Stream(sys.stdout)), redirect_stderr(Stream(sys.stderr)):  # as every command does
        Console().say("class \x1b[2J")
        Console().warn("file \x9b2J\u202e")
    assert main(["run", str(tmp_path / "a\x1b[2J.toml")]) == 2
    printed = "".join(capsys.readouterr())
    assert printed.replace("\n", "").isprintable()
    assert r"class \x1b[2J" in printed
