"""Disks that are full, folders that cannot be used or are somebody's already."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from segkit.engine import checkpoint

LIMIT = """
import resource
def limit(size=resource.RLIM_INFINITY):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
"""
# the checkpoint of the second epoch has no room; it has 170 kB
FULL = f"""{LIMIT}
at(CheckpointManager, "save", 2, lambda: limit(9_000))
at(CheckpointManager, "save", 2, limit, after=True)
"""


@pytest.mark.fault("F02")
def test_a_disk_that_is_full_for_a_while_costs_a_checkpoint_and_nothing_else(place: Any, whole: Path) -> None:
    """Told with path, bytes needed and free; the old file is intact, the temporary one gone, training goes on."""
    process = place.run(before=FULL)
    warning = next(line for line in process.err.splitlines() if "could not be written" in line)
    assert f"{place.path() / 'last.pt'} could not be written: " in warning
    assert "bytes are needed, " in warning
    assert "are free on the disk" in warning
    assert "the previous file is intact; the run continues" in warning
    assert not list(place.path().glob(".*.tmp"))
    place.assert_same(whole)


SECOND_IS_BEST = """
evaluated, calls = evaluate.Evaluator.evaluate, []
def scores(*arguments, **options):
    calls.append(1)
    found = evaluated(*arguments, **options)
    found.scores["loss"] = {1: 9.0, 2: 1.0, 3: 5.0}.get(len(calls), found.scores["loss"])
    return found
evaluate.Evaluator.evaluate = scores
"""


@pytest.mark.slow
@pytest.mark.fault("F02")
def test_a_best_epoch_that_could_not_be_written_is_written_later(place: Any, whole: Path) -> None:
    """The best weights are kept in memory meanwhile; here those of the second epoch are the best."""
    for name, before in (("well", SECOND_IS_BEST), ("full", SECOND_IS_BEST + FULL)):
        place.run("train.best=loss", to=name, before=before)
    well, full = (json.loads((place.path(name) / "result.json").read_text()) for name in ("well", "full"))
    assert well["best_epoch"] == full["best_epoch"] == 2
    assert well["splits"] == full["splits"]


@pytest.mark.fault("F02")
@pytest.mark.parametrize(
    "number", [pytest.param(3, id="first best", marks=pytest.mark.slow), pytest.param(5, id="second best")]
)
def test_a_best_that_could_not_be_written_is_made_good(place: Any, number: int) -> None:
    """last.pt was written, and best.pt was not; nobody is given an older epoch's weights for it."""
    fails = f"""
from segkit.errors import WriteError
def fail():
    raise WriteError("best.pt could not be written: No space left on device")
at(checkpoint, "save", {number}, fail)
"""
    place.run("train.best=loss", to="well", before=SECOND_IS_BEST)
    process = place.run("train.best=loss", to="full", before=SECOND_IS_BEST + fails)
    assert "best.pt could not be written: " in process.err
    well, full = (json.loads((place.path(name) / "result.json").read_text()) for name in ("well", "full"))
    assert well["best_epoch"] == full["best_epoch"] == 2
    assert well["splits"] == full["splits"]


@pytest.mark.slow
def test_a_kill_while_a_run_is_replaced_leaves_a_folder_that_can_be_used(place: Any) -> None:
    place.run("train.epochs=1", "output.samples=1")
    for number in (1, 3, 6):
        kill = f"at(trainer, 'clear', 1, lambda: at(Path, 'unlink', {number}, send(signal.SIGKILL)))"
        process = place.start("--overwrite", before=f"from pathlib import Path\n{kill}")
        assert process.wait() == -signal.SIGKILL
    place.run("--overwrite", "train.epochs=1")


@pytest.mark.fault("F02")
def test_a_run_that_cannot_write_its_result_ends_with_status_1(place: Any) -> None:
    """What was saved before is intact."""
    process = place.start(before=f"{LIMIT}at(trainer.run_folder, 'write_result', 1, lambda: limit(900))")
    assert process.wait() == 1, process.out
    assert "could not be written" in process.err.splitlines()[-1]
    assert "Traceback" not in process.err
    assert not (place.path() / "result.json").exists()
    assert checkpoint.load(place.path() / "last.pt")["step"] == 12
    place.run("--resume")


@pytest.mark.fault("F02")
def test_a_run_whose_first_checkpoint_does_not_fit_ends_before_its_first_step(place: Any) -> None:
    limit = "at(CheckpointManager, 'write_state', 1, lambda: limit(9_000))"
    process = place.start("train.epochs=1", before=f"{LIMIT}{limit}\nat(TrainingLoop, 'train_step', 1, lambda: 1 / 0)")
    assert process.wait() == 1, process.out
    assert process.err.startswith(f"segkit: {place.path() / 'last.pt'} could not be written: ")
    assert "bytes are needed, " in process.err
    assert process.err.count("\n") == 1
    assert not list(place.path().glob("*.pt"))


