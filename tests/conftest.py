"""Shared by all tests: where real data lies, if it does, and a quiet, reproducible torch."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: processes of many threads would fight for the cores


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache for the tests alone, those that start processes too."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGKIT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data: ``SEGKIT_TEST_DATA``, or ``../shared/data`` beside the checkout."""
    folder = Path(os.environ.get("SEGKIT_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "camvid").is_dir():
        pytest.skip(f"no real data in {folder} (set SEGKIT_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def heeds_signals() -> Callable[[], None]:
    """For ``preexec_fn``: a shell's background ignores Ctrl-C, nohup SIGHUP, and so would all that is started there."""

    def default() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    return default


@pytest.fixture
def no_waiting() -> Callable[[], AbstractContextManager[None]]:
    """A block in which it is an error if the host waits for the card."""
    import torch

    def mode(name: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of being a prototype
            torch.cuda.set_sync_debug_mode(name)

    @contextmanager
    def block() -> Iterator[None]:
        torch.cuda.synchronize()
        mode("error")
        try:
            yield
        finally:
            mode("default")

    return block
