"""The checkpoints of a run: ``last.pt``, ``previous.pt`` and ``best.pt``. A kill at any moment costs only minutes.

``last.pt`` holds the complete state between two steps or after an epoch, including the best weights so far, and
``previous.pt`` the state saved before it. ``best.pt`` holds the best weights for other programs; a run never reads it.
Files are written atomically and loaded without unpickling code.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from segkit.engine.distributed import PROCESSES
from segkit.engine.run_folder import RunRecord
from segkit.errors import CheckpointError, RunFolderError, WriteError, first_few
from segkit.files import to_jsonable, write_atomically, write_json
from segkit.model.encoder import fitting, is_dense, misfits, read_file, refuse_damage
from segkit.settings import AugmentSettings, DataSettings, TrainSettings
from segkit.signals import STOP

if TYPE_CHECKING:
    from segkit.data.scan import Scan
    from segkit.engine.console import Console
    from segkit.engine.history import History
    from segkit.engine.inputs import TrainerInputs
    from segkit.engine.pace import Pace
    from segkit.engine.step import TrainingLoop

FORMAT = 3

# settings of duration, place and speed, which change nothing that a step computes
MAY_CHANGE = {
    *("train.epochs", "train.max_steps", "train.minutes", "train.patience", "train.stop_on_collapse"),
    *("train.max_skipped", "train.checkpoint_minutes", "train.workers", "train.device", "train.compile"),
    *("train.cuda_graph", "train.log_every", "data.cache", "data.allow_leaks", "data.rgb"),
    *("dataset.root", "dataset.download", "output.dir", "output.samples", "plugins"),
}


def save(path: Path, state: Mapping[str, Any], previous: Path | None = None) -> None:
    """Write a checkpoint to a temporary file, verify it by reading, and move it to ``path``.

    Args:
        path: the file to write.
        state: tensors and plain values.
        previous: where to move the file that is at ``path`` now.

    Raises:
        WriteError: the disk is full or the folder cannot be written; the old file is intact.
    """

    def check(temporary: Path) -> None:
        refuse_damage(temporary)
        if previous and path.exists():
            path.replace(previous)

    content = {"format": FORMAT, **state}
    write_atomically(path, lambda file: torch.save(content, file), check=check, needed=size_of(state))


def size_of(value: Any) -> int:
    """Total size of all tensors in nested mappings and lists, in bytes."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return sum(size_of(each) for each in inside)


def load(path: Path, *, resume: bool = False) -> Any:
    """Read a checkpoint or a weights file onto the CPU, with :func:`read_file`.

    Args:
        path: the file.
        resume: whether the file must be a checkpoint that this version can resume from.

    Raises:
        CheckpointError: the file is missing, truncated, damaged (its checksums do not match), holds other objects than
            tensors and plain values, or has another format.
    """
    content = read_file(path)
    version = content.get("format") if isinstance(content, dict) else None
    if resume and version != FORMAT:
        made = "was written by segkit 0.1" if version == 2 else f"has format {version}"
        raise CheckpointError(f"{path} {made}; this segkit only resumes from format {FORMAT}; start a new run")
    if isinstance(version, int) and version > FORMAT:
        raise CheckpointError(
            f"{path} has format {version}, and this segkit reads {FORMAT} at most; install a newer one"
        )
    return content


def load_last(folder: Path) -> tuple[dict[str, Any], str]:
    """Read the last checkpoint of a run folder, or the previous one, with a warning, if the last is damaged.

    Raises:
        CheckpointError: neither can be used.
    """
    try:
        return load(folder / "last.pt", resume=True), ""
    except CheckpointError as error:
        with contextlib.suppress(CheckpointError):
            return load(folder / "previous.pt", resume=True), f"{error}; resuming from previous.pt"
        raise


