"""What a scan keeps on disk: killed while it is written, damaged, of other data; never taken for what it is not."""

from __future__ import annotations

import gzip
import os
import pickle
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.data.cache import cache_file, load_values, save_values
from segkit.data.scan import scan_splits
from segkit.data.statistics import SampleStatistics
from segkit_folder.dataset import FolderDataset
from segkit_folder.files import PairedFiles

Scanned = Callable[[], list[list[int]]]
SCRIPT = """
import sys
from segkit.data.scan import scan_splits
from segkit_folder.dataset import FolderDataset
print("begun", flush=True)
scan_splits({"train": FolderDataset(sys.argv[1], "train", ["a", "b"])}, progress=False)
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Forty pictures; that of number n has n pixels of class 1."""
    noise = np.random.default_rng(0)
    for folder in ("images/train", "masks/train"):
        (tmp_path / folder).mkdir(parents=True)
    for number in range(40):
        Image.fromarray(noise.integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / f"images/train/{number}.png")
        write_mask(tmp_path, number, number)
    return tmp_path


def write_mask(root: Path, number: int, pixels: int) -> None:
    labels = np.zeros(256, np.uint8)
    labels[:pixels] = 1
    Image.fromarray(labels.reshape(16, 16)).save(root / f"masks/train/{number}.png")


@pytest.fixture
def scanned(root: Path, cache: Path) -> Scanned:
    def scan() -> list[list[int]]:
        return scan_splits({"train": FolderDataset(root, "train", ["a", "b"])}, progress=False).pixels("train").tolist()

    return scan


EXPECTED = [[256 - number, number, 0] for number in range(40)]


@pytest.mark.fault("F42")
@pytest.mark.parametrize("kills", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_a_process_that_is_killed_while_it_scans_or_writes_leaves_nothing_wrong(
    root: Path, cache: Path, scanned: Scanned, kills: int
) -> None:
    chance = random.Random(0)
    for _ in range(kills):
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(root)], stdout=subprocess.PIPE)
        with process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0, 0.15))
            process.kill()
        assert scanned() == EXPECTED
        for file in cache.glob("scan-*"):
            file.unlink()


@pytest.mark.fault("F42")
def test_a_write_that_stops_half_way_keeps_the_file_before(
    scanned: Scanned, cache: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scanned() == EXPECTED
    (before,) = cache.iterdir()
    content = before.read_bytes()

    def power_cut(path: Path, _: Path) -> None:
        path.write_bytes(content[:500])
        raise KeyboardInterrupt

    write_mask(root, 5, 200)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", power_cut)
        with pytest.raises(KeyboardInterrupt):
            scanned()
    assert [file.read_bytes() for file in cache.glob("*.gz")] == [content]
    assert scanned() == [*EXPECTED[:5], [56, 200, 0], *EXPECTED[6:]]


@pytest.mark.fault("F42")
@pytest.mark.parametrize("times", [20, pytest.param(150, marks=pytest.mark.slow)])
def test_a_byte_that_was_changed_anywhere_is_never_believed(scanned: Scanned, cache: Path, times: int) -> None:
    assert scanned() == EXPECTED
    (file,) = cache.iterdir()
    content = file.read_bytes()
    chance = random.Random(0)
    for _ in range(times):
        damaged = bytearray(content)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        file.write_bytes(damaged)
        assert scanned() == EXPECTED
    for size in (0, 1, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:size])
        assert scanned() == EXPECTED