@pytest.mark.fault("F03")
@pytest.mark.parametrize(
    "both", [pytest.param(False, id="output"), pytest.param(True, id="output and errors", marks=pytest.mark.slow)]
)
def test_a_log_on_a_full_disk_is_told_once_and_training_goes_on(place: Any, whole: Path, both: bool) -> None:
    process = place.run(out="/dev/full", err="/dev/full" if both else "")
    place.assert_same(whole)
    if not both:
        assert process.err.count("printing to the standard output failed") == 1
        assert process.err.count("\n") == 1, process.err


@pytest.mark.fault("F03")
def test_a_reader_that_leaves_does_not_end_the_run(place: Any, whole: Path) -> None:
    """As in ``segkit run ... | head -1``."""
    os.mkfifo(place.folder / "pipe")
    process = place.start(out=str(place.folder / "pipe"))
    with (place.folder / "pipe").open() as reader:
        reader.readline()
    # the nursery's child has opened the pipe for reading and writing; it loses its own end of it here
    assert process.wait() == 0, process.err
    place.assert_same(whole)


@pytest.mark.fault("F18", "F17")
def test_a_finished_or_unfinished_run_is_not_replaced_by_accident(place: Any) -> None:
    process = place.start("--resume")
    assert process.wait() == 2
    assert "nothing to resume; run without --resume to begin" in process.err
    assert place.start(before="at(TrainingLoop, 'train_step', 6, send(signal.SIGTERM))").wait() == 143
    before = (place.path() / "last.pt").read_bytes()
    process = place.start()
    assert process.wait() == 2
    assert "holds an unfinished run; --resume continues it, --overwrite replaces it" in process.err
    place.run("--resume")
    process = place.start()
    assert process.wait() == 2
    assert "holds a finished run" in process.err
    assert (place.path() / "last.pt").read_bytes() != before
    place.run("--overwrite", "train.epochs=1")


@pytest.mark.fault("F19")
def test_two_runs_do_not_share_a_folder(place: Any) -> None:
    """The second names the first's process; when that one is killed, the folder is free at once."""
    held = "at(TrainingLoop, 'train_step', 2, lambda: (open('here', 'w').close(), time.sleep(3600)))"
    first = place.start(before=held)
    first.until((place.folder / "here").exists)
    for extra in ([], ["--resume"], ["--overwrite"]):
        second = place.start(*extra)
        assert second.wait() == 2
        if extra:  # without, it is an unfinished run's folder
            assert f"is in use by process {first.pid}" in second.err
    first.send(signal.SIGKILL)
    first.wait()
    place.run("--resume")


@pytest.mark.fault("F43")
def test_a_link_to_a_folder_is_followed_once(place: Any) -> None:
    """Whoever turns it elsewhere while the run goes on changes nothing."""
    for name in ("one", "two"):
        place.path(name).mkdir()
    place.path("link").symlink_to("one")
    turn = "at(TrainingLoop, 'train_step', 2, lambda: (os.unlink('link'), os.symlink('two', 'link')))"
    place.run("output.samples=1", to="link", before=turn)
    assert (place.path("one") / "result.json").exists()
    assert not list(place.path("two").iterdir())


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nobody can write, the superuser neither, if this machine lets us make one."""
    folder = tmp_path / "read_only"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], capture_output=True, check=False)
    if made.returncode:
        if os.geteuid() == 0:
            pytest.skip(
                "no read-only folder can be made here: mount is not allowed, and to root permissions are nothing"
            )
        folder.chmod(0o500)
    yield folder
    if made.returncode == 0:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.fault("F20")
def test_a_folder_that_cannot_be_written_is_told_before_the_data_is_read(place: Any, read_only: Path) -> None:
    """Read-only, or a file in its place; a missing parent is made."""
    (place.folder / "file").write_text("")
    for folder in (read_only, read_only / "below", place.folder / "file", place.folder / "file" / "below"):
        process = place.start(to=str(folder), before="at(scan, 'scan_splits', 1, lambda: print('scanned'))")
        assert process.wait() == 2, process.err
        assert process.err.startswith(
            f"segkit: {read_only if read_only in [folder, *folder.parents] else place.folder}"
        )
        assert "scanned" not in process.out
        assert process.err.count("\n") == 1
    place.run("train.epochs=1", to="new/folder")
