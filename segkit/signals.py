"""SIGTERM and Ctrl-C while a run goes on: it ends where nothing is lost, with the status a shell expects."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

ECHO = 1.0  # seconds in which a second Ctrl-C is the first one, passed on: torchrun sends its own after the terminal's
CAUGHT = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

command_began: float | None = None  # by time.monotonic, where this process is a command; its first run takes it


class Interrupted(KeyboardInterrupt):
    """A run was asked to end.

    Attributes:
        number: of the signal.
        status: 128 + number: 130 for Ctrl-C, 143 for SIGTERM.
        kept: what was saved, and how to go on.
    """

    def __init__(self, number: int, kept: str = "nothing to keep") -> None:
        super().__init__()
        self.number, self.status, self.kept = number, 128 + number, kept

    def __str__(self) -> str:
        word = "interrupted" if self.number == signal.SIGINT else f"stopped by {signal.Signals(self.number).name}"
        return f"{word}; {self.kept}"


class StopSignals(threading.local):
    """Turns the first SIGTERM, SIGHUP or Ctrl-C into :class:`Interrupted`, at once or where :meth:`held` ends.

    There is one for the process, :data:`STOP`: signals are caught within ``with STOP:``, which may stand in another,
    in the main thread; each thread has attributes of its own, and in others none is ever received. A second Ctrl-C
    leaves at once; a second SIGTERM changes nothing, as schedulers repeat it.

    Attributes:
        received: the signal that came; 0 before any.
        began: when the command began, or signals were caught, by ``time.monotonic``.
        kept: what the exception is to say of what was kept.
    """

    def __init__(self) -> None:
        self.began, self._at, self.kept = 0.0, 0.0, "nothing to keep"
        self.received = self._entered = self._held = self._process = 0
        self._raised = False
        self._before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> StopSignals:
        global command_began
        self._entered += 1
        if self._entered > 1:
            return self
        self.began, self._process = command_began or time.monotonic(), os.getpid()
        command_began = None  # another run in this process begins later
        if threading.current_thread() is threading.main_thread():
            for number in CAUGHT:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it, and a shell in the background
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered -= 1
        if not self._entered:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            self._before.clear()
            self.received, self._raised, self.kept = 0, False, "nothing to keep"

    def leave(self) -> None:
        """The process is about to end: no signal changes anything any more, after this block neither."""
        for number in self._before.keys() & set(CAUGHT):
            self._before[number] = signal.SIG_IGN
            signal.signal(number, signal.SIG_IGN)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A signal that comes in this block waits until its end.

        Raises:
            Interrupted: at the end, if one came; not again after it was raised once.
        """
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if self._before and hasattr(signal, "SIGCHLD") and callable(signal.getsignal(signal.SIGCHLD)):
                # torch would raise in the midst of a step when a loader's process was killed; it looks at its loaders
                # while it waits for a batch, too
                self._before.setdefault(signal.SIGCHLD, signal.signal(signal.SIGCHLD, signal.SIG_DFL))
        self._raise()

    def end(self, number: int) -> None:
        """End as if the signal had come to this process.

        Raises:
            Interrupted: always.
        """
        self.received, self._raised = self.received or number, True
        raise Interrupted(self.received, self.kept)

    def check(self) -> None:
        """Between two parts of the work: raise again what a component's ``except:`` or a callback has swallowed.

        Raises:
            Interrupted: a signal came.
        """
        if self.received:
            self.end(self.received)

    def _raise(self) -> None:
        if self.received and not self._raised and not self._held:
            self.end(self.received)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a loader's process, in its first moments
            os._exit(128 + number)
        now = time.monotonic()
        echo = ECHO if "TORCHELASTIC_RUN_ID" in os.environ else 0.0
        if self.received and number == signal.SIGINT and now - self._at > echo:
            os.write(2, b"\nsegkit: left at once\n")
            os._exit(128 + number)
        if not self.received:
            self.received, self._at = number, now
        self._raise()


STOP = StopSignals()
