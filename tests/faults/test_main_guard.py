"""A script without the main guard, where processes that load data are started anew and run it again."""

from __future__ import annotations

import contextlib
import multiprocessing
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from segkit.data.parallel import refuse_unguarded
from segkit.errors import ConfigError

pytestmark = pytest.mark.fault("F47")

SCRIPT = """
import multiprocessing, sys
import segkit
if {top!r} != "fork":
    multiprocessing.set_start_method({top!r}, force=True)
{guard}
    shapes = segkit.datasets["shapes"]
    result = segkit.fit(
        model=segkit.models["unet"](num_classes=6, width=2, depth=1),
        loss=segkit.losses["cross_entropy"](num_classes=6, ignore_index=255),
        train=shapes(split="train", images=[4, 2, 2], size=32),
        val=shapes(split="val", images=[4, 2, 2], size=32),
        output="run", epochs=1, batch_size=2, workers=1, device="cpu", precision="fp32", samples=0,
    )
    print("best epoch", result.best_epoch)
"""


def start(folder: Path, method: str, guard: str) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT.format(top=method, guard=guard))
    return subprocess.run([sys.executable, str(script)], cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_script_without_the_guard_is_told_before_anything_is_read(tmp_path: Path, method: str) -> None:
    done = start(tmp_path, method, "if True:")
    assert done.returncode == 1
    assert "script.py: each worker process (workers=1) would run this script again" in done.stderr
    assert f"start method is {method} here; put the call of segkit into a file, under `if __name__" in done.stderr
    assert done.stderr.count("Traceback") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("script", "method", "refused"),
    [
        ("segkit.fit(...)", "spawn", True),
        ("segkit.fit(...)", "forkserver", True),
        ("segkit.fit(...)", "fork", False),
        ('if __name__ == "__main__":\n    segkit.fit(...)', "spawn", False),
        (None, "spawn", True),  # from the standard input: no file that a process could run
    ],
)
def test_a_script_needs_the_guard_where_processes_run_it_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, method: str, refused: bool
) -> None:
    file = tmp_path / "script.py"
    if script:
        file.write_text(script)
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: method)
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__file__=str(file)))
    with pytest.raises(ConfigError, match="into a file, under `if") if refused else contextlib.nullcontext():
        refuse_unguarded(1)
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace())  # a notebook
    refuse_unguarded(1)


@pytest.mark.slow
def test_what_the_script_does_not_show_the_new_process_tells(tmp_path: Path) -> None:
    done = start(tmp_path, "spawn", "if __name__:")
    assert done.returncode == 1
    assert "the script that started it, which calls segkit again: put the call of segkit into a file" in done.stderr
    assert "a process that loads data ended" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("method", "guard"), [("spawn", 'if __name__ == "__main__":'), ("fork", "if True:")])
def test_with_the_guard_or_where_processes_are_forked_it_works(tmp_path: Path, method: str, guard: str) -> None:
    done = start(tmp_path, method, guard)
    assert done.returncode == 0, done.stderr
    assert "best epoch 1" in done.stdout
