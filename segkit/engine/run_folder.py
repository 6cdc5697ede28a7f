"""The run folder: who may write there, its files of JSON, and how a run is read from it again."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from segkit.engine.distributed import launcher
from segkit.errors import RunFolderError, first_few, one_line, reason
from segkit.files import write_json
from segkit.settings import RENAMED

if TYPE_CHECKING:
    from segkit.engine.evaluate import Evaluation
    from segkit.engine.inputs import TrainerInputs

MOST_BYTES = 64 << 20  # of a JSON file that is read; run.json of 255 classes has 100 kB
RESULTS = ("model.safetensors", "details.json", "result.json")
OWN_FILES = (
    *("config.json", "metrics.jsonl", "last.pt", "previous.pt", "best.pt", *RESULTS),
    "run.json",  # the last to be removed, as without it nothing else is known to be a run's
)


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

    def _repr_html_(self) -> str:
        """For notebooks: each split's scores, each beside that of the best constant prediction."""
        lines = [f"epoch {self.best_epoch} was best; {self.folder}"]
        for split, scores in self.splits.items():
            pairs = [(name, scores[name], scores["floor"][name]) for name in ("mean_iou", "pixel_accuracy")]
            lines.append(f"{split}: " + ", ".join(f"{name} {own:.3f} (floor {low:.3f})" for name, own, low in pairs))
        return "<pre>" + "\n".join(map(escape, lines)) + "</pre>"


class RunRecord:
    """What a run folder holds: each file is read when it is first asked for; what is not there is empty.

    Attributes:
        run: ``run.json``: the config, versions, components, floors, and what the scan found.
        model: ``config.json``: how the model is built again, its classes and how its images are prepared.
        result: ``result.json``, of a finished run.
        details: ``details.json``, of a finished run: by split the confusion matrix and the scores of each image.
        config: the settings with every default written out, by table.
        replaced: what the config asked for where plugins have chosen other settings, ``{"train.batch_size": "auto"}``.

    Raises:
        RunFolderError: of each attribute: its file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    run = cached_property(lambda self: self._read("run.json"))
    model = cached_property(lambda self: self._read("config.json"))
    result = cached_property(lambda self: self._read("result.json"))
    details = cached_property(lambda self: self._table(self._read("details.json"), "splits", "details.json"))
    config = cached_property(lambda self: self._table(self.run, "config", "run.json"))
    replaced = cached_property(lambda self: self._table(self.run, "replaced", "run.json"))

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

    @property
    def best(self) -> dict[str, Any]:
        """The line of the best epoch so far; a RunFolderError where no epoch has ended yet."""
        if not self.epochs:
            raise RunFolderError(
                f"{self.folder}: no epoch of this run has ended yet" if self.run else no_run(self.folder)
            )
        best = [line for line in self.epochs if line.get("best")]
        if not best or not all(isinstance(best[-1].get(name), dict) for name in ("train", "val")):
            raise RunFolderError(f"{self.folder / 'metrics.jsonl'} is damaged: it holds no best epoch with its scores")
        return best[-1]

    @property
    def splits(self) -> dict[str, dict[str, Any]]:
        """By split the scores and their ``floor``; of a run that is not finished those of val in the best epoch."""
        found = self._table(self.result, "splits", "result.json") if self.result else {"val": self.best["val"]}
        if not found or not all(isinstance(each, dict) and "floor" in each for each in found.values()):
            path = self.folder / ("result.json" if self.result else "metrics.jsonl")
            raise RunFolderError(f"{path} is damaged: it holds no splits with scores and floors")
        return found

    def _read(self, name: str) -> dict[str, Any]:
        return read_json(self.folder / name) if (self.folder / name).exists() else {}

    def _table(self, content: Mapping[str, Any], name: str, file: str) -> dict[str, Any]:
        found = content.get(name) or {}
        if not isinstance(found, dict):
            raise RunFolderError(f"{self.folder / file} is damaged: its {name} is no table")
        return found


def read_run(folder: str | Path) -> RunRecord:
    """The run that a folder holds, finished or not; of an exported folder, ``config.json`` alone.

    Raises:
        RunFolderError: it is no run's folder.
    """
    place = Path(folder)
    if not any((place / name).is_file() for name in ("run.json", "config.json")):
        raise RunFolderError(no_run(place))
    return RunRecord(place)


def check_folder(folder: Path, *, resume: bool, overwrite: bool) -> bool:
    """Refuse a folder that cannot be used, before anything is read or written; whether its run is resumed.

    Raises:
        RunFolderError: a file stands in its place, it cannot be written, or it holds a run already.
    """
    try:
        resume, overwrite = after_restart(folder, resume, overwrite)
        there = [name for name in OWN_FILES if (folder / name).exists()]
    except OSError as error:  # a name that is too long
        raise RunFolderError(f"output.dir = {str(folder)[:60]!r}...: {error.strerror}") from error
    place = next(each for each in (folder, *folder.parents) if each.exists() or each.is_symlink())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        what = "cannot be written" if place.is_dir() else "is no folder"
        raise RunFolderError(f"{place} {what}; choose another output.dir")
    # a file is replaced, not written through a link; in a folder observers may write
    links = [path.name for path in folder.glob("*") if path.is_symlink()]
    links = [name for name in links if (folder / name).is_dir() or name in (".lock", ".process")]
    if odd := links + [name for name in there if not (folder / name).is_file()]:
        raise RunFolderError(f"{folder}: {odd[0]} is a link, or no file; a run writes files in its own folder alone")
    if resume and overwrite:
        raise RunFolderError("resume=True goes on with a run, overwrite=True replaces it: give one of them")
    if resume and "last.pt" not in there and "previous.pt" not in there:
        raise RunFolderError(f"{folder}: nothing to resume; run without resume=True to begin")
    if {"last.pt", "previous.pt", "result.json"} & set(there) and not resume and not overwrite:
        state = "a finished run" if "result.json" in there else "an unfinished run"
        raise RunFolderError(
            f"{folder} holds {state}; resume=True goes on with it, overwrite=True replaces it, another output folder "
            "leaves it"
        )
    if there and not ("run.json" in there and "floors" in read_json(folder / "run.json")):
        raise RunFolderError(f"{folder} holds {first_few(there)} but no run of segkit's; choose another output.dir")
    return resume


def after_restart(folder: Path, resume: bool, overwrite: bool) -> tuple[bool, bool]:
    """Whether to resume and to overwrite: what torchrun or a scheduler starts again goes on with what it had begun.

    That is so with the same agent of torchrun. It is also so with another agent of the same --rdzv-id, unless the run
    is given up: finished, or to be overwritten.
    """
    now, begun = launcher(), any((folder / name).exists() for name in ("last.pt", "previous.pt"))
    if now and begun and (folder / "run.json").is_file():
        before = read_json(folder / "run.json").get("launcher")
        same_id = isinstance(before, dict) and before.get("run") == now["run"] != "none"
        if before == now or (same_id and not overwrite and not (folder / "result.json").exists()):
            return True, False
    return resume, overwrite


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock goes with the process, however it ends.

    A folder that is new, and in which nothing was written, goes too.

    Raises:
        RunFolderError: another process holds it.
    """
    lock, owner = FileLock(folder / ".lock", blocking=False), folder / ".process"
    new = [each for each in (folder, *folder.parents) if not each.exists()]
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
            if new and [path.name for path in folder.iterdir()] == [".lock"]:
                (folder / ".lock").unlink()
                for each in new:
                    each.rmdir()
        lock.release()


