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
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from segkit.data.batch_sampler import TrainBatchSampler
from segkit.data.sample import Batch
from segkit.engine.checkpoint import size_of
from segkit.engine.distributed import PROCESSES
from segkit.engine.evaluate import Evaluator
from segkit.engine.step import TrainingLoop
from segkit.errors import ConfigError, SegkitError
from segkit.settings import TrainSettings

AIM, LATEST, EARLIEST = 0.97, 1.01, 0.93  # shares of the time: where a plan ends, and between what it is kept
SCORING = 0.045  # share of the time for scoring val, and for what else the end of an epoch takes
WINDOW = 0.05  # share of the time over which steps are timed
REPORT = 3.0  # seconds of a processor after the last scores, for a report and until Python has ended; measured: 2 to 4
DRAWN = 3.0  # times what observers take after an epoch they take at the end; 50 pictures and their GIF: 3.2
REHEARSAL = 2.0  # seconds for steps that are timed before the first one, beside two
DISK = 1e8  # bytes a second: writing and reading again a checkpoint, on a slow disk


@dataclass
class Costs:
    """What a run takes.

    Attributes:
        step: seconds of a training step.
        epoch: seconds of the end of an epoch: val's scores, checkpoint, observers.
        scores: seconds of the scores of all splits.
        report: seconds from then on until the command has ended, beside what observers draw.
        disk: bytes of the run's files.
        observers: seconds, part of ``epoch``, of the observers; known after the first epoch.
    """

    step: float = 0.0
    epoch: float = 0.0
    scores: float = 0.0
    report: float = 0.0
    disk: int = 0
    observers: float = 0.0

    @property
    def end(self) -> float:
        """Seconds after the last epoch."""
        return self.scores + self.report + DRAWN * self.observers

    def at(self, step: float) -> Costs:
        """The same where a step takes so many seconds, and scores as many times longer; a report does not."""
        slower = step / self.step
        return replace(self, step=step, epoch=slower * self.epoch, scores=slower * self.scores)


