"""The run folder: who may write there, its files, and what a run writes beside its checkpoints."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from filelock import FileLock, Timeout

from segkit.data.plain import plain as plain
from segkit.engine.distributed import launcher
from segkit.errors import RunFolderError, WriteError, first_few, one_line, reason
from segkit.settings import RENAMED

if TYPE_CHECKING:
    from segkit.data.scan import Scan
    from segkit.engine.evaluate import Evaluation
    from segkit.engine.inputs import Job
    from segkit.engine.precision import Precision

MOST_BYTES = 64 << 20  # of a JSON file that is read; run.json of 255 classes has 100 kB
OWN_FILES = (
    *("config.json", "metrics.jsonl", "result.json", "details.json", "report.html", "model.safetensors"),
    *("last.pt", "previous.pt", "best.pt"),
    "run.json",  # the last to be removed, as without it nothing else is known to be a run's
)


def check_folder(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that cannot be used, before anything is read or written.

    Raises:
        RunFolderError: a file stands in its place, it cannot be written, or it holds a run already.
    """
    try:
        folder.exists()
    except OSError as error:  # a name that is too long
        raise RunFolderError(f"output.dir = {str(folder)[:60]!r}...: {error.strerror}") from error
    for place in (folder, *folder.parents):
        if place.is_symlink() and not place.exists():
            raise RunFolderError(f"{place} is a link to nowhere")
        if place.exists():
            if not place.is_dir():
                raise RunFolderError(f"{place} is a file; output.dir needs a folder")
            if not os.access(place, os.W_OK | os.X_OK):
                raise RunFolderError(f"{place} cannot be written; choose another output.dir")
            break
    for path in folder.glob("*"):  # a file is replaced, not written through a link; in a folder observers may write
        if path.is_symlink() and (path.is_dir() or path.name in (".lock", ".process")):
            raise RunFolderError(f"{path} is a link; a run writes in its own folder alone")
    odd = [name for name in OWN_FILES if (folder / name).exists() and not (folder / name).is_file()]
    if odd:
        raise RunFolderError(f"{folder}: {first_few(odd)} there is not what a run writes; choose another output.dir")
    if resume and overwrite:
        raise RunFolderError("resume=True goes on with a run, overwrite=True replaces it: give one of them")
    if resume and not ((folder / "last.pt").exists() or (folder / "previous.pt").exists()):
        raise RunFolderError(f"{folder}: nothing to resume; run without resume=True to begin")
    begun = (folder / "last.pt").exists() or (folder / "result.json").exists()
    if begun and not resume and not overwrite:
        state = "a finished run" if (folder / "result.json").exists() else "an unfinished run"
        raise RunFolderError(
            f"{folder} holds {state}; resume=True goes on with it, overwrite=True replaces it, another output folder "
            "leaves it"
        )
    ours = read_json(folder / "run.json") if (folder / "run.json").is_file() else {}
    foreign = [name for name in OWN_FILES if (folder / name).exists()]
    if foreign and "floors" not in ours:
        raise RunFolderError(f"{folder} holds {first_few(foreign)} but no run of segkit's; choose another output.dir")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock goes with the process, however it ends.

    Raises:
        RunFolderError: another process holds it.
    """
    lock = FileLock(folder / ".lock", blocking=False)
    owner = folder / ".process"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        owner.write_text(str(os.getpid()))
    except Timeout as error:
        number = owner.read_text()[:20].strip() if owner.is_file() else "unknown"
        raise RunFolderError(f"{folder} is in use by process {one_line(number)}") from error
    except OSError as error:
        lock.release()
        raise RunFolderError(f"{folder} cannot be written: {error.strerror}; choose another output.dir") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the folder may be gone
            owner.unlink(missing_ok=True)
        lock.release()


def clear(folder: Path) -> None:
    """Remove what an earlier run wrote, and nothing else."""
    for name in OWN_FILES:
        (folder / name).unlink(missing_ok=True)
    remove_temporary(folder)


def remove_temporary(folder: Path) -> None:
    """Remove what a killed process left half-written."""
    for stale in folder.glob(".*.tmp"):
        stale.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """Read one of a run's JSON files.

    Raises:
        RunFolderError: it is missing or damaged.
    """
    try:
        if path.parent.is_file():
            raise RunFolderError(no_run(path.parent))
        if path.exists() and not path.is_file():
            raise OSError("it is no regular file")
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES:,} bytes")
        content = json.loads(text)
    except FileNotFoundError as error:
        raise RunFolderError(no_run(path.parent, path.name)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(f"{path} cannot be read: {reason(error)}") from error
    if not isinstance(content, dict):
        raise RunFolderError(f"{path} does not hold an object")
    tables: Any = content.get("config") if path.name == "run.json" else None
    for table, keys in RENAMED.items():  # a run of an older version
        found: Any = tables.get(table) if isinstance(tables, dict) else None
        for old in keys & found.keys() if isinstance(found, dict) else ():
            found[keys[old]] = found.pop(old)
    return content


def runs_in(folder: Path) -> list[Path]:
    """The folders of runs that lie in a folder, by name."""
    return sorted(path.parent for path in folder.glob("*/run.json"))


def no_run(place: Path, lacking: str = "run.json") -> str:
    """What to say of a place that is no run's folder."""
    if place.suffix == ".toml" and place.is_file():
        return f"{place} is a config; give the folder of a run, which `run {place}` makes"
    if not place.is_dir():
        return f"{place} is {'a file' if place.exists() else 'no folder'}; give the folder of a run"
    runs = [str(run) for run in runs_in(place)]
    return f"{place} is no run folder: it holds no {lacking}" + (f"; runs are {first_few(runs)}" if runs else "")


