"""Every rule of datasets is broken by a dataset in exactly one way, and kept by all that segkit brings."""

from __future__ import annotations

import re
import sys
import textwrap
import types
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import segkit
from segkit.errors import DataError
from segkit.testing import Check, CheckFailed, checks
from segkit.testing.dataset import MOST, places

SMALL = {"shapes": {"images": [12, 6, 6]}}
BUNDLED = [component.name for component in segkit.datasets.components() if component.distribution == "segkit"]
ANOTHER_PROCESS = "same_in_another_process"  # takes seconds, and cannot import the classes of this file
Built = Callable[..., Any]


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=f"{name}-{check}", marks=[pytest.mark.slow] * (name != "shapes" and elsewhere))
        for name in BUNDLED
        for check in checks("dataset", name, SMALL.get(name))
        for elsewhere in [check.name == ANOTHER_PROCESS]
    ],
)
def test_bundled_datasets_keep_every_rule(check: Check) -> None:
    check()


class Good:
    """As small as a dataset of files can be that keeps every rule."""

    classes: Any = ("ground", "leaf")
    palette: Any = ((0, 0, 0), (0, 200, 0))
    ignore_index: Any = 255
    splits: Any = ("train", "val", "test")
    reading: Any = "as stored"

    def __init__(self, root: str, split: str = "train", brighter: int = 0) -> None:
        self.split, self.brighter = split, brighter
        self.check(root, split)
        self.paths = sorted((Path(root) / split).glob("*.npz"))

    def check(self, root: str, split: str) -> None:
        if split not in self.splits:
            raise DataError(f"no split '{split}', but {', '.join(self.splits)}")
        if not Path(root).is_dir():
            raise DataError(f"there is no folder {root}")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        with np.load(self.paths[index]) as arrays:
            return segkit.Sample(
                torch.from_numpy(arrays["image"]) + self.brighter,
                torch.from_numpy(arrays["mask"]),
                self.paths[index].stem,
            )

    def files(self, index: int) -> Any:
        return [self.paths[index]]

    @classmethod
    def write_sample(cls, root: Path) -> Any:
        for number, split in enumerate(("train", "val", "test")):
            (root / split).mkdir()
            for index in range(3):
                random = np.random.default_rng((number, index))
                image = random.integers(0, 250, (3, 6, 8), dtype=np.uint8)
                mask = random.choice([0, 1, 255], (6, 8)).astype(np.uint8)
                np.savez(root / split / f"{index}.npz", image=image, mask=mask)


class Changed(Good):
    """A sample in which something is not as it should be."""

    def __getitem__(self, index: int) -> Any:
        return self.change(*super().__getitem__(index))

    def change(self, image: Tensor, mask: Tensor, name: str) -> Any:
        raise NotImplementedError


class AnyOption(Good):
    def __init__(self, root: str, split: str = "train", **options: int) -> None:
        super().__init__(root, split)


class WritesNothing(Good):
    """It reads what it makes itself, and writes no file for all its root."""

    @classmethod
    def write_sample(cls, root: Path) -> None:
        pass

    def __init__(self, root: str, split: str = "train") -> None:
        self.check(root, split)
        self.split = self.splits.index(split)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < 2:
            raise IndexError(index)
        image = np.random.default_rng((self.split, index)).integers(0, 256, (3, 4, 4), dtype=np.uint8)
        return segkit.Sample(torch.from_numpy(image), torch.eye(4, dtype=torch.uint8), f"{index}")

    mask = files = property()  # type: ignore[assignment]  # not offered


class NoSample(Good):
    write_sample = property()  # type: ignore[assignment]


class ReturnsList(Good):
    @classmethod
    def write_sample(cls, root: Path) -> list[str]:
        super().write_sample(root)
        return ["brighter"]


class ReturnsUnknown(Good):
    @classmethod
    def write_sample(cls, root: Path) -> dict[str, int]:
        super().write_sample(root)
        return {"darker": 1}


class TrainAlone(Good):
    splits = ("train", "test")


class EmptyVal(Good):
    def __init__(self, root: str, split: str = "train") -> None:
        super().__init__(root, split)
        self.paths = [] if split == "val" else self.paths


class PlainTuple(Changed):
    def change(self, image: Tensor, mask: Tensor, name: str) -> Any:
        return image, mask, name


class FourChannels(Changed):
    channels = ("red", "green", "blue", "near infrared")

    def change(self, image: Tensor, mask: Tensor, name: str) -> Any:
        return segkit.Sample(torch.cat([image, image[:1]]), mask, name)