class Pace:
    """The clock of a run, and its plan: the steps of its loop, and the passes over the images that make an epoch.

    Args:
        settings: ``minutes``, ``epochs`` and ``max_steps``; the plan is the latter two until :meth:`begin`.
        loop: whose ``steps`` are planned.
        order: of the images; its ``repeat`` is planned.
        began: when the command began, by ``time.monotonic``.
    """

    def __init__(self, settings: TrainSettings, loop: TrainingLoop, order: TrainBatchSampler, began: float) -> None:
        self.minutes, self.loop, self.order, self._began = settings.minutes, loop, order, began
        self.seconds = 60 * settings.minutes if settings.minutes else math.inf
        self.most = min((settings.epochs or math.inf) * len(order), settings.max_steps or math.inf)
        self.loop.steps = 1 if self.most == math.inf else int(self.most)
        self.costs = Costs()  # as they were measured last
        self._timed: deque[tuple[int, float]] = deque()  # the latest steps, and the seconds of training until each

    @property
    def elapsed(self) -> float:
        """Seconds since the command began, and those before it was stopped."""
        return time.monotonic() - self._began

    @property
    def epochs_left(self) -> int:
        """Epochs that are not ended; the last one may be shorter."""
        return max(0, -(-(self.loop.steps - self.loop.step + self.loop.progress.steps) // len(self.order)))

    @property
    def left(self) -> float:
        """Seconds until the run ends."""
        ahead = self.loop.steps - self.loop.step
        return ahead * self.costs.step + self.epochs_left * self.costs.epoch + self.costs.end

    def trained(self, seconds: float) -> None:
        """Note how many seconds all steps so far took; the latest tell how long one takes, and all else by as much."""
        timed, window = self._timed, min(WINDOW * self.seconds, 30.0)
        timed.append((self.loop.step, seconds))
        while len(timed) > 2 and seconds - timed[1][1] >= window:
            timed.popleft()
        first, since = timed[0]
        if self.loop.step > first and seconds - since >= window:
            self.costs = self.costs.at((seconds - since) / (self.loop.step - first))

    def epoch_ended(self, seconds: float, scoring: float, observers: float) -> None:
        """Note what the end of an epoch took, scoring all splits at its speed, of which half counts, and observers."""
        costs = self.costs
        costs.epoch, costs.scores = (costs.epoch + seconds) / 2, (costs.scores + scoring) / 2
        costs.observers = min(costs.observers or observers, observers)
        self._lengthen()

    def _lengthen(self) -> None:
        """Make the next epochs so long that their ends take little time, but no longer than half a run."""
        if self.minutes:
            longer = min(self.costs.epoch / SCORING, self.seconds / 2) / (self.costs.step * len(self.order))
            self.order.repeat *= max(1, round(longer + 0.2))

    def begin(self, costs: Costs) -> None:
        """Plan the run before its first step, by its costs.

        Raises:
            ConfigError: no step fits.
        """
        self.costs = costs
        self._lengthen()
        self.loop.steps = self.planned()
        if self.loop.steps < 1:
            least = (self.elapsed + costs.step + costs.epoch + costs.end) / AIM
            raise ConfigError(
                f"train.minutes = {self.minutes:g}: reading the data, scores and the report take about "
                f"{least / 60:.1f} minutes, so no step fits; give at least {math.ceil(1.1 * least / 6) / 10:g}, "
                "or a smaller data.resize or model"
            )

    def planned(self) -> int:
        """The steps of the whole run: those planned so far, unless they end too late or too early."""
        end = self.elapsed + self.left
        kept = self.seconds == math.inf or EARLIEST * self.seconds <= end <= LATEST * self.seconds
        return self.loop.steps if kept else self.fitting()

    def fitting(self) -> int:
        """The steps of a run that ends at AIM, each epoch's end counted; a last epoch is begun only if it adds some."""
        costs, length, done = self.costs, len(self.order), self.loop.progress.steps
        room = AIM * self.seconds - self.elapsed - costs.end
        whole = max(1, int((room + done * costs.step) / (length * costs.step + costs.epoch)))
        ahead = [min((room - n * costs.epoch) / costs.step, n * length - done) for n in (whole, whole + 1)]
        return int(min(self.most, self.loop.step + int(max(0.0, *ahead))))

    def state_dict(self) -> dict[str, Any]:
        """All of it, as plain values; it stands in ``run.json`` too."""
        plan = {"minutes": self.minutes, "steps": self.loop.steps, "repeat": self.order.repeat}
        return {"seconds": self.elapsed, **plan, "costs": dict(vars(self.costs))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the plan; the start of a resumed run costs none of its time, so that the plan can stay."""
        self._began = time.monotonic() - state["seconds"]
        self.costs, self.order.repeat = Costs(**state["costs"]), state["repeat"]
        if self.minutes:
            self.loop.steps = state["steps"] if self.minutes == state["minutes"] else self.fitting()


def rehearse(
    loop: TrainingLoop,
    batches: Iterable[Batch],
    order: TrainBatchSampler,
    evaluators: Mapping[str, Evaluator],
    pixels: Mapping[str, Sequence[int]],
) -> Costs:
    """Time steps and scores, with ``train.minutes`` a few steps more; the loop is as before afterwards.

    Args:
        loop: is trained for a few steps.
        batches, order: that it is trained on.
        evaluators: by split.
        pixels: of each image of a split, in its order.
    """
    main = PROCESSES.broadcast_from_main

    def step(number: int) -> float:
        loop.end_epoch()
        order.epoch, order.start = 1, 0
        loop.run_epoch(batches, number, order.images, "timing")
        return main(lambda: loop.progress.seconds / number)

    state, steps, loop.steps = copy.deepcopy(loop.state_dict()), loop.steps, 1 << 30
    try:
        step(1)  # the first one waits for compilers, processes and cold caches
        seconds = step(1)
        if loop.settings.minutes and (more := min(len(order), 8, int(REHEARSAL / seconds))):
            seconds = step(more)
        written = size_of(loop.state_dict()) + 2 * size_of(loop.evaluated.state_dict())
    finally:
        loop.load_state_dict(state, "the state before the first step")
        loop.steps = steps
    val, sizes = evaluators["val"], pixels["val"]  # a batch of it, in this process, as others take time to start
    chosen = range(0, len(sizes), -(-len(sizes) // min(len(sizes), val.batch_size * PROCESSES.size)))
    one = replace(val, metrics=copy.deepcopy(val.metrics), floor=None, workers=0)
    for _ in range(2):  # caches are cold at first
        began = time.monotonic()
        with suppress(SegkitError):  # a network that knows nothing yet; the first epoch tells
            one.evaluate(indices=chosen)
    scoring = (time.monotonic() - began) / sum(sizes[index] for index in chosen)  # seconds a pixel
    began, busy = time.monotonic(), time.process_time()
    sum(range(10_000_000))  # a processor's work alone: scoring waits for disks and a GPU too
    waited = max(1.0, (time.monotonic() - began) / (time.process_time() - busy + 1e-3))  # for other programs
    costs = Costs(
        step=seconds,
        epoch=scoring * sum(sizes) + written / DISK + 0.2,
        scores=scoring * sum(map(sum, pixels.values())),
        report=waited * REPORT,
        disk=2 * written,  # last.pt twice, best.pt, the model
    )
    return main(lambda: costs)
