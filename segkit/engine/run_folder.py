"""The run folder: its lock, its JSON files, and reading a run from it."""

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

TABLES = {"run.json": ("config", "replaced", "samples"), "details.json": ("splits",), "result.json": ("splits",)}
RESULTS = ("model.safetensors", "details.json", "result.json")
OWN_FILES = (
    *("config.json", "metrics.jsonl", "last.pt", "previous.pt", "best.pt", *RESULTS),
    "run.json",  # removed last, because without it the other files are not recognised as a run's
)


@dataclass(frozen=True)
class Result:
    """The result of a run, the content of ``result.json``.

    Attributes:
        folder: the run folder.
        splits: for each split ``mean_iou``, ``pixel_accuracy``, ``mean_dice``, ``class_iou``, ``loss``, ``floor`` and
            the config's other metrics.
        best_epoch: the epoch with the best weights, from 1.
        collapsed: whether a constant prediction scores about as well on the last split.
        stopped_early: the reason, or "".
        seconds: duration of the whole run, including the time before it was resumed.
        images_per_second: training speed, without evaluation.
        peak_memory_bytes: peak memory of this run: of the GPU on CUDA, of the process elsewhere.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        device: the name of the GPU, or ``cpu``.
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
        """For notebooks: the scores of each split beside those of the best constant prediction."""
        lines = [f"epoch {self.best_epoch} was best; {self.folder}"]
        for split, scores in self.splits.items():
            pairs = [(name, scores[name], scores["floor"][name]) for name in ("mean_iou", "pixel_accuracy")]
            lines.append(f"{split}: " + ", ".join(f"{name} {own:.3f} (floor {low:.3f})" for name, own, low in pairs))
        return "<pre>" + "\n".join(map(escape, lines)) + "</pre>"


class RunRecord:
    """The content of a run folder; files are read on first access, and missing files give empty values.

    Attributes:
        run: ``run.json``: the config, versions, components, floors, and results of the scan.
        model: ``config.json``: how to build the model again, its classes, and how its images are prepared.
        result: ``result.json`` of a finished run.
        details: ``details.json`` of a finished run: by split, the confusion matrix and the scores of each image.
        config: the settings with every default written out, by table.
        replaced: the config's values of settings that plugins have replaced, ``{"train.batch_size": "auto"}``.

    Raises:
        RunFolderError: on access to an attribute whose file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    run = cached_property(lambda self: self._read("run.json"))
    model = cached_property(lambda self: self._read("config.json"))
    result = cached_property(lambda self: self._read("result.json"))
    details = cached_property(lambda self: self._read("details.json").get("splits", {}))
    config = cached_property(lambda self: self.run.get("config", {}))
    replaced = cached_property(lambda self: self.run.get("replaced", {}))

    @cached_property
    def epochs(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``, one per epoch."""
        path = self.folder / "metrics.jsonl"
        try:
            return [dict(json.loads(line)) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []
        except (OSError, ValueError, TypeError) as error:
            raise RunFolderError(f"{path} cannot be read: {reason(error)}") from error

    @property
    def best(self) -> dict[str, Any]:
        """The line of the best epoch so far; raises RunFolderError if no epoch has ended yet."""
        best = [line for line in self.epochs if line.get("best")]
        if not best:
            raise RunFolderError(
                f"{self.folder}: no epoch of this run has ended yet" if self.run else no_run(self.folder)
            )
        return best[-1]

    @property
    def splits(self) -> dict[str, dict[str, Any]]:
        """Scores and their ``floor`` by split; for an unfinished run those of val in the best epoch."""
        splits: Any = self.result.get("splits") if self.result else {"val": self.best.get("val")}
        if not splits or not all(isinstance(each, dict) and "floor" in each for each in splits.values()):
            path = self.folder / ("result.json" if self.result else "metrics.jsonl")
            raise RunFolderError(f"{path} is damaged: it holds no splits with scores and floors")
        return dict(splits)

    def _read(self, name: str) -> dict[str, Any]:
        return read_json(self.folder / name) if (self.folder / name).exists() else {}


def read_run(folder: str | Path) -> RunRecord:
    """Open the run in a folder, finished or not; an exported folder only has ``config.json``.

    Raises:
        RunFolderError: the folder holds no run.
    """
    place = Path(folder)
    if not any((place / name).is_file() for name in ("run.json", "config.json")):
        raise RunFolderError(no_run(place))
    return RunRecord(place)


def check_folder(folder: Path, *, resume: bool, overwrite: bool) -> bool:
    """Refuse an unusable folder before anything is read or written; return whether to resume its run.

    Raises:
        RunFolderError: the path is a file, the folder cannot be written, or it holds a run already.
    """
    resume, overwrite = after_restart(folder, resume, overwrite)
    existing = [name for name in OWN_FILES if (folder / name).exists()]
    place = next(each for each in (folder, *folder.parents) if each.exists() or each.is_symlink())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        what = "cannot be written" if place.is_dir() else "is not a folder"
        raise RunFolderError(f"{place} {what}; choose another output.dir")
    if link := next((path.name for path in folder.glob("*") if path.is_symlink()), ""):
        raise RunFolderError(f"{folder}: {link} is a link; a run only writes files in its own folder")
    if resume and overwrite:
        raise RunFolderError("resume=True continues a run, overwrite=True replaces it: give one of them")
    if resume and "last.pt" not in existing and "previous.pt" not in existing:
        raise RunFolderError(f"{folder}: nothing to resume; run without resume=True to begin")
    if {"last.pt", "previous.pt", "result.json"} & set(existing) and not resume and not overwrite:
        state = "a finished run" if "result.json" in existing else "an unfinished run"
        raise RunFolderError(
            f"{folder} holds {state}; resume=True continues it, overwrite=True replaces it, another output folder "
            "keeps it"
        )
    if existing and not ("run.json" in existing and "floors" in read_json(folder / "run.json")):
        raise RunFolderError(f"{folder} holds {first_few(existing)}, but no segkit run; choose another output.dir")
    return resume


def after_restart(folder: Path, resume: bool, overwrite: bool) -> tuple[bool, bool]:
    """Whether to resume and whether to overwrite; processes restarted by torchrun or a scheduler resume their own run.

    A restart is recognised by the --rdzv-id, or without one by the torchrun agent. A finished run is not resumed in
    place of being overwritten.
    """
    now, begun = launcher(), any((folder / name).exists() for name in ("last.pt", "previous.pt"))
    begun = begun and not (overwrite and (folder / "result.json").exists())
    same = now and begun and (folder / "run.json").is_file() and read_json(folder / "run.json").get("launcher") == now
    return (True, False) if same else (resume, overwrite)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder for this process; the lock ends with the process, however it ends.

    Raises:
        RunFolderError: another process holds the lock, or the folder cannot be written.
    """
    lock, owner = FileLock(folder / ".lock", blocking=False), folder / ".process"
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


def clear(folder: Path, names: Sequence[str] = OWN_FILES) -> None:
    """Remove the files of an earlier run and the temporary files of a killed process, and nothing else."""
    for path in (*(folder / name for name in names), *folder.glob(".*.tmp")):
        path.unlink(missing_ok=True)


def write_beginning(
    inputs: TrainerInputs, floors: Mapping[str, Any], plan: Mapping[str, Any], old_model: Mapping[str, Any]
) -> None:
    """Write ``run.json``, and ``config.json``, which with the weights is all that a prediction needs.

    ``plan``, the run's identity and plan, is added to ``run.json``. ``config.json`` keeps other keys of ``old_model``.
    """
    data, scan = {}, inputs.scan
    for split, dataset in inputs.splits.items():
        counts, statistics = scan.counts(split), scan.statistics[split]
        pixels = dict(zip(dataset.classes, counts.pixels.tolist(), strict=True))
        size = list(statistics[0].size)  # height and width of the first sample
        data[split] = {"images": len(statistics), "size": size, "pixels": pixels, "void": counts.void}
    warnings = [issue.record() for issue in scan.warnings]
    run_record = {"floors": floors, "data": data, "warnings": warnings, "launcher": launcher(), **plan}
    write_json(inputs.folder / "run.json", {**inputs.record, **run_record})
    train, settings = inputs.splits["train"], inputs.data
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
        "images": {name: getattr(settings, name) for name in ("bands", "no_data", "rgb")}
        | {"channels": list(train.channels)},
    }
    write_json(inputs.folder / "config.json", {**old_model, **inputs.model_record, **model})