@pytest.mark.fault("F42")
def test_a_file_that_changed_without_another_size_or_time_is_read_again(scanned: Scanned, root: Path) -> None:
    # cp -p, rsync and archives bring old times along
    assert scanned() == EXPECTED
    mask = root / "masks/train/7.png"
    state = mask.stat()
    Image.fromarray(np.eye(16, dtype=np.uint8)).save(mask)
    if mask.stat().st_size < state.st_size:
        with mask.open("ab") as padded:
            padded.write(bytes(state.st_size - mask.stat().st_size))
    os.utime(mask, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert scanned()[7] == [240, 16, 0]


@pytest.mark.fault("F42")
def test_two_files_that_change_places_are_not_mixed_up(scanned: Scanned, root: Path) -> None:
    assert scanned() == EXPECTED
    one, other, spare = (root / f"masks/train/{name}.png" for name in ("3", "30", "spare"))
    for source, target in ((one, spare), (other, one), (spare, other)):
        source.rename(target)
    found = scanned()
    assert (found[3], found[30]) == (EXPECTED[30], EXPECTED[3])


@pytest.mark.fault("F42", "F06")
def test_a_cache_that_holds_a_pickle_is_not_unpickled(cache: Path, tmp_path: Path, scanned: Scanned) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return open, (str(tmp_path / "ran"), "w")

    assert scanned() == EXPECTED
    (file,) = cache.iterdir()
    for content in (pickle.dumps(Trap()), gzip.compress(pickle.dumps(Trap()))):
        file.write_bytes(content)
        assert scanned() == EXPECTED
    assert not (tmp_path / "ran").exists()


def test_grey_images_are_read_again_where_those_of_colours_beside_them_have_gone(tmp_path: Path, cache: Path) -> None:
    draw, pairs = np.random.default_rng(0), []
    for name, shape in (("a", (8, 9, 3)), ("b", (8, 9)), ("c", (8, 9))):
        pairs.append((tmp_path / f"{name}.npy", tmp_path / f"{name}.png"))
        np.save(pairs[-1][0], draw.integers(0, 60_000, shape, np.uint16))
        Image.fromarray(draw.integers(0, 2, (8, 9), np.uint8)).save(pairs[-1][1])

    def channels(first: int) -> list[int]:
        dataset = PairedFiles(pairs[first:], classes=("a", "b"), palette=((0, 0, 0), (9, 9, 9)))
        return [len(each.channels) for each in scan_splits({"train": dataset}, progress=False).statistics["train"]]

    assert channels(0) == [3, 3, 3]
    assert channels(1) == [1, 1]


def test_what_is_kept_in_a_folder_that_cannot_be_written_is_used(
    scanned: Scanned, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned()

    def refused(*_args: object) -> None:
        raise PermissionError

    monkeypatch.setattr("os.utime", refused)
    monkeypatch.setattr("segkit.data.scan.measure", refused)
    assert scanned() == EXPECTED


def test_another_reading_is_another_file(cache: Path) -> None:
    assert cache_file("one") != cache_file("two")
    assert {cache_file(reading).parent for reading in ("../../x", "/etc/passwd", "a\0b")} == {cache}


def test_without_a_home_folder_nothing_is_kept(scanned: Scanned, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGKIT_CACHE", "~nobody-has-this-name/cache")
    assert scanned() == EXPECTED
    assert not cache.exists()


def test_what_is_kept_comes_back_as_it_was(cache: Path) -> None:
    masks = [np.array([[0, 1], [1, 1]], np.uint8), np.zeros((3, 70), np.uint8)]
    known = [
        SampleStatistics(
            name=f"ä{number}\udcff\n",
            size=(mask.shape[0], mask.shape[1]),
            counts=np.bincount(mask.reshape(-1), minlength=3).tolist(),
            digest="00ff",
            dtype="float32" if number else "uint8",
            channels=np.full((3 * number, 3), 1e9 + number / 3).tolist(),
            measured={"own": [number, "text", {"a": 0.1}], "palette": [[-1, [255, 0, 0]]] if number else []},
        )
        for number, mask in enumerate(masks)
    ]
    save_values("", {str(number): each for number, each in enumerate(known)})
    back = [SampleStatistics(*each)._replace(size=tuple(each[1])) for each in load_values("").values()]
    assert repr(back) == repr(known)
    assert [[type(part) for part in each] for each in back] == [[type(part) for part in each] for each in known]
    assert load_values("other") == {}


def test_a_file_that_nobody_has_used_for_long_goes(scanned: Scanned, cache: Path) -> None:
    assert scanned() == EXPECTED
    (own,) = cache.iterdir()
    old, recent = cache / "scan-0123.gz", cache / "scan-4567.gz"
    for path in (own, old, recent):
        path.touch()
    for path in (own, old):
        os.utime(path, (1, 1))
    write_mask(cache.parent, 5, 200)
    scanned()  # which reads its own first
    assert {*cache.iterdir()} == {own, recent}
