"""What a run keeps, so that a kill at any moment costs minutes: ``last.pt``, ``previous.pt`` and ``best.pt``.

``last.pt`` holds the whole state, between two steps or at the end of an epoch. ``best.pt`` is the ``last.pt`` of the
best epoch under a second name, which costs no second writing.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from segkit.data.scan import Scan
from segkit.engine import checkpoint
from segkit.engine.console import Console
from segkit.engine.folder import remove_temporary, write_lines
from segkit.engine.history import History
from segkit.engine.loop import Loop
from segkit.errors import CheckpointError, RunFolderError, WriteError


class Store:
    """The checkpoints of a run.

    Args:
        folder: the run folder.
        loop: what is kept.
        history: likewise.
        samples: per split what tells it from another one (see :func:`samples_of`).
        console: is told where something could not be written; the run goes on.
    """

    def __init__(
        self, folder: Path, loop: Loop, history: History, samples: Mapping[str, str], console: Console
    ) -> None:
        self.folder, self.loop, self.history, self.samples, self.console = folder, loop, history, samples, console
        self.began = time.perf_counter()  # moved back by what a resumed run took before
        self._saved_at = time.monotonic()
        self._saved: tuple[int, int] | None = None
        self._unwritten_best: dict[str, Any] | None = None

    @property
    def seconds(self) -> float:
        """That the run took so far, before it was stopped too."""
        return time.perf_counter() - self.began

    def due(self) -> bool:
        """Whether it is time for a checkpoint within an epoch."""
        return time.monotonic() - self._saved_at > 60 * self.loop.settings.checkpoint_minutes

    def save(self) -> bool:
        """Write the state, where it has changed; whether it is on the disk. Where it cannot be, the run goes on."""
        state = (self.loop.step, len(self.history))
        if self._saved == state:
            return True
        ended = self.loop.position.steps == 0
        best = ended and self.history.best_epoch == len(self.history) > 0
        try:
            checkpoint.save(self.folder / "last.pt", self._state())
            self._saved, self._saved_at = state, time.monotonic()
            if best:
                checkpoint.link(self.folder / "last.pt", self.folder / "best.pt")
                self._unwritten_best = None
            elif self._unwritten_best:
                self._write_the_best(self._unwritten_best)
            if ended:
                write_lines(self.folder / "metrics.jsonl", self.history.lines)
        except (WriteError, OSError) as error:
            self.console.warn(f"{error}; training goes on")
            self._saved_at = time.monotonic()  # not again at once
            if best and self._saved != state:
                self._unwritten_best = self._copy_of_the_best()
        return self._saved == state

    def best_weights(self) -> dict[str, Any]:
        """The weights of the best epoch.

        Raises:
            CheckpointError: they are missing or damaged.
            WriteError: they could not be written until now, nor now.
        """
        if self._unwritten_best:
            self._write_the_best(self._unwritten_best)
        state = checkpoint.load(self.folder / "best.pt")
        weights: dict[str, Any] = (state.get("average") or state)["model"]
        return weights

    def load(self) -> tuple[dict[str, Any], str]:
        """The last whole state, and a line to print where it is not ``last.pt``.

        Raises:
            CheckpointError: there is none that can be used.
            RunFolderError: it was trained on other samples.
        """
        state, note = checkpoint.load_last(self.folder)
        for split, samples in state["samples"].items():
            if self.samples.get(split, samples) != samples:
                raise RunFolderError(
                    f"{self.folder} was trained on other samples: {split} has changed since; restore them, or begin "
                    "anew with output.dir=..."
                )
        remove_temporary(self.folder)
        best = state["history"]["best_epoch"]
        if best and best == len(state["history"]["lines"]) and not state["position"]["steps"]:
            name = "previous.pt" if note else "last.pt"  # a kill between the two names of one file
            checkpoint.link(self.folder / name, self.folder / "best.pt")
        if _epoch_of(self.folder / "best.pt") != best:  # damaged, or newer than the checkpoint that was left
            state["history"] |= {"best_epoch": 0, "waited": 0}
        return state, note

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
            CheckpointError: it belongs to another model.
        """
        self.loop.load_state_dict(dict(state), f"the checkpoint in {self.folder}")
        self.history.load_state_dict(state["history"])
        self.began -= state["seconds"]
        self._saved = (self.loop.step, len(self.history))

    def _state(self) -> dict[str, Any]:
        own = {"history": self.history.state_dict(), "seconds": self.seconds, "samples": dict(self.samples)}
        return {**self.loop.state_dict(), **own, "processes": self.loop.world.size}

    def _copy_of_the_best(self) -> dict[str, Any]:
        weights = {key: value.to("cpu", copy=True) for key, value in self.loop.evaluated.state_dict().items()}
        history = {**self.history.state_dict(), "lines": list(self.history.lines)}
        return {"format": checkpoint.FORMAT, "model": weights, "history": history}

    def _write_the_best(self, state: dict[str, Any]) -> None:
        checkpoint.write_atomically(self.folder / "best.pt", lambda file: torch.save(state, file))
        self._unwritten_best = None


def samples_of(scan: Scan) -> dict[str, str]:
    """Per split a digest of its images and their names and labels, in their order."""
    found = {}
    for split, facts in scan.facts.items():
        digest = hashlib.sha256()
        for each in facts:
            digest.update(f"{each.name}\0{each.counts.tolist()}\0".encode(errors="surrogateescape"))
            digest.update(each.fingerprint.digest)
        found[split] = digest.hexdigest()
    return found


def _epoch_of(path: Path) -> int | None:
    """The epoch whose weights a file holds; None where there are none that can be used."""
    with contextlib.suppress(CheckpointError, KeyError, TypeError):
        return len(checkpoint.load(path)["history"]["lines"])
    return None