def write_result(result: Result, evaluations: Mapping[str, Evaluation]) -> None:
    """Write ``result.json``, and ``details.json`` with the confusion matrix and image scores of every split."""
    details = {name: {"confusion": x.confusion.tolist(), "images": x.images} for name, x in evaluations.items()}
    write_json(result.folder / "details.json", {"splits": details}, indent=None)
    write_json(result.folder / "result.json", {key: each for key, each in asdict(result).items() if key != "folder"})


def read_json(path: Path) -> dict[str, Any]:
    """Read one of a run's JSON files.

    Raises:
        RunFolderError: the file is missing or damaged.
    """
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunFolderError(no_run(path.parent, path.name)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(f"{path} cannot be read: {reason(error)}") from error
    if not isinstance(content, dict):
        raise RunFolderError(f"{path} does not hold an object")
    if odd := [name for name in TABLES.get(path.name, ()) if not isinstance(content.get(name, {}), dict)]:
        raise RunFolderError(f"{path} is damaged: its {odd[0]} is not a table")
    tables: Any = content.get("config") if path.name == "run.json" else None
    for table, keys in RENAMED.items():  # for runs of older versions
        table_values: Any = tables.get(table) if isinstance(tables, dict) else None
        for old in keys & table_values.keys() if isinstance(table_values, dict) else ():
            value = table_values.pop(old)
            table_values |= {keys[old]: value} if keys[old] else {}
    return content


def no_run(place: Path, lacking: str = "run.json") -> str:
    """The message about a place that is not a run folder."""
    if place.suffix == ".toml" and place.is_file():
        return f"{place} is a config; give a run folder, which `run {place}` creates"
    if not place.is_dir():
        return f"{place} is {'a file' if place.exists() else 'not a folder'}; give a run folder"
    runs = [str(path.parent) for path in sorted(place.glob("*/run.json"))]
    return f"{place} is not a run folder: it holds no {lacking}" + (f"; runs are {first_few(runs)}" if runs else "")