class ChannelsAsText(Good):
    channels = "rgb"


class OneChannelName(Good):
    channels = ("red", "red", "blue")


class OtherChannels(Good):
    @property
    def channels(self) -> Any:
        return ("red", "green", "blue") if self.split == "train" else ("blue", "green", "red")


class FloatImage(Changed):
    def change(self, image: Tensor, mask: Tensor, name: str) -> Any:
        return segkit.Sample(image.double() / 255, mask, name)


class ChannelsBehind(Changed):
    def change(self, image: Tensor, mask: Tensor, name: str) -> Any:
        return segkit.Sample(image.permute(1, 2, 0), mask, name)


class Arrays(Changed):
    def change(self, image: Tensor, mask: Tensor, name: str) -> Any:
        return segkit.Sample(image.numpy(), mask, name)  # type: ignore[arg-type]


class MaskOfOtherSize(Good):
    def __getitem__(self, index: int) -> Any:
        image, mask, name = super().__getitem__(index)
        return segkit.Sample(image, mask[:5], name)


class NoName(Changed):
    def change(self, image: Tensor, mask: Tensor, name: str) -> Any:
        return segkit.Sample(image, mask, "")


class OneName(Changed):
    def change(self, image: Tensor, mask: Tensor, name: str) -> Any:
        return segkit.Sample(image, mask, "picture")


class ClassesAsText(Good):
    classes = "ab"


class TwoOfAName(Good):
    classes = ("leaf", "leaf")


class ShortPalette(Good):
    palette = ((0, 0, 0),)


class Fractions(Good):
    palette = ((0.0, 0.0, 0.0), (0.0, 0.8, 0.0))


class OneColour(Good):
    palette = ((0, 0, 0), (0, 0, 0))


class NoClasses(Good):
    classes = palette = ()
    ignore_index = 0

    def __getitem__(self, index: int) -> Any:
        image, mask, name = super().__getitem__(index)
        return segkit.Sample(image, mask * 0, name)


class VoidIsAClass(Good):
    """Void is stored as 1, and 1 is the leaf."""

    ignore_index = 1

    def __getitem__(self, index: int) -> Any:
        image, mask, name = super().__getitem__(index)
        return segkit.Sample(image, mask.clamp(max=1), name)


class OtherLabels(Good):
    """Void is 255 in the files, and should be 2."""

    ignore_index = 2


class AllGround(Changed):
    """What the map of labels does not know became 0."""

    def change(self, image: Tensor, mask: Tensor, name: str) -> Any:
        return segkit.Sample(image, mask * 0, name)


class AllVoid(Changed):
    def change(self, image: Tensor, mask: Tensor, name: str) -> Any:
        return segkit.Sample(image, mask * 0 + 255, name)


class ArrayPalette(Good):
    """Equal, but numpy does not say so in a word; and its numbers are not Python's."""

    def __init__(self, root: str, split: str = "train") -> None:
        super().__init__(root, split)
        self.palette = np.array(self.palette)


class OtherPalette(Good):
    def __init__(self, root: str, split: str = "train") -> None:
        super().__init__(root, split)
        self.palette = ((0, 0, 0), (0, 200, 1 if split == "val" else 0))


class SilentOnItsSplits(Good):
    """There is no test, and nothing says so before it is asked for."""

    splits = property()

    def check(self, root: str, split: str) -> None:
        if split not in ("train", "val"):
            raise DataError(f"no split '{split}', but train, val")
        if not Path(root).is_dir():
            raise DataError(f"there is no folder {root}")


class OSErrorForTheFolder(Good):
    def check(self, root: str, split: str) -> None:
        super().check(".", split)
        (Path(root) / "train").stat()


class OtherOrder(Good):
    def __init__(self, root: str, split: str = "train") -> None:
        super().__init__(root, split)
        self.classes = self.classes if split == "train" else self.classes[::-1]


class Random(Changed):
    """Augments on its own account."""

    def change(self, image: Tensor, mask: Tensor, name: str) -> Any:
        return segkit.Sample(image + torch.randint_like(image, 5), mask, name)


class Counts(Good):
    """What comes depends on what was asked before."""

    def __init__(self, root: str, split: str = "train") -> None:
        super().__init__(root, split)
        self.asked = 0

    def __getitem__(self, index: int) -> Any:
        image, mask, name = super().__getitem__(index)
        self.asked += 1
        return segkit.Sample(image, mask, f"{name}_{self.asked}")


