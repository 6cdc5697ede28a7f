"""SIGTERM and Ctrl-C during a run: it ends at a point where nothing is lost, with the status a shell expects."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

ECHO = 1.0  # seconds within which a second Ctrl-C is taken as a copy of the first: torchrun forwards the terminal's
CAUGHT = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to end.

    Attributes:
        number: the signal's number.
        status: 128 + number: 130 for Ctrl-C, 143 for SIGTERM.
        kept: what was saved, and how to continue.
    """

    def __init__(self, number: int, kept: str = "nothing to keep") -> None:
        super().__init__()
        self.number, self.status, self.kept = number, 128 + number, kept

    def __str__(self) -> str:
        word = "interrupted" if self.number == signal.SIGINT else f"stopped by {signal.Signals(self.number).name}"
        return f"{word}; {self.kept}"


class StopSignals(threading.local):
    """Turns the first SIGTERM, SIGHUP or Ctrl-C into :class:`Interrupted`, at once or at the end of :meth:`held`.

    Each process has one instance, :data:`STOP`. Signals are caught within ``with STOP:`` in the main thread; these
    blocks may be nested. The attributes are thread-local, so other threads never receive a signal. A second Ctrl-C
    exits at once; a second SIGTERM is ignored because schedulers repeat it.

    Attributes:
        received: the number of the signal received; 0 before any.
        began: ``time.monotonic()`` when signals were first caught.
        kept: what was saved, for the message of the exception.
    """

    def __init__(self) -> None:
        self.began, self._at, self.kept = 0.0, 0.0, "nothing to keep"
        self.received = self._entered = self._held = self._process = 0
        self._raised = False
        self._before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> StopSignals:
        self._entered += 1
        if self._entered > 1:
            return self
        self.began, self._process = time.monotonic(), os.getpid()
        if threading.current_thread() is threading.main_thread():
            for number in CAUGHT:
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and background shells have it ignored
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
        """Ignore all signals from now on, also after this block, because the process is about to end."""
        for number in self._before.keys() & set(CAUGHT):
            self._before[number] = signal.SIG_IGN
            signal.signal(number, signal.SIG_IGN)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Defer signals until the end of this block.

        Raises:
            Interrupted: at the end, if a signal came and has not been raised yet.
        """
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if self._before and hasattr(signal, "SIGCHLD") and callable(signal.getsignal(signal.SIGCHLD)):
                # torch's handler would raise in the middle of a step when a loader process is killed; torch also
                # checks its loader processes while it waits for a batch
                self._before.setdefault(signal.SIGCHLD, signal.signal(signal.SIGCHLD, signal.SIG_DFL))
        self._raise()

    def end(self, number: int) -> None:
        """End as if this process had received the signal.

        Raises:
            Interrupted: always.
        """
        self.received, self._raised = self.received or number, True
        raise Interrupted(self.received, self.kept)

    def check(self) -> None:
        """Raise again, between two parts of the work, what a component's ``except:`` or a callback has swallowed.

        Raises:
            Interrupted: a signal was received.
        """
        if self.received:
            self.end(self.received)

    def _raise(self) -> None:
        if self.received and not self._raised and not self._held:
            self.end(self.received)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked loader process that has not set its own handlers yet
            os._exit(128 + number)
        now = time.monotonic()
        echo = ECHO if "TORCHELASTIC_RUN_ID" in os.environ else 0.0
        if self.received and number == signal.SIGINT and now - self._at > echo:
            os.write(2, b"\nsegkit: stopped at once\n")
            os._exit(128 + number)
        if not self.received:
            self.received, self._at = number, now
        self._raise()


STOP = StopSignals()
