"""Events: told when what they tell of is on disk, in resumed runs too, and without a trace in the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from training import train_and_evaluate

from segkit.engine import checkpoint
from segkit.engine.inputs import TrainerInputs
from segkit.files import to_jsonable

MakeJob = Callable[..., TrainerInputs]


def test_an_event_comes_after_what_it_tells_of_is_on_disk(make_job: MakeJob) -> None:
    job = make_job(epochs=2)
    folder = job.folder
    seen = []

    def notify(event: str, **arguments: Any) -> None:
        seen.append((event, arguments.get("epoch")))
        assert arguments["run"].folder == folder
        assert (folder / "run.json").exists()
        assert (folder / "last.pt").exists()
        if event == "segkit_epoch_ended":
            assert checkpoint.load(folder / "last.pt")["step"] == 2 * arguments["epoch"]
            assert len((folder / "metrics.jsonl").read_text().splitlines()) == arguments["epoch"]
            assert arguments["metrics"]["epoch"] == arguments["epoch"]
        assert (folder / "result.json").exists() == (event == "segkit_run_ended")
        if event == "segkit_run_ended":
            assert (folder / "model.safetensors").exists()
            assert json.loads((folder / "result.json").read_text())["splits"] == to_jsonable(arguments["result"].splits)

    train_and_evaluate(job, notify=notify)
    names = ["segkit_run_started", "segkit_epoch_ended", "segkit_epoch_ended", "segkit_run_ended"]
    assert seen == list(zip(names, [None, 1, 2, None], strict=True))


def test_a_resumed_run_says_from_which_epoch_it_goes_on(make_job: MakeJob) -> None:
    seen = []

    def notify(event: str, **arguments: Any) -> None:
        seen.append((event, arguments["run"].first_epoch, arguments.get("epoch")))

    train_and_evaluate(make_job(epochs=1), notify=notify)
    train_and_evaluate(make_job(epochs=3), resume=True, notify=notify)
    train_and_evaluate(make_job(epochs=3), resume=True, notify=notify)
    whole = [("segkit_run_started", 1, None), ("segkit_epoch_ended", 1, 1), ("segkit_run_ended", 1, None)]
    resumed = [("segkit_run_started", 2, None), ("segkit_epoch_ended", 2, 2), ("segkit_epoch_ended", 2, 3)]
    nothing_left = [("segkit_run_started", 4, None), ("segkit_run_ended", 4, None)]
    assert seen == [*whole, *resumed, ("segkit_run_ended", 2, None), *nothing_left]


def test_random_numbers_that_an_observer_draws_are_not_those_of_the_run(make_job: MakeJob) -> None:
    def notify(event: str, **arguments: Any) -> None:
        torch.rand(3)

    weights = []
    for name, told in (("alone", {}), ("watched", {"notify": notify})):
        job = make_job(name, epochs=2)  # its network has dropout
        train_and_evaluate(job, **told)
        weights.append(checkpoint.load(job.folder / "last.pt")["model"])
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