def load_weights(model: nn.Module, weights: dict[str, Any], place: str) -> None:
    """Load a state dict into a model; both may come from a compiled model.

    Raises:
        CheckpointError: the weights belong to another model; missing, unexpected and mismatched keys are listed.
    """
    expected = model.state_dict()
    if odd := [key for key, value in weights.items() if not is_dense(value)]:
        raise CheckpointError(f"{place} holds values that are not tensors: {first_few(odd, 3)}")
    matching, unused = fitting(expected, weights)
    if problems := misfits(expected, matching, [key for key in expected if key not in matching], unused):
        raise CheckpointError(f"{place} belongs to another model or number of classes: {problems}")
    model.load_state_dict(matching)


def write_model(model: nn.Module, folder: Path) -> None:
    """Write the weights to ``model.safetensors``, with the keys of the model that is not compiled."""
    # safetensors accepts neither channels_last tensors nor tensors that share memory
    kept = {key.replace("_orig_mod.", ""): value for key, value in model.state_dict().items()}
    plain = {key: value.clone(memory_format=torch.contiguous_format) for key, value in kept.items()}
    content = safetensors_bytes(plain, {"format": "pt"})
    write_atomically(folder / "model.safetensors", lambda file: file.write(content), needed=len(content))


class CheckpointManager:
    """Writes the checkpoints of a run, and resumes from them.

    Attributes:
        identity: random identifier of the run, also in ``run.json``, so that checkpoints of other runs are refused.
        best: the weights of the best epoch, on the CPU; empty before the first epoch has ended.
        closed: whether saving is over because the loop now holds the best weights instead of the last ones.

    Args:
        inputs: the run's inputs.
        loop, history, pace: the state to save.
        console: prints a warning when a checkpoint cannot be written; the run continues.
    """

    def __init__(
        self, inputs: TrainerInputs, loop: TrainingLoop, history: History, pace: Pace, console: Console
    ) -> None:
        self.inputs, self.folder, self.loop, self.history, self.pace = inputs, inputs.folder, loop, history, pace
        self.console, self.identity = console, uuid4().hex
        self._saved_at = time.monotonic()
        self._saved: tuple[Any, ...] = ()
        self.best: dict[str, Tensor] = {}
        self._best_on_disk, self.closed = self.best, False

    def due(self, ahead: float = 0.0) -> bool:
        """Whether a checkpoint is due within an epoch, now or during the next ``ahead`` seconds."""
        return time.monotonic() + ahead - self._saved_at > 60 * self.loop.settings.checkpoint_minutes

    def save(self) -> bool:
        """Write the state, if new, in the main process; return whether it is on the disk. Failed writes only warn."""
        place = self._place()
        if self._saved == place or self.closed or not PROCESSES.is_main_process:
            return self._saved == place
        ended = self.loop.progress.steps == 0
        if ended and self.history.best_epoch == len(self.history) > 0 and self._saved[:2] != place[:2]:
            weights = self.loop.evaluated.state_dict()  # the next step changes them
            self.best = {key: value.to("cpu", copy=True) for key, value in weights.items()}
        self._saved_at = time.monotonic()  # also if it fails, so that the next try is not made at once
        with STOP.held():  # a signal within torch.save would look like a full disk
            for write in (self.write_state, self.write_history)[: 1 + ended]:
                try:  # each by itself: the lines may fit where the state does not
                    write()
                except WriteError as error:
                    self.console.warn(f"{error}; the run continues")
        return self._saved == place

    def write_state(self) -> None:
        """Write ``last.pt``, and ``best.pt`` if there are new best weights; raises WriteError."""
        save(self.folder / "last.pt", self._state(), self.folder / "previous.pt")
        self._saved = self._place()
        if self._best_on_disk is not self.best:
            save(self.folder / "best.pt", {"model": self.best})
            self._best_on_disk = self.best

    def write_history(self) -> None:
        """Write ``metrics.jsonl``, without fsync because checkpoints hold its lines too."""
        write_json(self.folder / "metrics.jsonl", *self.history.lines, indent=None, durable=False)

    def load(self) -> tuple[dict[str, Any], list[str]]:
        """Read the state to resume from; return it with warnings about a damaged file and about changed conditions.

        Raises:
            CheckpointError: no checkpoint can be used.
            RunFolderError: the checkpoint is of another run, or was trained on other samples or with other settings.
        """
        folder, train, record = self.folder, self.inputs.train, RunRecord(self.folder)
        state, note = load_last(folder)
        before, self.identity = record.config, str(record.run.get("id", ""))
        refuse_changes(before, self.inputs.record.get("config", {}), folder)
        if state.get("identity") != self.identity:
            raise RunFolderError(f"{folder}: the checkpoint is not of the run in run.json; restore the one that is")
        before_samples, samples = record.run.get("samples", {}), samples_of(self.inputs.scan)
        if changed := [name for name, each in samples.items() if before_samples.get(name, each) != each]:
            raise RunFolderError(
                f"{folder} was trained on other samples: {changed[0]} has changed since; restore them, or start a new "
                "run with output.dir=..."
            )
        notes = [note] if note else []
        for name in ("epochs", "max_steps", "minutes"):
            old, new = before.get("train", {}).get(name, getattr(train, name)), getattr(train, name)
            if old != new:
                state["history"]["stop"] = ""  # an observer's reason was for the shorter run
                if train.schedule != "constant":
                    notes.append(f"train.{name} was {old} and is {new}: the learning rate schedule changes")
        old, new = state["processes"], PROCESSES.size
        if old != new:
            same = "images and steps are the same, but sums are rounded in another order"
            notes.append(f"the run began in {old} processes and continues in {new}: {same}")
        return state, notes

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the run from a state.

        Raises:
            CheckpointError: the state belongs to another model.
        """
        self.loop.load_state_dict(dict(state), f"the checkpoint in {self.folder}")
        self.history.lines, self.history.stop = state["history"]["lines"], state["history"]["stop"]
        self.pace.load_state_dict(state["pace"])
        self._saved, self.best = self._place(), state["best"]

    def _place(self) -> tuple[Any, ...]:
        return self.loop.step, len(self.history), self.history.stop, self.pace.minutes and self.pace.plan

    def _state(self) -> dict[str, Any]:
        return {
            **self.loop.state_dict(),
            "history": {"lines": self.history.lines, "stop": self.history.stop},
            "pace": self.pace.state_dict(),
            "processes": PROCESSES.size,
            "identity": self.identity,
            "best": self.best,
        }


def samples_of(scan: Scan) -> dict[str, str]:
    """For each split, a digest of the images, names and label counts of its samples, in order."""
    samples = {split: [(s.name, list(s.counts), s.digest) for s in each] for split, each in scan.statistics.items()}
    return {split: hashlib.sha256(ascii(each).encode()).hexdigest() for split, each in samples.items()}


def refuse_changes(before: Mapping[str, Any], now: Mapping[str, Any], folder: object) -> None:
    """Compare two configs as stored in ``run.json``.

    Raises:
        RunFolderError: they differ in a setting that changes what the training computes.
    """
    tables = {"data": DataSettings(), "augment": AugmentSettings(), "train": TrainSettings()}
    defaults = by_key({name: table.model_dump() for name, table in tables.items()})  # for settings added since
    old, new = defaults | by_key(before), defaults | by_key(now)
    keys = [key for key in {**old, **new} if key not in MAY_CHANGE and old.get(key) != new.get(key)]
    if keys:
        changes = first_few([f"{key} was {old.get(key)!r} and is {new.get(key)!r}" for key in keys])
        raise RunFolderError(
            f"{folder} cannot be resumed with other settings: {changes}; start a new run with output.dir=..., "
            "or give the old settings"
        )


def by_key(config: Mapping[str, Any]) -> dict[str, Any]:
    """``{"train": {"lr": 1}, "loss": [...]}`` -> ``{"train.lr": 1, "loss": [...]}``, with JSON values."""
    tables = {name: each if isinstance(each, Mapping) else {"": each} for name, each in to_jsonable(config).items()}
    return {f"{name}.{key}".rstrip("."): each for name, table in tables.items() for key, each in table.items()}