def clear(folder: Path, names: Sequence[str] = OWN_FILES) -> None:
    """Remove what an earlier run wrote, and what a killed process left half-written; nothing else."""
    for path in (*(folder / name for name in names), *folder.glob(".*.tmp")):
        path.unlink(missing_ok=True)


def write_beginning(
    inputs: TrainerInputs, floors: Mapping[str, Any], own: Mapping[str, Any], kept: Mapping[str, Any]
) -> None:
    """Write ``run.json`` and ``config.json``, which is all besides the weights that a prediction needs.

    ``own`` goes into ``run.json`` too: the run's identity and plan. What else ``kept`` holds stays in ``config.json``.
    """
    data, scan = {}, inputs.scan
    for split, dataset in inputs.splits.items():
        counts, statistics = scan.counts(split), scan.statistics[split]
        pixels = dict(zip(dataset.classes, counts.pixels.tolist(), strict=True))
        size = list(statistics[0].size)  # of the first, height before width
        data[split] = {"images": len(statistics), "size": size, "pixels": pixels, "void": counts.void}
    warnings = [issue.record() for issue in scan.warnings]
    found = {"floors": floors, "data": data, "warnings": warnings, "launcher": launcher(), **own}
    write_json(inputs.folder / "run.json", {**inputs.record, **found})
    train, how = inputs.splits["train"], inputs.data
    model = {
        "num_classes": len(train.classes),
        "ignore_index": train.ignore_index,
        "classes": list(train.classes),
        "palette": [list(colour) for colour in train.palette],
        "stored": train.stored,
        "resize": inputs.data.resize,
        "crop": inputs.augment.crop,
        "precision": inputs.precision.name,
        "normalisation": inputs.normalisation.record(),
        "images": {name: getattr(how, name) for name in ("bands", "no_data", "rgb")}
        | {"channels": list(train.channels), "files": list(train.image_files)},
    }
    write_json(inputs.folder / "config.json", {**kept, **inputs.model_record, **model})


def write_result(result: Result, evaluations: Mapping[str, Evaluation]) -> None:
    """Write ``details.json``, a confusion matrix and a score for each image of every split, and ``result.json``."""
    details = {name: {"confusion": x.confusion.tolist(), "images": x.images} for name, x in evaluations.items()}
    write_json(result.folder / "details.json", {"splits": details}, indent=None)
    write_json(result.folder / "result.json", {key: each for key, each in asdict(result).items() if key != "folder"})


def read_json(path: Path) -> dict[str, Any]:
    """Read one of a run's JSON files.

    Raises:
        RunFolderError: it is missing or damaged.
    """
    try:
        if path.exists() and not path.is_file():  # to open a pipe would wait for ever
            raise OSError("it is no regular file")
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES:,} bytes")
        content = json.loads(text)
    except (FileNotFoundError, NotADirectoryError) as error:
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


def no_run(place: Path, lacking: str = "run.json") -> str:
    """What to say of a place that is no run's folder."""
    if place.suffix == ".toml" and place.is_file():
        return f"{place} is a config; give the folder of a run, which `run {place}` makes"
    if not place.is_dir():
        return f"{place} is {'a file' if place.exists() else 'no folder'}; give the folder of a run"
    runs = [str(path.parent) for path in sorted(place.glob("*/run.json"))]
    return f"{place} is no run folder: it holds no {lacking}" + (f"; runs are {first_few(runs)}" if runs else "")