def write_json(path: Path, content: Mapping[str, Any], indent: int | None = 2) -> None:
    """Write JSON, atomically; what is no number (an absent class) becomes null."""
    text = json.dumps(plain(content), indent=indent, ensure_ascii=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write one JSON object a line, atomically; not to survive a crash, as a checkpoint holds them too."""
    text = "".join(json.dumps(plain(line), ensure_ascii=False) + "\n" for line in lines)
    write_atomically(path, lambda file: file.write(text.encode()), durable=False)


def write_atomically(
    path: Path,
    write: Callable[[BinaryIO], Any],
    *,
    durable: bool = True,
    check: Callable[[Path], None] | None = None,
    needed: int = 0,
) -> None:
    """Call ``write(binary file)`` on a temporary file and put it in the place of ``path``.

    Args:
        path: of the file.
        write: what writes it.
        durable: whether to wait until it is on the disk; not needed for what can be written again.
        check: raises an OSError where the temporary file, read again, is not what was written.
        needed: bytes, for the message where they could not be written.

    Raises:
        WriteError: the disk is full or the folder cannot be written; the old file is intact.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if check:
            check(temporary)
        temporary.replace(path)
        if durable:
            _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch.save tells of a full disk with a RuntimeError, in words of its own
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise  # of a card that has failed, whose weights cannot be read
        why = "not all of it was taken" if isinstance(error, RuntimeError) else reason(error)
        told = f"{path} could not be written: {why}{_room(path, needed)}; what was there is intact"
        raise WriteError(told) from error
    finally:  # after Ctrl-C too
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _room(path: Path, needed: int) -> str:
    """What a file needs and what there is, in words."""
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError:
        return ""
    return f" ({f'{needed:,} bytes are needed, ' if needed else ''}{free:,} are free on the disk)"


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return
    try:
        with contextlib.suppress(OSError):  # there are file systems that cannot, and the file itself is written
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Result:
    """What a run came to; ``result.json`` holds the same.

    Attributes:
        folder: the run folder.
        splits: per split ``mean_iou``, ``pixel_accuracy``, ``mean_dice``, ``class_iou``, ``loss``, ``floor`` and
            whatever other metrics were asked for.
        best_epoch: the epoch whose weights were kept, from 1.
        collapsed: whether a constant prediction does about as well on the last split.
        stopped_early: why, or nothing.
        seconds: of the whole run, resumed parts included.
        images_per_second: of training, without evaluation.
        peak_memory_bytes: of this run: on the device on CUDA, of the process elsewhere.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        device: the name of the card, or ``cpu``.
    """

    folder: Path
    splits: dict[str, dict[str, Any]]
    best_epoch: int
    collapsed: bool
    stopped_early: str
    seconds: float
    images_per_second: float
    peak_memory_bytes: int
    precision: str
    device: str


class RunRecord:
    """The files of a run folder, each read when it is first asked for; a file that is not there is empty.

    Any of these may raise a RunFolderError: the file is damaged.

    Attributes:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def run(self) -> dict[str, Any]:
        """``run.json``: the config, versions, components, floors, and what the scan found."""
        return self._read("run.json")

    @cached_property
    def model(self) -> dict[str, Any]:
        """``config.json``: how the model is built again, its classes and how its images are prepared."""
        return self._read("config.json")

    @cached_property
    def epochs(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``, one an epoch."""
        path = self.folder / "metrics.jsonl"
        try:
            lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{path} cannot be read: {reason(error)}") from error
        if not all(isinstance(line, dict) for line in lines):
            raise RunFolderError(f"{path} is damaged: a line of it is no object")
        return lines

    @cached_property
    def result(self) -> dict[str, Any]:
        """``result.json``; empty of a run that is not finished."""
        return self._read("result.json")

    @cached_property
    def details(self) -> dict[str, Any]:
        """By split, from ``details.json``: the confusion matrix and the scores of each image."""
        return table(self._read("details.json"), "splits", self.folder / "details.json")

    @property
    def config(self) -> dict[str, Any]:
        """The settings with every default written out, by table."""
        return table(self.run, "config", self.folder / "run.json")

    @property
    def best(self) -> dict[str, Any]:
        """The line of the best epoch so far.

        Raises:
            RunFolderError: no epoch has ended yet, or a line is damaged.
        """
        if not self.epochs:
            lacking = no_run(self.folder) if not self.run else f"{self.folder}: no epoch of this run has ended yet"
            raise RunFolderError(lacking)
        found = [line for line in self.epochs if line.get("best")]
        if not found or not isinstance(found[-1].get("val"), dict) or not isinstance(found[-1].get("train"), dict):
            raise RunFolderError(f"{self.folder / 'metrics.jsonl'} is damaged: it holds no best epoch with its scores")
        return found[-1]

    @property
    def splits(self) -> dict[str, dict[str, Any]]:
        """By split the scores and their ``floor``; of a run that is not finished, those of val in the best epoch.

        Raises:
            RunFolderError: no epoch has ended yet.
        """
        path = self.folder / ("result.json" if self.result else "metrics.jsonl")
        found = table(self.result, "splits", path) if self.result else {"val": self.best["val"]}
        if not found or not all(isinstance(each, dict) and "floor" in each for each in found.values()):
            raise RunFolderError(f"{path} is damaged: it holds no splits with scores and floors")
        return found

    def _read(self, name: str) -> dict[str, Any]:
        return read_json(self.folder / name) if (self.folder / name).exists() else {}


def read_run(folder: str | Path) -> RunRecord:
    """The run that a folder holds, finished or not; of an exported folder, ``config.json`` alone.

    Raises:
        RunFolderError: it is no run's folder.
    """
    place = Path(folder)
    if not any((place / name).is_file() for name in ("run.json", "config.json")):
        raise RunFolderError(no_run(place))
    return RunRecord(place)


def table(content: Mapping[str, Any], name: str, where: Path) -> dict[str, Any]:
    """A table of a JSON file; empty where it is not there.

    Raises:
        RunFolderError: something else stands in its place.
    """
    found = content.get(name) or {}
    if not isinstance(found, dict):
        raise RunFolderError(f"{where} is damaged: its {name} is no table")
    return found


def begin(job: Job, scan: Scan, floors: Mapping[str, Any], precision: Precision, identity: str) -> None:
    """Write ``run.json``, and ``config.json``, which is all besides the weights that a prediction needs."""
    warnings = [issue.record() for issue in scan.warnings]
    told = {"floors": floors, "data": contents(scan), "warnings": warnings, "launcher": launcher(), "id": identity}
    write_json(job.folder / "run.json", {**job.record, **told})
    first = scan.splits["train"]
    facts = {
        "num_classes": len(first.classes),
        "ignore_index": first.ignore_index,
        "classes": list(first.classes),
        "palette": [list(colour) for colour in first.palette],
        "stored": first.stored,
        "resize": job.data.resize,
        "crop": job.augment.crop,
        "precision": precision.name,
        "normalisation": job.normalisation.record(),
    }
    write_json(job.folder / "config.json", {**job.model_record, **facts})


def contents(scan: Scan) -> dict[str, Any]:
    """Per split its ``images``, the ``size`` of the first, height before width, and the pixels by class and of void."""
    found = {}
    for split, dataset in scan.splits.items():
        counts = scan.counts(split)
        pixels = dict(zip(dataset.classes, counts.pixels.tolist(), strict=True))
        facts = scan.statistics[split]
        found[split] = {"images": len(facts), "size": list(facts[0].size), "pixels": pixels, "void": counts.void}
    return found


def write_result(result: Result, evaluations: Mapping[str, Evaluation]) -> None:
    """Write ``details.json``, a confusion matrix and a score for each image of every split, and ``result.json``."""
    details = {split: found.details() for split, found in evaluations.items()}
    write_json(result.folder / "details.json", {"splits": details}, indent=None)
    write_json(result.folder / "result.json", {key: each for key, each in asdict(result).items() if key != "folder"})


def forget_the_end(folder: Path) -> None:
    """Remove what an earlier end wrote: where a run goes on, it is no longer the result."""
    for name in ("model.safetensors", "details.json", "result.json"):
        (folder / name).unlink(missing_ok=True)
