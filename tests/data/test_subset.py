"""What may be passed to ``segkit.fit`` as a split: parts of datasets, several in a row, and pairs (image, mask)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils import data

import segkit
from segkit.data.scan import scan_splits
from segkit.data.subset import Subset, as_dataset, with_bands
from segkit.errors import ConfigError, DataError, ModelError
from segkit.settings import DataSettings
from segkit_folder.files import PairedFiles

FIT = {"samples": 0, "epochs": 1, "batch_size": 4, "device": "cpu", "precision": "fp32"}


def shapes(split: str = "train") -> Any:
    return segkit.datasets["shapes"](split=split, size=32, images=[8, 4, 2], variety="few")


class Pairs(data.Dataset[Any]):
    """Pairs (x, y) as people write them: a dark and a bright half."""

    def __init__(self, kind: str = "tensors", label: int = 1, count: int = 4) -> None:
        self.kind, self.label, self.count = kind, label, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        mask = np.zeros((8, 12), np.int64)
        mask[:, 6 + index % 2 :] = self.label
        image = np.repeat((40 + 150 * (mask > 0))[..., None], 3, 2).astype(np.uint8)
        if self.kind == "arrays":
            return image, mask.astype(np.int32)
        if self.kind == "pillow":
            return Image.fromarray(image), Image.fromarray(mask.astype(np.uint8))
        x, y = torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(mask).long()
        return {
            "tensors": (x, y),
            "a mask with a channel": (x, y[None]),
            "bool": [x, y.bool()],
            "scaled": (x.double() / 255, y),
            "three": (x, y, "name"),
        }[self.kind]


def net(classes: int = 2) -> nn.Module:
    return nn.Conv2d(3, classes, 1)


def test_a_loss_of_torchs_own_trains_as_it_is(tmp_path: Path) -> None:
    kinds = []

    class Noting(nn.CrossEntropyLoss):
        def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            kinds.append(target.dtype)
            return super().forward(logits, target)

    result = segkit.fit(
        model=net(6), loss=Noting(ignore_index=255), train=shapes(), val=shapes("val"), output=tmp_path, **FIT
    )
    assert set(kinds) == {torch.int64}
    assert result.splits["val"]["loss"] > 0


def test_a_loss_of_torchs_own_that_is_not_told_of_void_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Target 255 is out of bounds.*torch\.nn\.CrossEntropyLoss\(ignore_index=255"):
        segkit.fit(model=net(6), loss=nn.CrossEntropyLoss(), train=shapes(), val=shapes("val"), output=tmp_path, **FIT)


def test_a_part_of_a_part_of_a_dataset_is_that_part() -> None:
    whole = shapes()
    part = as_dataset(data.Subset(data.Subset(whole, [5, 3, 1, 0]), [2, 0]), "train")
    assert isinstance(part, Subset)
    assert [part[index].name for index in range(len(part))] == [whole[1].name, whole[5].name]
    assert (part.classes, part.palette, part.ignore_index) == (whole.classes, whole.palette, whole.ignore_index)


def test_names_of_something_else_than_the_samples_are_left_alone() -> None:
    given: Any = Pairs()
    given.classes, given.palette, given.ignore_index = ("a", "b"), ((0, 0, 0), (9, 9, 9)), 255
    given.names = ["a", "b"]
    assert [sample.name for sample in as_dataset(given, "val")] == ["val-0", "val-1", "val-2", "val-3"]
    assert as_dataset(given, "val").names is None


def test_a_first_image_that_cannot_be_read_is_the_only_one_that_is_refused() -> None:
    class Torn(Pairs):
        def __getitem__(self, index: int) -> Any:
            if index == 0:
                raise OSError("gone")
            return super().__getitem__(index)

    scan = scan_splits({"train": as_dataset(Torn(), "train", ["a", "b"])}, DataSettings(on_bad="skip"), progress=False)
    assert [each.name for each in scan.statistics["train"]] == ["train-1", "train-2", "train-3"]


def test_bands_and_marks_of_no_data_reach_the_files_of_several_datasets_in_a_row(tmp_path: Path) -> None:
    parts = []
    for name in "ab":
        image = np.full((4, 5, 2), 7, np.float32)
        image[1, 2] = np.nan
        np.save(tmp_path / f"{name}.npy", image)
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / f"{name}.png")
        pair = tmp_path / f"{name}.npy", tmp_path / f"{name}.png"
        parts.append(PairedFiles([pair], classes=("a", "b"), palette=((0, 0, 0), (9, 9, 9))))
    whole = as_dataset(data.ConcatDataset(parts), "train")
    found = with_bands(whole, DataSettings(bands=[2], no_data="void"))
    assert (found.channels, found.no_data) == (("band 2",), "void")
    part = with_bands(Subset(Subset(parts[0], [0, 0]), [1]), DataSettings(bands=[2], no_data="void"))
    assert (part.channels, part.no_data, part.reading, len(part)) == (("band 2",), "void", parts[0].reading, 1)
    for image, mask, _ in (found[0], found[1], part[0]):
        assert image.shape == (1, 4, 5)
        assert torch.argwhere(mask == 255).tolist() == [[1, 2]]
    given = as_dataset(whole, "train", ["x", "y", "z"], ignore_index=9)  # the user's classes are kept
    chosen = with_bands(given, DataSettings(bands=[1]))
    assert (chosen.classes, chosen.palette, chosen.ignore_index) == (("x", "y", "z"), given.palette, 9)
    assert (chosen.channels, len(chosen)) == (("band 1",), 2)


def test_bands_of_a_dataset_that_cannot_select_them_are_refused() -> None:
    for given in (shapes(), Subset(shapes(), [0]), as_dataset(Pairs(), "train", ["a", "b"])):
        with pytest.raises(ConfigError, match=r"bands = \[3\].*: (ShapesDataset|Pairs) returns its channels itself"):
            with_bands(given, DataSettings(bands=[3]))


def test_splits_whose_images_have_other_channels_are_refused() -> None:
    class Grey(Pairs):
        def __getitem__(self, index: int) -> Any:
            image, mask = super().__getitem__(index)
            return image[:1], mask

    colours, grey = (as_dataset(each, "it", ["a", "b"]) for each in (Pairs(), Grey()))
    scan = scan_splits({"train": colours, "val": grey}, progress=False)
    told = (
        "val: its channels differ from train: grey instead of red, green, blue; select common channels with data.bands"
    )
    assert [str(each) for each in scan.errors] == [told]
    assert scan_splits({"train": grey, "val": grey}, progress=False).errors == []


def test_a_run_takes_the_parts_of_a_random_split_and_several_in_a_row(tmp_path: Path) -> None:
    train, val = data.random_split(shapes(), [6, 2], torch.Generator().manual_seed(0))
    both = data.ConcatDataset([train, shapes("val")])
    loss = nn.CrossEntropyLoss(ignore_index=255)
    result = segkit.fit(
        model=net(6), loss=loss, data={"allow_leaks": True}, train=both, val=val, output=tmp_path, **FIT
    )
    record = json.loads((tmp_path / "run.json").read_text())
    assert {name: split["images"] for name, split in record["data"].items()} == {"train": 10, "val": 2}
    assert result.splits["val"].keys() >= {"mean_iou"}


@pytest.mark.parametrize("kind", ["tensors", "arrays", "pillow", "a mask with a channel", "bool"])
def test_pairs_become_samples(kind: str) -> None:
    dataset = as_dataset(Pairs(kind), "train", ["dark", "bright"])
    sample = dataset[1]
    assert sample.name == "train-1"
    assert (sample.image.dtype, sample.mask.dtype) == (torch.uint8, torch.uint8)
    assert torch.equal(sample.mask, torch.from_numpy(Pairs("arrays")[1][1]).byte())
    assert torch.equal(sample.image, Pairs("tensors")[1][0])
    assert (dataset.ignore_index, len(dataset.palette)) == (255, 2)


def test_a_run_learns_from_pairs(tmp_path: Path) -> None:
    result = segkit.fit(
        model=net(),
        loss=nn.CrossEntropyLoss(),
        train=data.Subset(Pairs(), [0, 1, 2, 3]),
        val=Pairs("pillow"),
        classes=["dark", "bright"],
        palette=[[1, 2, 3], [4, 5, 6]],
        output=tmp_path,
        **{**FIT, "epochs": 30, "lr": 0.3},
        data={"allow_leaks": True},
    )
    assert result.splits["val"]["mean_iou"] == 1
    assert segkit.load(tmp_path, model=net()).palette == ((1, 2, 3), (4, 5, 6))


@pytest.mark.parametrize(
    ("given", "options", "told"),
    [
        (Pairs(), {}, r"train: Pairs has no classes, no palette, no ignore_index; pass fit\(classes=\[\.\.\.\]\)"),
        (data.Subset(Pairs(), [0]), {}, r"train: Pairs has no classes"),
        (data.ConcatDataset([shapes(), Pairs()]), {}, r"train, part 2: Pairs has no classes"),
        (iter([]), {}, r"train: list_iterator has no length; a dataset has a length and \[i\]"),
        (data.DataLoader(Pairs()), {"classes": ["a", "b"]}, r"train: DataLoader has no \[i\]"),
        (Pairs("three"), {"classes": ["a", "b"]}, r"8 files: the dataset returns tuple of 3: train-0"),
        (
            Pairs("scaled"),
            {"classes": ["a", "b"]},
            r"8 files: its image or mask has a wrong .* \(torch\.float64 \[3, 8, 12\] and .*: train-0, train-1",
        ),
        (Pairs(label=-100), {"classes": ["a", "b"]}, r"not allowed \(-100 to 0\): train-0, .*; labels are 0 to"),
        (Pairs(), {"classes": 2}, r"classes = 2: give names in the order of the labels"),
        (Pairs(), {"classes": "ab"}, r"classes = 'ab': give names"),
        (
            Pairs(),
            {"classes": ["a", "b"], "palette": ["#000000", "#ff0000"]},
            r"palette = \(\('#', .*: give one colour for each of the 2 classes, three numbers",
        ),
        (Pairs(), {"classes": ["a", "b"], "palette": [[0, 0, 0], [300, 0, 0]]}, r"palette = .*\(300, 0, 0\)"),
        (
            Pairs(),
            {"classes": ["a", "b"], "palette": [[0, 0, 0]]},
            r"palette = \(\(0, 0, 0\),\): give one colour for each of the 2",
        ),
        (Pairs(label=7), {"classes": ["a", "b"]}, r"labels that are not allowed, 7"),
    ],
)
def test_what_keeps_no_contract_is_told_by_it(tmp_path: Path, given: Any, options: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        segkit.fit(model=net(), loss=nn.CrossEntropyLoss(), train=given, val=given, output=tmp_path, **FIT, **options)
