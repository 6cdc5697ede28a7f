"""Images are read ahead and results written behind, while the model works; no more is held than fits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from segkit.errors import DataError

THREADS = 2  # each way: decoding and packing take a core or less beside a model on the CPU, and keep a GPU busy
MOST_HELD = 64_000_000  # pixels of all images between reading and written: five photographs, or one of any size

Job = TypeVar("Job")
Loaded = TypeVar("Loaded")
Made = TypeVar("Made")


class Flow(Generic[Job, Loaded, Made]):
    """Reads, works and writes at the same time.

    Args:
        read: in the background.
        work: in this thread.
        write: in the background.
        size: pixels of a job's image, 0 where that cannot be told.
    """

    def __init__(
        self,
        read: Callable[[Job], Loaded],
        work: Callable[[Job, Loaded], Made],
        write: Callable[[Job, Loaded, Made], None],
        size: Callable[[Job], int],
    ) -> None:
        self.read, self.work, self.write, self.size = read, work, write, size
        self._held = 0  # pixels
        self._reading: deque[tuple[Job, int, Future[Loaded]]] = deque()
        self._writing: deque[tuple[int, Future[None]]] = deque()

    def run(self, jobs: Iterable[Job]) -> Generator[tuple[Job, Made | DataError], None, None]:
        """What was made of each job, or why it could not be, in order; all is written when this has ended.

        Raises:
            SegkitError: of ``work`` or ``write``, but for the DataError of an image. What was being written is.
        """
        readers, writers = ThreadPoolExecutor(THREADS, "read"), ThreadPoolExecutor(THREADS, "write")
        waiting = deque(jobs)
        try:
            while waiting or self._reading:
                self._read_ahead(waiting, readers)
                job, pixels, future = self._reading.popleft()
                outcome: Made | DataError
                try:
                    loaded = future.result()
                    outcome = made = self.work(job, loaded)
                    self._writing.append((pixels, writers.submit(self.write, job, loaded, made)))
                    del loaded, made
                except DataError as error:
                    self._held -= pixels
                    outcome = error
                del future  # it holds the image
                yield job, outcome
            while self._writing:
                self._await_a_write()
        finally:  # after Ctrl-C too: what has not begun does not, and what has is waited for
            for pool in (readers, writers):
                pool.shutdown(wait=False, cancel_futures=True)
            writers.shutdown()

    def _read_ahead(self, waiting: deque[Job], readers: ThreadPoolExecutor) -> None:
        """Begin to read what fits; the next image in any case, once there is room for it."""
        while self._writing and self._writing[0][1].done():
            self._await_a_write()
        while waiting and len(self._reading) <= 2 * THREADS:
            pixels = self.size(waiting[0])
            while not self._reading and self._writing and self._held + pixels > MOST_HELD:
                self._await_a_write()
            if self._held and self._held + pixels > MOST_HELD:
                return
            job = waiting.popleft()
            self._held += pixels
            self._reading.append((job, pixels, readers.submit(self.read, job)))

    def _await_a_write(self) -> None:
        pixels, future = self._writing.popleft()
        future.result()
        self._held -= pixels
