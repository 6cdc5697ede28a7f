"""How fast a run goes: the time that is left, and how many steps fit into ``train.minutes``.

The plan is made before the first step, from steps and scores that are timed and thrown away, and stands in ``run.json``
and in every checkpoint. It is kept as long as the end that it leads to lies near the time that was given, so that a
resumed run repeats it bit for bit. Where the machine becomes slower, the run is shortened between two steps; the
learning rate, a function of the step and the planned steps, then falls to its end sooner.
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

AIM, LATEST, EARLIEST = 0.975, 1.01, 0.93  # shares of the time: where a plan ends, and between what it is kept
SCORING = 0.045  # share of the time for scoring val, and for what else the end of an epoch takes
WINDOW = 0.03  # share of the time, 30 s at most, over which steps are timed
REPORT = 2.5  # seconds of a processor after the last scores, for a report and until Python has ended; measured: 2.1
DRAWING = 0.2  # seconds of a processor for what observers do after an epoch, as long as nobody knows
DRAWN = 3.0  # times what observers take after an epoch they take at the end; 50 pictures and their GIF: 3.2
REHEARSAL = 2.0  # seconds for steps that are timed before the first one, beside two
DISK = 1e8  # bytes a second: writing and reading again a checkpoint, on a slow disk


@dataclass
class Costs:
    """What a run takes: seconds, and bytes."""

    step: float = 0.0
    epoch: float = 0.0  # its end: val's scores, checkpoint, observers
    scores: float = 0.0  # of all splits
    observers: float = 0.0  # part of epoch; known after the first one
    report: float = REPORT
    disk: int = 0


class Pace:
    """The clock of a run, and its plan: the steps of its loop, and those of an epoch.

    Args:
        trainer: whose run it is; without ``train.minutes``, ``epochs`` and ``max_steps`` are the plan.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.loop, self.batches, self.order = trainer.loop, trainer.batches, trainer.order
        self.evaluators, self.metrics, self.began = trainer.evaluators, trainer.inputs.metrics, STOP.began
        statistics, train = trainer.inputs.scan.statistics, trainer.inputs.train
        self.pixels = {name: [math.prod(each.size) for each in rows] for name, rows in statistics.items()}
        self.minutes, self.seconds = train.minutes, 60 * (train.minutes or math.inf)
        self.a_pass = self.order.steps
        self.most = min((train.epochs or math.inf) * self.a_pass, train.max_steps or math.inf)
        self.loop.steps = 1 if self.most == math.inf else int(self.most)
        self.costs = Costs()  # as they were measured last
        self.since: tuple[int, float] | None = None  # the step, and the seconds elapsed, since when steps are timed

    @property
    def elapsed(self) -> float:
        """Seconds since the command began, and those before it was stopped."""
        return time.monotonic() - self.began

    @property
    def epochs_left(self) -> int:
        """Epochs that are not ended; the last one may be shorter."""
        return max(0, -(-(self.loop.steps - self.loop.step + self.loop.progress.steps) // self.order.steps))

    @property
    def end(self) -> float:
        """Seconds after the last epoch."""
        return self.costs.scores + self.costs.report + DRAWN * self.costs.observers

    @property
    def left(self) -> float:
        """Seconds until the run ends."""
        ahead = self.loop.steps - self.loop.step
        return ahead * self.costs.step + self.epochs_left * self.costs.epoch + self.end

    def begin(self, costs: Costs) -> None:
        """Plan the run before its first step, by its costs.

        Raises:
            ConfigError: no step fits.
        """
        self.costs = costs
        self.loop.steps = self.planned()
        if self.minutes:
            self._resize_epochs()
        if self.loop.steps < 1:
            least = (self.elapsed + costs.step + costs.epoch + self.end) / AIM
            raise ConfigError(
                f"train.minutes = {self.minutes:g}: reading the data, scores and the report take about "
                f"{least / 60:.1f} minutes, so no step fits; give at least {math.ceil(1.1 * least / 6) / 10:g}, "
                "or a smaller data.resize or model"
            )

    def stepped(self) -> None:
        """Note how long a step takes, by those of a WINDOW; where it takes longer, all else will."""
        costs, now = self.costs, self.elapsed
        first, since = self.since = self.since or (self.loop.step, now)
        if now - since >= min(WINDOW * self.seconds, 30.0) and self.loop.step > first:
            slower = (now - since) / (self.loop.step - first) / costs.step
            costs.step, costs.epoch, costs.scores = slower * costs.step, slower * costs.epoch, slower * costs.scores
            self.since = self.loop.step, now

    def epoch_ended(self, began: float, scored: float, saved: float) -> None:
        """Note when the end of an epoch began, and when val was scored and all was saved; the first counts whole."""
        costs, now, share = self.costs, time.monotonic(), sum(map(sum, self.pixels.values())) / sum(self.pixels["val"])
        before = 0.5 if costs.observers else 0.0
        costs.epoch = before * costs.epoch + (1 - before) * (now - began + saved - scored)  # it is saved once more
        if not (self.metrics and before):  # they are shown the floor, too, in the first epoch and at the end
            costs.scores = before * costs.scores + (1 - before) * share * (scored - began)
        costs.observers = min(costs.observers or now - saved, now - saved)
        self.since = self.since and (self.since[0], self.since[1] + now - began)
        if self.minutes:
            costs.report = (costs.report + waited() * REPORT) / 2
            self._resize_epochs()

    def _resize_epochs(self) -> None:
        """Make epochs equal, and so long that their ends take little time; but the first one shows what they take."""
        costs, left = self.costs, self.left - self.end
        wanted = costs.epoch + min(max(self.a_pass * costs.step, costs.epoch / SCORING), self.seconds / 3)
        steps = (left / max(1, round(left / wanted)) - costs.epoch) / costs.step
        longer = not self.loop.step or steps > 1.1 * self.order.steps  # a plan that holds stays
        if longer and self.loop.step < self.loop.steps:
            self.order.steps = max(1, int(steps))
            self.loop.steps = self.fitting()

    def planned(self) -> int:
        """The steps of the whole run: those planned so far, unless they end too late or too early."""
        end = self.elapsed + self.left
        kept = self.seconds == math.inf or EARLIEST * self.seconds <= end <= LATEST * self.seconds
        return self.loop.steps if kept else self.fitting()

    def fitting(self) -> int:
        """The steps of a run that ends at AIM, each epoch's end counted; a last epoch is begun only if it adds some."""
        costs, length, done = self.costs, self.order.steps, self.loop.progress.steps
        room = AIM * self.seconds - self.elapsed - self.end
        whole = max(1, int((room + done * costs.step) / (length * costs.step + costs.epoch)))
        ahead = [min((room - n * costs.epoch) / costs.step, n * length - done) for n in (whole, whole + 1)]
        return int(min(self.most, self.loop.step + int(max(0.0, *ahead) + 1e-6)))

    @property
    def plan(self) -> dict[str, Any]:
        """All but the time that has gone by, as plain values."""
        steps = {"steps": self.loop.steps, "epoch": self.order.steps, "since": self.since}
        return {"minutes": self.minutes, **steps, "costs": dict(vars(self.costs))}

    def state_dict(self) -> dict[str, Any]:
        """All of it, as plain values; it stands in ``run.json`` too."""
        return {"seconds": self.elapsed, **self.plan}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the plan; the start of a resumed run costs none of its time, so that the plan can stay."""
        self.began, self.since = time.monotonic() - state["seconds"], state["since"]
        self.costs, self.order.steps = Costs(**state["costs"]), state["epoch"]
        if self.minutes:
            self.loop.steps = state["steps"] if self.minutes == state["minutes"] else self.fitting()

    def rehearse(self) -> Costs:
        """Time a few steps, and val's scores; the loop is as before afterwards."""
        loop, order = self.loop, self.order
        planned, state = (loop.steps, order.steps), copy.deepcopy(loop.state_dict())

        def between() -> str:
            if PROCESSES.broadcast_from_main(lambda: time.monotonic() - began > REHEARSAL):
                loop.steps = loop.step
            return ""

        try:
            for order.steps in (1, 8):  # the first one waits for compilers, processes and cold caches
                loop.end_epoch()
                began, loop.steps, order.epoch, order.start = time.monotonic(), 1 << 30, 1, 0
                loop.run_epoch(self.batches, order.steps, order.images, "timing", between)
            seconds = loop.progress.seconds / loop.progress.steps
            written = size_of(loop.state_dict()) + 2 * size_of(loop.evaluated.state_dict())
        finally:
            loop.load_state_dict(state, "the state before the first step")
            loop.steps, order.steps = planned
        val, sizes = self.evaluators["val"], self.pixels["val"]  # a batch, in this process: others take time to start
        chosen = range(0, len(sizes), -(-len(sizes) // min(len(sizes), val.batch_size * PROCESSES.size)))
        for _ in range(2):  # caches are cold at first
            one = replace(val, metrics=copy.deepcopy(val.metrics), floor=dict(val.floor or {}), workers=0)
            began = time.monotonic()
            with suppress(SegkitError):  # a network that knows nothing yet; the first epoch tells
                one.evaluate(indices=chosen)
        scoring = (time.monotonic() - began) / sum(sizes[index] for index in chosen)  # seconds a pixel
        waiting = waited()
        return Costs(
            step=seconds,
            epoch=scoring * sum(sizes) + written / DISK + waiting * DRAWING,
            scores=scoring * sum(map(sum, self.pixels.values())),
            report=waiting * REPORT,
            disk=2 * written,  # last.pt twice, best.pt, the model
        )


def waited() -> float:
    """How many times as long the work of a processor takes now, as others use it too; a GPU and disks are no part."""
    began, busy = time.monotonic(), time.process_time()
    sum(range(3_000_000))
    return max(1.0, (time.monotonic() - began) / (time.process_time() - busy + 1e-3))
