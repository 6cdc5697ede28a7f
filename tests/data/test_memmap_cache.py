"""The file of decoded samples: the same pixels as the images', made anew when they change, shared by all processes."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segkit.data import loader as loader_module
from segkit.data import stores
from segkit.data.loader import SampleSource
from segkit.data.sample import Dataset
from segkit.data.stores import MemmapCache
from segkit.data.subset import Subset
from segkit.errors import ConfigError, DataError, WriteError
from segkit_folder.files import PairedFiles

SIZES = [(20, 30), (30, 20), (25, 25), (20, 30)]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PairedFiles:
    """Four pairs in three sizes; the cache is the test's own."""
    monkeypatch.setenv("SEGKIT_CACHE", str(tmp_path / "cache"))
    pairs = []
    for index, (height, width) in enumerate(SIZES):
        random = np.random.default_rng(index)
        image, mask = tmp_path / f"{index}.png", tmp_path / f"{index}_mask.png"
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(image)
        Image.fromarray(random.integers(0, 3, (height, width), dtype=np.uint8)).save(mask)
        pairs.append((image, mask))
    return PairedFiles(pairs, classes=["a", "b", "c"], palette=[(0, 0, 0), (9, 9, 9), (90, 90, 90)])


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The indices that were read from their images since the test began."""
    seen: list[int] = []
    real = loader_module.read_sample

    def counted(dataset: object, index: int) -> object:
        seen.append(index)
        return real(dataset, index)

    monkeypatch.setattr(loader_module, "read_sample", counted)
    return seen


def sizes_of(source: SampleSource) -> list[tuple[int, int]]:
    return [SIZES[index] for index in getattr(source.dataset, "indices", range(len(source)))]


def cached(source: SampleSource) -> MemmapCache:
    names = [str(index) for index in getattr(source.dataset, "indices", range(len(source)))]
    return MemmapCache(source, sizes_of(source), names)


def equal(one: SampleSource, other: SampleSource) -> bool:
    pairs = [(one[index], other[index]) for index in range(len(other))]
    return len(one) == len(other) and all(
        a.name == b.name and torch.equal(a.image, b.image) and torch.equal(a.mask, b.mask) for a, b in pairs
    )


@pytest.mark.fault("F50")
def test_images_of_more_than_8_bits_come_back_as_they_are_stored(files: PairedFiles) -> None:
    for index, (image, _) in enumerate(files.pairs):
        random = np.random.default_rng(index)
        Image.fromarray(random.integers(0, 18000, SIZES[index]).astype(np.uint16)).save(image)
    for resize in (None, 0.5):
        samples = SampleSource(files, resize, value_bytes=4)
        held = cached(samples)
        assert equal(held, SampleSource(files, resize))
        assert held[1].image.dtype == torch.float32
        assert held.path.stat().st_size == sum(samples.decoded_bytes(SIZES))


@pytest.mark.parametrize("resize", [None, 0.5, [16, 24]])
def test_it_holds_what_the_images_hold(files: PairedFiles, resize: object) -> None:
    samples = SampleSource(files, resize)
    held = cached(samples)
    assert equal(held, samples)
    assert held.path.stat().st_size == sum(samples.decoded_bytes(SIZES))


def test_the_images_are_decoded_once(files: PairedFiles, decoded: list[int]) -> None:
    held = cached(SampleSource(files))
    assert sorted(decoded) == [0, 1, 2, 3]
    again = cached(SampleSource(files))
    again[2]
    assert len(decoded) == 4
    assert again.path == held.path


def test_a_changed_file_is_decoded_again_and_the_old_copy_goes_when_nobody_uses_it(
    files: PairedFiles, decoded: list[int]
) -> None:
    first = cached(SampleSource(files))
    before = first[2].image
    Image.fromarray(np.full((*SIZES[2], 3), 7, np.uint8)).save(files.pairs[2][0])
    second = cached(SampleSource(files))
    assert len(decoded) == 8
    assert (second[2].image == 7).all()
    pickled = pickle.dumps(first)
    assert torch.equal(pickle.loads(pickled)[2].image, before)  # a run that began before goes on with what it had
    del first
    Image.fromarray(np.full((*SIZES[2], 3), 9, np.uint8)).save(files.pairs[2][0])
    third = cached(SampleSource(files))
    assert (third[2].image == 9).all()
    with pytest.raises(DataError, match=r"decoded-.*\.bin is gone or damaged; start again"):
        pickle.loads(pickled)


def test_a_sample_of_another_size_than_was_scanned_is_refused(files: PairedFiles) -> None:
    with pytest.raises(DataError, match=r"0 is \[20, 30\], and was \[20, 31\] when scanned"):
        MemmapCache(SampleSource(files), [(20, 31), *SIZES[1:]], ["0", "1", "2", "3"])


def test_another_time_of_a_file_or_another_version_makes_it_anew(
    files: PairedFiles, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(SampleSource(files))
    os.utime(files.pairs[0][1], (1, 1))
    cached(SampleSource(files))
    assert len(decoded) == 8
    monkeypatch.setattr(stores, "FORMAT", stores.FORMAT + 1)
    cached(SampleSource(files))
    assert len(decoded) == 12


def test_other_samples_sizes_or_labels_are_in_other_files(files: PairedFiles) -> None:
    fewer = Subset(files, [1, 3])
    relabelled = PairedFiles(files.pairs, classes=files.classes, palette=files.palette, values={0: 0, 1: 2, 2: 1})
    every = [SampleSource(files), SampleSource(files, 0.5), SampleSource(fewer), SampleSource(relabelled)]
    held = [cached(each) for each in every]  # all are in use
    assert len({each.path for each in held}) == 4
    assert all(equal(one, other) for one, other in zip(held, every, strict=True))


@pytest.mark.parametrize("damage", ["cut", "grown", "empty"])
def test_a_damaged_file_is_made_anew(files: PairedFiles, decoded: list[int], damage: str) -> None:
    path = cached(SampleSource(files)).path
    whole = path.read_bytes()
    damaged = {"cut": whole[1000:], "grown": b"x" + whole, "empty": b""}[damage]
    path.write_bytes(damaged)
    assert equal(cached(SampleSource(files)), SampleSource(files))
    assert len(decoded) >= 8


def test_a_sample_that_cannot_be_read_leaves_no_file(files: PairedFiles, tmp_path: Path) -> None:
    files.pairs[3][0].write_bytes(b"no image")
    with pytest.raises(DataError, match=r"3\.png"):
        cached(SampleSource(files))
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] in ([], [".lock"])


def test_a_full_disk_is_told_before_anything_is_decoded(
    files: PairedFiles, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores.shutil, "disk_usage", lambda path: _Usage)
    with pytest.raises(WriteError, match=r'GB are needed and 0\.0 GB are free; data\.cache = "none"'):
        cached(SampleSource(files))
    assert decoded == []


class _Usage:
    free = 10


def test_a_process_of_a_loader_opens_the_file_itself(files: PairedFiles) -> None:
    held = cached(SampleSource(files))
    content = pickle.dumps(held)
    assert held[0].mask.numpy().tobytes() not in content
    there: MemmapCache = pickle.loads(content)
    assert equal(there, held)
    first = there[0]
    first.image.zero_()  # in memory of its own: the file is not written to
    assert equal(there, held)


def test_it_must_be_known_when_files_change(files: PairedFiles) -> None:
    class Generated(Dataset):
        classes, palette, ignore_index = files.classes, files.palette, 255

        def __len__(self) -> int:
            return 3

    MemmapCache(SampleSource(Subset(files, [0])), SIZES[:1], ["0"])
    with pytest.raises(ConfigError, match=r'data\.cache = "ram": Generated does not say which files'):
        MemmapCache(SampleSource(Generated()), SIZES[:3], ["0", "1", "2"])


def test_one_copy_of_the_files_is_kept_and_what_is_in_use(files: PairedFiles, tmp_path: Path) -> None:
    def copies() -> list[str]:
        return sorted(path.name for path in (tmp_path / "cache").glob("decoded-*.bin"))

    elsewhere = tmp_path / "cache" / "decoded-0123-4567.bin"  # of other folders
    for seed in range(4):  # as many splits of the same images
        parts = [
            SampleSource(Subset(files, [seed])),
            SampleSource(Subset(files, [each for each in range(4) if each != seed])),
        ]
        held = [cached(each) for each in parts]
        elsewhere.touch()
        assert copies() == sorted([elsewhere.name, *(each.path.name for each in held)])
        assert all(equal(one, other) for one, other in zip(held, parts, strict=True))
        child: MemmapCache = pickle.loads(pickle.dumps(held[0]))  # a loader's, which begins later
        assert equal(child, parts[0])
        del held, child
    cached(SampleSource(files))
    assert len(copies()) == 2
    os.utime(elsewhere, (1, 1))  # not used for long
    cached(SampleSource(files, 0.5))
    assert len(copies()) == 1
    assert len([*(tmp_path / "cache").glob("*.lock")]) == 1
