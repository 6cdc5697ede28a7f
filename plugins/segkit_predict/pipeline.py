"""Images are read ahead and results written behind while the model works, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from segkit.errors import DataError

THREADS = 2  # each way: decoding and packing take a core or less beside a model on the CPU, and keep a GPU busy
READ_AHEAD = 4  # images
MOST_HELD = 64_000_000  # pixels of all images between reading and written: five photographs, or one of any size

Job = TypeVar("Job")
Read = TypeVar("Read")
Done = TypeVar("Done")


def pipeline(
    jobs: Iterable[Job],
    read: Callable[[Job], Read],
    work: Callable[[Job, Read], Done],
    write: Callable[[Job, Done], None],
    size: Callable[[Job], int],
) -> Generator[tuple[Job, DataError | None], None, None]:
    """Read and write in the background, work in this thread; what could not be done of each job, in order.

    Args:
        jobs: one an image.
        read, work, write: the three stages; a DataError of the first two is of the image alone.
        size: pixels of a job's image, 0 where that cannot be told.

    Raises:
        SegkitError: of ``work`` or ``write``, but for a DataError. What was being written is written.
    """
    readers, writers = ThreadPoolExecutor(THREADS, "read"), ThreadPoolExecutor(THREADS, "write")
    waiting = ((job, size(job)) for job in jobs)
    following = next(waiting, None)
    reading: deque[tuple[Job, int, Future[Read]]] = deque()
    writing: deque[tuple[int, Future[None]]] = deque()

    def held() -> int:
        return sum(pixels for _, pixels, _ in reading) + sum(pixels for pixels, _ in writing)

    try:
        while following or reading or writing:
            while following and len(reading) < READ_AHEAD and (not held() or held() + following[1] <= MOST_HELD):
                reading.append((*following, readers.submit(read, following[0])))
                following = next(waiting, None)
            if not reading or (writing and writing[0][1].done()):
                writing.popleft()[1].result()
                continue
            job, pixels, future = reading.popleft()
            problem = None
            try:
                done = work(job, future.result())
                writing.append((pixels, writers.submit(write, job, done)))
                del done
            except DataError as error:
                problem = error
            del future  # it holds the image
            yield job, problem
    finally:  # after Ctrl-C too: what has not begun does not, and what has is waited for
        readers.shutdown(wait=False, cancel_futures=True)
        writers.shutdown(cancel_futures=True)
