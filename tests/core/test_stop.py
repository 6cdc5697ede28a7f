"""The one catcher of signals of a process: it may stand in itself, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from segkit.signals import STOP, Interrupted


def test_it_may_stand_in_itself_and_leaves_the_handlers_that_were_there() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGCHLD)]
    with STOP:
        with STOP, STOP.held():
            signal.signal(signal.SIGCHLD, lambda *_: pytest.fail("torch looks at its loaders"))
        assert signal.getsignal(signal.SIGTERM) == STOP._receive
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
    signal.signal(signal.SIGCHLD, before[1])  # what was set within is restored as it was set
    assert signal.getsignal(signal.SIGTERM) == before[0]


def test_a_signal_waits_for_the_end_of_what_is_held_and_the_next_run_begins_anew() -> None:
    held = []

    def stopped() -> None:
        with STOP, STOP.held():
            with STOP.held():
                os.kill(os.getpid(), signal.SIGTERM)
            held.append(STOP.received)

    for _ in range(2):
        with pytest.raises(Interrupted) as caught:
            stopped()
        assert caught.value.status == 143
    assert held == [signal.SIGTERM] * 2
    STOP.check()  # nothing is left of it


def test_a_thread_catches_nothing_and_takes_nothing_from_the_main_thread() -> None:
    entered, left, wrong = threading.Event(), threading.Event(), []

    def work() -> None:
        try:
            with STOP, STOP.held():
                entered.set()
                left.wait(5)
        except BaseException as error:
            wrong.append(error)

    before = signal.signal(signal.SIGCHLD, lambda *_: None)  # as torch has it
    thread = threading.Thread(target=work)
    thread.start()
    entered.wait(5)
    try:
        with STOP:  # entered after the thread
            assert signal.getsignal(signal.SIGTERM) == STOP._receive
            with pytest.raises(Interrupted):
                os.kill(os.getpid(), signal.SIGTERM)
        with STOP:
            left.set()
            thread.join()
    finally:
        left.set()
        signal.signal(signal.SIGCHLD, before)
    assert wrong == []
