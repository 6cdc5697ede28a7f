"""The samples of a split as a network sees them, read from their files each time they are asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from segkit.data.cache import files_at, has_files
from segkit.data.cores import own_cores
from segkit.data.read import quiet_pillow
from segkit.data.resize import Resize, mask_at, resized
from segkit.data.sample import Dataset, Sample, checked
from segkit.errors import DataError, reason


class Samples:
    """A split, its images resized.

    Args:
        dataset: the split.
        resize: as ``data.resize``.
        value_bytes: of a value of its images: 1, or 4 of float32.
    """

    def __init__(self, dataset: Dataset, resize: Resize = None, value_bytes: int = 1) -> None:
        self.dataset, self.resize, self.value_bytes = dataset, resize, value_bytes

    def __len__(self) -> int:
        return len(self.dataset)

    def to_score(self, index: int) -> Sample:
        """A sample with its mask at its own size."""
        return resized(read(self.dataset, index), self.resize)

    def to_train(self, index: int) -> Sample:
        """A sample with its mask at the size of its image."""
        sample = self.to_score(index)
        return sample._replace(mask=mask_at(sample.mask, *sample.image.shape[1:]))

    def each(self, description: str, progress: bool) -> Iterator[Sample]:
        """All of them once, in their order, as :meth:`to_score` has them, decoded in several threads.

        Args:
            description: of the progress bar.
            progress: whether to show it.
        """
        # decoding releases the interpreter; a dataset that does not say how it reads may hold one file that it reads in
        threads = own_cores() if has_files(self.dataset) else 1
        pool = ThreadPoolExecutor(threads)
        try:
            with quiet_pillow():
                waiting = deque(pool.submit(self.to_score, index) for index in range(min(2 * threads, len(self))))
                for index in tqdm(range(len(self)), description, leave=False, disable=None if progress else True):
                    yield waiting.popleft().result()
                    if index + 2 * threads < len(self):  # not all at once: what is decoded lies in memory
                        waiting.append(pool.submit(self.to_score, index + 2 * threads))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C need not wait for the rest


def read(dataset: Dataset, index: int) -> Sample:
    """A sample of a dataset; to whatever the dataset raises a note is added which one it was.

    Raises:
        DataError: it breaks the contract of samples, or its files cannot be read.
    """
    try:
        return checked(dataset[index])
    except Exception as error:
        if isinstance(error, DataError) and type(error.retold("")) is not type(error):
            raise error.retold(str(error)) from error  # a loader's process could not hand it over
        files = files_at(dataset, index)
        names = f" ({', '.join(map(str, files))})" if files else ""
        which = f"sample {index} of {type(dataset).__name__}{names}"
        if isinstance(error, OSError):  # a disk of the network that has gone
            file = f", {error.filename}" if error.filename and not files else ""
            raise DataError(f"{which}{file} cannot be read: {reason(error)}") from error
        error.add_note(f"this was {which}")
        raise
