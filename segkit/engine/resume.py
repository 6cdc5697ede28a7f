"""What a run goes on from, and what may differ then: all else would be another run under the first one's name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from segkit.engine.folder import read_json
from segkit.engine.store import Store
from segkit.errors import RunFolderError, first_few
from segkit.settings import AugmentSettings, DataSettings, TrainSettings

# how long, where, and how fast; nothing that a step computes depends on them
MAY_CHANGE = {
    "plugins",
    "train.epochs",
    "train.patience",
    "train.stop_on_collapse",
    "train.workers",
    "train.device",
    "train.compile",
    "train.cuda_graph",
    "train.log_every",
    "train.checkpoint_minutes",
    "train.max_skipped",
    "output.dir",
    "output.samples",
    "data.cache",
    "data.scan",
    "dataset.root",
    "dataset.download",
    "data.allow_leaks",
}


def load_checked(
    store: Store, config: Mapping[str, Any], train: TrainSettings, epochs: int
) -> tuple[dict[str, Any], list[str]]:
    """The state that a run goes on from, once it is sure to be this run's, and what to tell of it.

    Args:
        store: of the run's folder.
        config: what is asked for now.
        train: its table ``[train]``.
        epochs: that will be done in all.

    Raises:
        RunFolderError: the run was another one, or is further than it is to go.
        CheckpointError: there is none that can be used.
    """
    folder = store.folder
    record = read_json(folder / "run.json")
    before = record.get("config", {})
    if not isinstance(before, Mapping):
        raise RunFolderError(f"{folder / 'run.json'} is damaged: its config is no table")
    refuse_changes(before, config, folder)
    store.identity = str(record.get("id", ""))
    state, notes = store.load()
    done = len(state["history"]["lines"])
    if done > epochs:
        raise RunFolderError(f"{folder} has done {done} epochs, more than the {epochs} that are asked for")
    old = dict(_flat(before)).get("train.epochs", train.epochs)
    if old != train.epochs and train.schedule != "constant":
        notes.append(f"train.epochs was {old} and is {train.epochs}: the learning rate is planned anew")
    return state, notes


def refuse_changes(before: Mapping[str, Any], now: Mapping[str, Any], folder: object) -> None:
    """Compare two configs as they stand in ``run.json``.

    Raises:
        RunFolderError: they differ in what the training computes.
    """
    defaults = {"data": DataSettings(), "augment": AugmentSettings(), "train": TrainSettings()}
    unsaid = dict(_flat({name: table.model_dump() for name, table in defaults.items()}))  # by an older version
    old, new = {**unsaid, **dict(_flat(before))}, {**unsaid, **dict(_flat(now))}
    keys = [key for key in {**old, **new} if key not in MAY_CHANGE and old.get(key) != new.get(key)]
    if keys:
        told = first_few([f"{key} was {old.get(key)!r} and is {new.get(key)!r}" for key in keys])
        raise RunFolderError(
            f"{folder} cannot be resumed with other settings: {told}; begin anew with output.dir=..., "
            "or give the old ones"
        )


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """``{"train": {"lr": 1}}`` -> ``("train.lr", 1)``; lists by their places, but lists of plain values as they are."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _flat(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)) and any(isinstance(each, Mapping) for each in value):
        for place, each in enumerate(value):
            yield from _flat(each, f"{path}.{place}")
    else:
        yield path, list(value) if isinstance(value, tuple) else value