class Cached(Good):
    def __init__(self, root: str, split: str = "train") -> None:
        super().__init__(root, split)
        self.read: dict[int, Any] = {}

    def __getitem__(self, index: int) -> Any:
        if index not in self.read:
            self.read[index] = super().__getitem__(index)
        return self.read[index]


class AnySplit(Good):
    def check(self, root: str, split: str) -> None:
        super().check(root, split if split in self.splits else "val")


class SplitValueError(Good):
    def check(self, root: str, split: str) -> None:
        if split not in self.splits:
            raise ValueError(split)
        super().check(root, split)


class AnyFolder(Good):
    def check(self, root: str, split: str) -> None:
        super().check(".", split)


class FolderUntold(Good):
    def check(self, root: str, split: str) -> None:
        if not Path(root).is_dir():
            raise DataError("download the data first")
        super().check(root, split)


class NamesBackwards(Good):
    @property
    def names(self) -> list[str]:
        return [path.stem for path in reversed(self.paths)]


class Unpicklable(Good):
    def __init__(self, root: str, split: str = "train") -> None:
        super().__init__(root, split)
        self.transform = lambda image: image


class HalfPickled(Good):
    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "brighter": 7}


ALL_THAT_BUILD = "all that build every split"


class ValForTest(Good):
    def __init__(self, root: str, split: str = "train") -> None:
        self.check(root, split)
        super().__init__(root, "val" if split == "test" else split)


BROKEN: list[tuple[type, Any, str]] = [
    (ValForTest, {"disjoint_splits"}, r"val\[0\] and test\[0\] are the same image, pixel by pixel"),
    (WritesNothing, {"writes_a_sample"}, "left no file in root"),
    (NoSample, {"writes_a_sample"}, r"has no class method write_sample\(root\)"),
    (ReturnsList, {"writes_a_sample"}, r"returned \['brighter'\]; it must return options of the constructor, or"),
    (ReturnsUnknown, {"writes_a_sample"}, "returned {'darker': 1}; it must return options of the constructor"),
    (TrainAlone, {"splits"}, r"splits = \('train', 'test'\); a run needs train and val"),
    (EmptyVal, {"splits", "same_each_time"}, "val is empty"),
    (PlainTuple, {"samples", "same_each_time"}, r"train\[0\]: a dataset must return segkit.Sample.*, not tuple"),
    (
        FloatImage,
        {"samples"},
        r"train\[0\]: 0: its image or mask .* \(torch.float64 \[3, 6, 8\] and .*\); a dataset returns tensors",
    ),
    (
        ChannelsBehind,
        {"samples"},
        r"its image or mask has a wrong type or shape \(torch.uint8 \[6, 8, 3\] and torch.uint8 \[6, 8\]\)",
    ),
    (
        Arrays,
        {"samples", "same_each_time"},
        r"train\[0\]: 0: its image or mask has a wrong type or shape \(ndarray and .*\); a dataset returns tensors",
    ),
    (
        MaskOfOtherSize,
        {"samples"},
        r"train\[0\]: 0: its image or mask .* \(torch.uint8 \[3, 6, 8\] and torch.uint8 \[5, 8\]\); ",
    ),
    (NoName, {"samples"}, r"train\[0\]: its name '' is empty or occurs twice"),
    (OneName, {"samples"}, r"train\[1\]: its name 'picture' is empty or occurs twice"),
    (NamesBackwards, {"samples"}, r"train\[0\]: its name is '0', but names\[0\] is '2'"),
    (ChannelsAsText, {"splits"}, "channels = 'rgb'; it must be a tuple of distinct names"),
    (OneChannelName, {"splits"}, r"channels = \('red', 'red', 'blue'\); it must be a tuple of distinct names"),
    (OtherChannels, {"splits"}, r"channels of train is \['red', 'green', 'blue'\], but of val \['blue'"),
    (ClassesAsText, {"splits"}, "classes = 'ab'; it must be a tuple of distinct names"),
    (TwoOfAName, {"splits"}, "several classes are called leaf"),
    (ShortPalette, {"splits"}, r"palette = \(\(0, 0, 0\),\); give each of the 2 classes a distinct colour, three"),
    (Fractions, {"splits"}, r"palette = \(\(0.0, 0.0, 0.0\), .* a distinct colour, three whole numbers"),
    (OneColour, {"splits"}, r"palette = .*; give each of the 2 classes a distinct colour"),
    (NoClasses, {"splits"}, r"classes = \(\); it must be a tuple of distinct names"),
    (VoidIsAClass, {"splits", "samples"}, "ignore_index = 1 with 2 classes: .* so it must be between 2 and 255"),
    (OtherLabels, {"samples"}, r"train\[0\]: its mask holds 255; allowed are 0 to 1 and ignore_index = 2"),
    (AllGround, {"samples"}, "every pixel of every split is 'ground' or void: check that stored labels are mapped to"),
    (AllVoid, {"samples"}, "every pixel of every split is void: check that stored labels are mapped to"),
    (ArrayPalette, {"splits"}, r"(?s)palette = array.*three whole numbers from 0 to 255"),
    (OtherPalette, {"splits"}, r"palette of train is .*\[0, 200, 0\]\], but of val .*\[0, 200, 1\]\]"),
    (SilentOnItsSplits, ALL_THAT_BUILD, r"unless splits = .* lists others: no split 'test', but train"),
    (OSErrorForTheFolder, {"names_what_is_wrong"}, "a segkit.errors.DataError that names it: .* FileNotFoundError: "),
    (OtherOrder, {"splits"}, "the splits train and val differ in their classes or ignore_index"),
    (Random, {"same_each_time", "copies"}, r"asked twice: train\[\d\] image is "),
    (Counts, {"same_each_time"}, r"asked twice: train\[0\] name is '0_6', expected '0_1'"),
    (Cached, {"same_each_time"}, r"reading train\[0\] twice returns the same memory for the image, mask"),
    (AnySplit, {"names_what_is_wrong"}, "for the missing trian .* segkit.errors.DataError .*: it raises nothing"),
    (SplitValueError, {"names_what_is_wrong"}, "for the missing trian .*: ValueError: trian"),
    (AnyFolder, {"names_what_is_wrong"}, "for the missing .*not_there .*: it raises nothing"),
    (FolderUntold, {"names_what_is_wrong"}, "for the missing .*not_there .*: its message is: download the data first"),
    (Unpicklable, {"copies"}, "no pickled copy can be made: .*lambda"),
    (HalfPickled, {"copies"}, r"a pickled copy: train\[0\] image is "),
]


