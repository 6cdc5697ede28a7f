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
from uuid import uuid4

import torch

from segkit.data.scan import Scan
from segkit.engine import checkpoint
from segkit.engine.console import Console
from segkit.engine.folder import remove_temporary, write_lines
from segkit.engine.history import History
from segkit.engine.step import Loop
from segkit.errors import CheckpointError, RunFolderError, WriteError, reason


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
        self.identity = uuid4().hex  # of the run, in run.json too: no checkpoint of another one is taken for its own
        self.began = time.perf_counter()  # moved back by what a resumed run took before
        self._saved_at = time.monotonic()
        self._saved: tuple[int, int] | None = None
        self._unwritten_best: dict[str, Any] | None = None

    @property
    def seconds(self) -> float:
        """That the run took so far, before it was stopped too."""
        return time.perf_counter() - self.began

    def due(self, ahead: float = 0.0) -> bool:
        """Whether it is time for a checkpoint within an epoch, as none can be written in the seconds ``ahead``."""
        return time.monotonic() + ahead - self._saved_at > 60 * self.loop.settings.checkpoint_minutes

    def save(self) -> bool:
        """Write the state, where it has changed; whether it is on the disk. Where it cannot be, the run goes on."""
        state = (self.loop.step, len(self.history))
        if self._saved == state:
            return True
        ended = self.loop.position.steps == 0
        unlinked = best = ended and self.history.best_epoch == len(self.history) > 0
        self._saved_at = time.monotonic()  # if it fails too: not again at once
        try:
            checkpoint.save(self.folder / "last.pt", self._state())
            self._saved = state
            if best:
                checkpoint.link(self.folder / "last.pt", self.folder / "best.pt")
                unlinked, self._unwritten_best = False, None
            elif self._unwritten_best:
                self._write_the_best(self._unwritten_best)
            if ended:
                write_lines(self.folder / "metrics.jsonl", self.history.lines)
        except OSError as error:
            self.console.warn(f"{self.folder / 'best.pt'} could not be written: {reason(error)}; training goes on")
        except WriteError as error:
            self.console.warn(f"{error}; training goes on")
        if unlinked:
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
        if self._epoch_of_the_best() != self.history.best_epoch:
            raise CheckpointError(
                f"{self.folder / 'best.pt'} does not hold the weights of epoch {self.history.best_epoch}"
            )
        state = checkpoint.load(self.folder / "best.pt")
        weights: dict[str, Any] = (state.get("average") or state)["model"]
        return weights

    def load(self) -> tuple[dict[str, Any], list[str]]:
        """The last whole state, and what to tell of it: a damaged file, and what was used in its place.

        Raises:
            CheckpointError: there is none that can be used.
            RunFolderError: it is of another run, or was trained on other samples.
        """
        state, note = checkpoint.load_last(self.folder, self._state())
        notes = [note] if note else []
        if state["identity"] != self.identity:
            raise RunFolderError(
                f"{self.folder}: the checkpoint there is of another run than run.json; restore its own"
            )
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
        if self._epoch_of_the_best() != best:  # damaged, or newer than the checkpoint that was left
            state["history"] |= {"best_epoch": 0, "waited": 0}
            notes.append(
                f"best.pt of epoch {best} is lost or damaged: the best is sought among the epochs from here on"
            )
        return state, notes

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
        return {**self.loop.state_dict(), **own, "processes": self.loop.world.size, "identity": self.identity}

    def _epoch_of_the_best(self) -> int:
        """The epoch whose weights best.pt holds; 0 where there are none of this run that can be used."""
        with contextlib.suppress(CheckpointError, KeyError, TypeError):
            state = checkpoint.load(self.folder / "best.pt")
            if state["identity"] == self.identity:
                return len(state["history"]["lines"])
        return 0

    def _copy_of_the_best(self) -> dict[str, Any]:
        weights = {key: value.to("cpu", copy=True) for key, value in self.loop.evaluated.state_dict().items()}
        history = {**self.history.state_dict(), "lines": list(self.history.lines)}
        return {"format": checkpoint.FORMAT, "model": weights, "history": history, "identity": self.identity}

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
