"""The pace of a run: the time that is left, and how many steps fit into ``train.minutes``.

The plan is made before the first step, from a few timed steps and evaluations whose results are discarded; it is stored
in ``run.json`` and in every checkpoint. It is kept as long as the expected end is close to the given time, so that a
resumed run repeats it bit for bit. If the machine becomes slower, the run is shortened between two steps; the learning
rate, a function of the step and the number of planned steps, then falls to its end sooner.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from segkit.engine.checkpoint import size_of
from segkit.engine.distributed import PROCESSES
from segkit.errors import ConfigError, SegkitError
from segkit.signals import STOP

if TYPE_CHECKING:
    from segkit.engine.trainer import Trainer

AIM, LATEST, EARLIEST = 0.975, 1.01, 0.93  # shares of the time: a plan's intended end, and the bounds for keeping it
SCORING = 0.045  # share of the time for the ends of epochs: evaluation of val, checkpoint, observers
WINDOW = 0.03  # share of the time, 30 s at most, over which steps are timed
RECENT = 8.0  # a window counts this many times its share of the training time left; simulated: a tenfold slowdown of
# 60 of 900 s costs 10 % of the steps, and a lasting fivefold one is still met within 5 % of the time
REPORT = 3.5  # CPU seconds from the last evaluation until Python has exited: 2.1, and a reserve for other programs
DRAWING = 0.2  # CPU seconds that observers take after an epoch; an estimate until it is measured
DRAWN = 3.0  # observers' time at the end of the run / after an epoch; measured for 50 pictures and their GIF: 3.2
REHEARSAL = 2.0  # seconds of steps that are timed before the first one, in addition to two steps
DISK = 1e8  # bytes per second for writing and verifying a checkpoint on a slow disk


@dataclass
class Costs:
    """The costs of the parts of a run, in seconds and bytes."""

    step: float = 0.0
    epoch: float = 0.0  # the end of an epoch: evaluation of val, checkpoint, observers
    scores: float = 0.0  # evaluation of all splits
    observers: float = 0.0  # part of ``epoch``; known after the first one
    report: float = REPORT
    disk: int = 0


class Pace:
    """The clock of a run and its plan: the number of steps of the run and of an epoch.

    Args:
        trainer: the run's trainer; without ``train.minutes``, the plan follows from ``epochs`` and ``max_steps``.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.loop, self.batches, self.order = trainer.loop, trainer.batches, trainer.order
        self.evaluators, self.metrics, self.began = trainer.evaluators, trainer.inputs.metrics, STOP.began
        statistics, train = trainer.inputs.scan.statistics, trainer.inputs.train
        self.pixels = {name: [math.prod(each.size) for each in rows] for name, rows in statistics.items()}
        self.minutes, self.seconds = train.minutes, 60 * (train.minutes or math.inf)
        self.pass_steps = self.order.steps
        self.max_steps = min((train.epochs or math.inf) * self.pass_steps, train.max_steps or math.inf)
        self.loop.steps = 1 if self.max_steps == math.inf else int(self.max_steps)
        self.costs = Costs()  # the latest measurements
        self.since: tuple[int, float] | None = None  # step and elapsed seconds when the current timing window began

    @property
    def elapsed(self) -> float:
        """Seconds since the command began, plus those before the run was resumed."""
        return time.monotonic() - self.began

    @property
    def epochs_left(self) -> int:
        """The number of epochs that have not ended; the last may be shorter."""
        return max(0, -(-(self.loop.steps - self.loop.step + self.loop.progress.steps) // self.order.steps))

    @property
    def end(self) -> float:
        """Expected seconds from the end of the last epoch to the end of the run."""
        return self.costs.scores + self.costs.report + DRAWN * self.costs.observers

    @property
    def left(self) -> float:
        """Expected seconds until the run ends."""
        ahead = self.loop.steps - self.loop.step
        return ahead * self.costs.step + self.epochs_left * self.costs.epoch + self.end

    def begin(self, costs: Costs) -> None:
        """Plan the run before its first step, from its measured costs.

        Raises:
            ConfigError: not even one step fits into ``train.minutes``.
        """
        self.costs = costs
        self.loop.steps = self.planned()
        if self.minutes:
            self._resize_epochs()
        if self.loop.steps < 1:
            least = (self.elapsed + costs.step + costs.epoch + self.end) / AIM
            raise ConfigError(
                f"train.minutes = {self.minutes:g}: reading the data, evaluation and report take about "
                f"{least / 60:.1f} minutes, so no step fits; give at least {math.ceil(1.1 * least / 6) / 10:g}, "
                "or a smaller data.resize or model"
            )

    def stepped(self) -> None:
        """Update the time of a step, once per WINDOW; until val is scored again, scale its costs by the same factor.

        Speeds are averaged, not times: a short slowdown then costs the steps that it took, and not the rest of the run.
        The less time is left, the more the latest window counts.
        """
        costs, now = self.costs, self.elapsed
        first, since = self.since = self.since or (self.loop.step, now)
        if now - since >= min(WINDOW * self.seconds, 30.0) and self.loop.step > first:
            ahead, measured = self.left - self.end, (now - since) / (self.loop.step - first)
            weight = min(1.0, RECENT * (now - since) / max(ahead, 1e-9))
            slower = 1 / (1 - weight + weight * costs.step / measured)
            costs.step, costs.epoch, costs.scores = slower * costs.step, slower * costs.epoch, slower * costs.scores
            self.since = self.loop.step, now

    def epoch_ended(self, began: float, scored: float, saved: float) -> None:
        """Replace the costs by those measured at an epoch's end: when it began, and when val was scored and saved."""
        costs, now, share = self.costs, time.monotonic(), sum(map(sum, self.pixels.values())) / sum(self.pixels["val"])
        costs.epoch = now - began + saved - scored  # it is saved twice
        if not (self.metrics and costs.observers):  # metrics compute their floor in the first epoch and at the end
            costs.scores = share * (scored - began)
        costs.observers = min(costs.observers or now - saved, now - saved)
        self.since = self.since and (self.since[0], self.since[1] + now - began)
        if self.minutes:
            costs.report = (costs.report + cpu_slowdown() * REPORT) / 2
            self.loop.steps = self.planned()  # a run that was about to end goes on if the machine is fast again
            self._resize_epochs()

    def _resize_epochs(self) -> None:
        """Lengthen the epochs so that their ends take a small share of the time, and make them equally long."""
        costs, left = self.costs, self.left - self.end
        wanted = costs.epoch + min(max(self.pass_steps * costs.step, costs.epoch / SCORING), self.seconds / 3)
        steps = (left / max(1, round(left / wanted)) - costs.epoch) / costs.step
        longer = not self.loop.step or steps > 1.1 * self.order.steps  # small differences do not change the plan
        if longer and self.loop.step < self.loop.steps:
            self.order.steps = max(1, int(steps))
            self.loop.steps = self.fitting()

    def planned(self) -> int:
        """The steps of the whole run: as planned so far, unless the run would end too late or too early."""
        end = self.elapsed + self.left
        kept = self.seconds == math.inf or EARLIEST * self.seconds <= end <= LATEST * self.seconds
        return int(min(self.loop.steps, self.max_steps)) if kept else self.fitting()

    def fitting(self) -> int:
        """The steps of a run that ends at AIM, including epochs' ends; a last epoch is only begun if it adds steps."""
        costs, length, done = self.costs, self.order.steps, self.loop.progress.steps
        room = AIM * self.seconds - self.elapsed - self.end
        whole = max(1, int((room + done * costs.step) / (length * costs.step + costs.epoch)))
        ahead = [min((room - n * costs.epoch) / costs.step, n * length - done) for n in (whole, whole + 1)]
        return int(min(self.max_steps, self.loop.step + int(max(0.0, *ahead) + 1e-6)))

    @property
    def plan(self) -> dict[str, Any]:
        """The state without the elapsed time, as plain values."""
        costs = dict(vars(self.costs))
        return {"steps": self.loop.steps, "epoch": self.order.steps, "since": self.since, "costs": costs}

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values; also stored in ``run.json``."""
        return {"seconds": self.elapsed, **self.plan}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the plan; the start-up time of a resumed run is not counted, so that the plan can be kept."""
        self.began, self.since = time.monotonic() - state["seconds"], state["since"]
        self.costs, self.order.steps = Costs(**state["costs"]), state["epoch"]
        if self.minutes:
            self.loop.steps = state["steps"]
            self.loop.steps = self.planned()  # other ones if minutes, epochs or max_steps have changed

    def rehearse(self) -> Costs:
        """Time a few steps and the evaluation of val, then restore the loop's state."""
        loop, order = self.loop, self.order
        planned, state = (loop.steps, order.steps), copy.deepcopy(loop.state_dict())

        def between() -> str:
            if PROCESSES.broadcast_from_main(lambda: time.monotonic() - began > REHEARSAL):
                loop.steps = loop.step
            return ""

        try:
            for order.steps in (1, 8):  # the first step, slowed by compilation and cold caches, does not count
                loop.end_epoch()
                began, loop.steps, order.epoch, order.start = time.monotonic(), 1 << 30, 1, 0
                loop.run_epoch(self.batches, order.steps, order.images, "timing", between)
            seconds = loop.progress.seconds / loop.progress.steps
            written = size_of(loop.state_dict()) + 2 * size_of(loop.evaluated.state_dict())
        finally:
            loop.load_state_dict(state, "the state before the first step")
            loop.steps, order.steps = planned
        val, sizes = self.evaluators["val"], self.pixels["val"]  # one batch, without slowly starting processes
        chosen = range(0, len(sizes), -(-len(sizes) // min(len(sizes), val.batch_size * PROCESSES.size)))
        for _ in range(2):  # the second time is used, as caches are cold the first time
            one = replace(val, metrics=copy.deepcopy(val.metrics), floor=dict(val.floor or {}), workers=0)
            began = time.monotonic()
            with suppress(SegkitError):  # an untrained network may fail; errors that remain appear in the first epoch
                one.evaluate(indices=chosen)
        scoring = (time.monotonic() - began) / sum(sizes[index] for index in chosen)  # seconds per pixel
        slowdown = cpu_slowdown()
        return Costs(
            step=seconds,
            epoch=scoring * sum(sizes) + written / DISK + slowdown * DRAWING,
            scores=scoring * sum(map(sum, self.pixels.values())),
            report=slowdown * REPORT,
            disk=2 * written,  # last.pt, previous.pt, best.pt and model.safetensors
        )


def cpu_slowdown() -> float:
    """The factor by which other programs slow down CPU work at the moment, at least 1; GPU and disk do not count."""
    began, busy = time.monotonic(), time.process_time()
    sum(range(3_000_000))
    return max(1.0, (time.monotonic() - began) / (time.process_time() - busy + 1e-3))