def failures(target: Built, options: Mapping[str, Any] | None = None, rules: Collection[str] = ()) -> dict[str, str]:
    """Why it breaks the rules that are named, or any, by the rule's name."""
    asked = [check for check in checks("dataset", target, options) if check.name != ANOTHER_PROCESS]
    answers = {check.name: check.ask() for check in asked if not rules or check.name in rules}
    return {name: answer.why for name, answer in answers.items() if answer.state == "FAILED"}


@pytest.mark.parametrize("target", [Good, AnyOption, FourChannels])
def test_the_smallest_dataset_keeps_every_rule(target):
    assert failures(target) == {}


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["this rule", "every rule"])
@pytest.mark.parametrize(("target", "broken", "message"), BROKEN, ids=[each[0].__name__ for each in BROKEN])
def test_each_fault_is_found_and_nothing_else(target, broken, message, every):
    if broken == ALL_THAT_BUILD:
        alone = {"writes_a_sample", "names_what_is_wrong", ANOTHER_PROCESS}
        broken = {check.name for check in checks("dataset", target)} - alone
    found = failures(target, rules=() if every else broken)
    assert set(found) == broken
    assert any(re.search(message, text) for text in found.values()), found


def test_every_rule_has_a_dataset_that_breaks_it():
    proven = {name for _, broken, _ in BROKEN if broken != ALL_THAT_BUILD for name in broken}
    assert {check.name for check in checks("dataset", Good)} == {*proven, ANOTHER_PROCESS}


# Written to a file, as another process must import it.
ELSEWHERE = """
    import pathlib
    import torch
    import segkit
    from segkit.errors import DataError

    offset = 0


    class Memory:
        classes, palette, ignore_index, splits = ("a", "b"), ((0, 0, 0), (9, 9, 9)), 255, ("train", "val")

        def __init__(self, split: str = "train") -> None:
            self.values = [1, 2, 3] if split == "train" else [4, 5]

        def __len__(self) -> int:
            return len(self.values)

        def __getitem__(self, index: int) -> segkit.Sample:
            image = torch.full((3, 4, 4), self.values[index], dtype=torch.uint8)
            return segkit.Sample(image, image[0] % 2, str(self.values[index]))


    class Unordered(Memory):
        '''Sets of texts have another order in each process.'''

        def __init__(self, split: str = "train") -> None:
            texts = {str(value) for value in range(40)}
            self.values = [int(text) for text in texts]


    class Global(Memory):
        '''Needs what this process has set.'''

        def __getitem__(self, index: int) -> segkit.Sample:
            image, mask, name = super().__getitem__(index)
            return segkit.Sample(image + offset, mask, name)
"""


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    (tmp_path / "segkit_elsewhere.py").write_text(textwrap.dedent(ELSEWHERE))
    monkeypatch.syspath_prepend(tmp_path)
    import segkit_elsewhere

    return segkit_elsewhere


def ask_another_process(target: Built) -> None:
    (check,) = [each for each in checks("dataset", target) if each.name == ANOTHER_PROCESS]
    check()


@pytest.mark.slow
def test_a_new_process_has_the_same_samples(elsewhere, monkeypatch):
    ask_another_process(elsewhere.Memory)
    with pytest.raises(CheckFailed, match=r"built in another process: train\[\d+\] "):
        ask_another_process(elsewhere.Unordered)
    monkeypatch.setattr(elsewhere, "offset", 1)
    with pytest.raises(CheckFailed, match=r"built in another process: train\[0\] image is "):
        ask_another_process(elsewhere.Global)


def test_a_class_that_another_process_cannot_import_is_told(elsewhere, monkeypatch):
    class Lost(elsewhere.Memory):
        pass

    with pytest.raises(CheckFailed, match=r"it cannot be pickled: .*Lost"):
        ask_another_process(Lost)
    here_alone = types.ModuleType("segkit_here_alone")
    monkeypatch.setitem(sys.modules, here_alone.__name__, here_alone)
    here_alone.Lost, Lost.__module__, Lost.__qualname__ = Lost, here_alone.__name__, "Lost"  # type: ignore[attr-defined]
    message = "it cannot be read in another process: ModuleNotFoundError: No module named 'segkit_here_alone'"
    with pytest.raises(CheckFailed, match=message):
        ask_another_process(Lost)


def test_options_and_the_hint_of_root_are_respected(tmp_path):
    seen = []

    class Asked(Good):
        def __init__(self, root: Path, split: str = "train", brighter: int = 0) -> None:
            seen.append((root, brighter))
            super().__init__(str(root), split, brighter)

        @classmethod
        def write_sample(cls, root: Path) -> dict[str, int]:
            super().write_sample(root)
            return {"brighter": 3}

    (types,) = [each for each in checks("dataset", Asked) if each.name == "samples"]
    types()
    assert {type(root) for root, _ in seen} == {type(tmp_path)}
    assert {brighter for _, brighter in seen} == {3}

    seen.clear()
    Good.write_sample(tmp_path)
    options = {"root": str(tmp_path), "brighter": 4}
    (types,) = [each for each in checks("dataset", Asked, options) if each.name == "samples"]
    types()
    assert set(seen) == {(str(tmp_path), 4)}


def test_what_is_no_rule():
    """No files, no root, no write_sample, nothing that is offered; splits train and val alone; warnings."""

    class Legal:
        classes, palette, ignore_index, splits = ["a"], [[0, 0, 0]], 255, ["train", "val"]

        def __init__(self, split: str) -> None:
            warnings.warn("made up", stacklevel=2)
            if split not in self.splits:
                raise DataError(f"no split '{split}', but train, val")
            self.value = self.splits.index(split)

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> Any:
            if index:
                raise IndexError(index)
            return segkit.Sample(
                torch.full((3, 2, 2), self.value, dtype=torch.uint8), torch.zeros(2, 2, dtype=torch.uint8), "it"
            )

    found = failures(Legal)
    assert set(found) == {"copies"}  # as a class of this function
    assert "no pickled copy can be made" in found["copies"]


def test_of_many_samples_some_are_read_evenly():
    asked = [index for _, _, index in places({"train": range(10 * MOST + 1)})]
    assert asked[:2] == [0, 11]
    assert MOST * 0.9 < len(asked) <= MOST
    assert asked[-1] > 10 * MOST - 11


def test_without_a_sample_nothing_else_is_asked():
    told = {check.name: check.ask() for check in checks("dataset", NoSample)}
    assert {answer.why for answer in told.values() if answer.state == "not asked"} == {
        "it has no sample to check: see writes_a_sample"
    }
    assert {name for name, answer in told.items() if answer.state != "not asked"} == {"writes_a_sample"}
