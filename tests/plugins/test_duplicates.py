"""The same picture, or nearly the same, in two splits is found; different pictures are left alone."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from hashlib import blake2b
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from segkit_checks import duplicates
from segkit_checks.duplicates import thumbnail, turned_pictures

Pictures = tuple[list[str], NDArray[np.uint8]]  # digests of the pixels, thumbnails


def picture(seed: int, height: int = 90, width: int = 120) -> Image.Image:
    """A dozen coloured boxes on a gradient, blurred by resizing: layout and edges as a photograph has them."""
    random = np.random.default_rng(seed)
    pixels = np.zeros((height * 2, width * 2, 3))
    pixels += np.linspace(40, 140, height * 2)[:, None, None]
    for _ in range(12):
        top, left = random.integers(0, height * 2 - 20), random.integers(0, width * 2 - 20)
        pixels[top : top + random.integers(20, 90), left : left + random.integers(20, 90)] = random.integers(0, 220, 3)
    return Image.fromarray(pixels.astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR)


Found = list[tuple[str, int, str, int]]


def same_pictures(splits: Mapping[str, Pictures]) -> Found:
    return [
        (first, one, second, other)
        for first, second in combinations(splits, 2)
        for one, other in duplicates.same_pictures(
            splits[first][0], splits[second][0], duplicates.has_contrast(splits[second][1])
        )
    ]


def similar_pictures(splits: Mapping[str, Pictures]) -> Found:
    """Those that are not the same, as ``judge`` reports them."""
    same = {each[2:] for each in same_pictures(splits)}
    return [
        (first, one, second, other)
        for first, second in combinations(splits, 2)
        for one, other in duplicates.similar_pictures(splits[first][1], splits[second][1])
        if (second, other) not in same
    ]


def prints(*pictures: Image.Image | NDArray[np.uint8]) -> Pictures:
    arrays = [np.asarray(each) for each in pictures]
    digests = [blake2b(repr(each.shape).encode() + each.tobytes()).hexdigest() for each in arrays]
    return digests, np.array([thumbnail(each) for each in arrays], np.uint8).reshape(-1, 16, 16)


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def photograph(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def scaled(image: Image.Image, scale: float) -> Image.Image:
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)


def brighter(image: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(factor)


COPY: dict[str, Callable[[Image.Image], Image.Image]] = {
    **{f"JPEG {quality}": lambda image, quality=quality: as_jpeg(image, quality) for quality in (50, 75, 95)},
    **{f"times {scale}": lambda image, scale=scale: scaled(image, scale) for scale in (0.5, 0.7, 2)},
    "another aspect": lambda image: image.resize((100, 100), Image.Resampling.BILINEAR),
    "brighter": lambda image: brighter(image, 1.1),
    "darker": lambda image: brighter(image, 0.9),
    "grey": lambda image: image.convert("L").convert("RGB"),
}


@pytest.mark.parametrize("copy", COPY)
def test_copies_are_similar_but_not_the_same(copy: str) -> None:
    train, test = prints(*map(picture, range(20))), prints(*(COPY[copy](picture(seed)) for seed in (100, 11, 3, 101)))
    splits = {"train": train, "test": test}
    assert same_pictures(splits) == []
    assert similar_pictures(splits) == [("train", 11, "test", 1), ("train", 3, "test", 2)]


def test_the_very_same_pixels_are_the_same_and_not_similar_too() -> None:
    splits = {
        "train": prints(*map(picture, (0, 1, 2, 1))),
        "val": prints(picture(5), picture(1)),
        "test": prints(picture(1), picture(6), picture(5), picture(5)),
    }
    assert same_pictures(splits) == [
        ("train", 1, "val", 1),
        ("train", 1, "test", 0),
        ("val", 1, "test", 0),
        ("val", 0, "test", 2),
        ("val", 0, "test", 3),
    ]
    assert similar_pictures(splits) == []


def test_copies_that_are_turned_or_mirrored_are_found() -> None:
    _, train = prints(*map(picture, range(60)))
    ways = [*enumerate(Image.Transpose, 3)]
    assert len(ways) == 7
    _, test = prints(picture(99), *(picture(seed).transpose(way) for seed, way in ways), picture(1))
    assert turned_pictures(train, test) == [(seed, place) for place, (seed, _) in enumerate(ways, 1)]
    assert (
        turned_pictures(train, test[:1]) == turned_pictures(train[:0], test) == turned_pictures(train, test[:0]) == []
    )
    _, other = prints(brighter(picture(0), 1.1).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert turned_pictures(train, other) == []


@pytest.mark.parametrize("mark", [-9999, np.nan])
def test_pixels_without_data_are_not_compared(mark: float) -> None:
    pictures = []
    for seed in range(16):
        image = np.random.default_rng(seed).normal(100, 25, (64, 80, 3)).astype(np.float32)
        image[:16, :20] = mark
        pictures.append(thumbnail(image))
    assert duplicates.similar_pictures(np.array(pictures[:8]), np.array(pictures[8:])) == []
    alike = np.corrcoef([each.ravel() for each in pictures])
    assert np.abs(alike[np.triu_indices(16, 1)]).max() < 0.3


def test_a_view_into_a_tensor_has_the_same_thumbnail() -> None:
    pixels = np.asarray(picture(0))
    view = np.ascontiguousarray(pixels.transpose(2, 0, 1)).transpose(1, 2, 0)  # [H,W,3], as of [3,H,W]
    assert not view.flags.c_contiguous
    np.testing.assert_array_equal(thumbnail(pixels), thumbnail(view))


def test_different_pictures_are_not_similar() -> None:
    splits = {"train": prints(*map(picture, range(60))), "test": prints(*map(picture, range(100, 160)))}
    assert similar_pictures(splits) == []


def layout(pixels: NDArray[np.float64]) -> Pictures:
    return [blake2b(pixels.tobytes()).hexdigest()], pixels.round().astype(np.uint8)[None]


def test_one_thing_that_moved_or_many_small_ones_make_another_picture() -> None:
    random = np.random.default_rng(0)
    scene = random.choice([40.0, 200.0], (16, 16))  # a standard deviation of 80
    before, after, same = scene.copy(), scene.copy(), scene.copy()
    before[3, 4], after[3, 4] = 60, 105
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.998
    assert similar_pictures({"train": layout(before), "test": layout(after)}) == []
    everywhere = scene + random.choice([-15, 15], (16, 16))
    assert similar_pictures({"train": layout(scene), "test": layout(everywhere)}) == []
    same[3, 4] += 5
    same += random.choice([-2, 2], (16, 16))
    assert similar_pictures({"train": layout(scene), "test": layout(same)}) == [("train", 0, "test", 0)]


def test_pictures_without_contrast_never_look_alike() -> None:
    random = np.random.default_rng(0)

    def flat(grey: int, noise: int) -> NDArray[np.uint8]:
        return (grey + random.integers(0, noise + 1, (40, 60, 3))).astype(np.uint8)

    splits = {
        "train": prints(*(flat(grey, noise) for grey in (0, 128, 200) for noise in (0, 1, 40))),
        "test": prints(*(flat(grey, noise) for grey in (1, 129, 200) for noise in (0, 1, 40))),
    }
    assert similar_pictures(splits) == []
    assert same_pictures(splits) == []  # although one is: light grey without noise, as blank tiles are
    haze = np.linspace(100, 110, 40)[:, None, None] + np.zeros((1, 60, 3))
    splits = {"train": prints(haze.astype(np.uint8)), "test": prints((haze + 20).astype(np.uint8))}
    assert similar_pictures(splits) == []


def test_indices_count_the_pictures_without_contrast() -> None:
    blank = Image.new("RGB", (40, 30), "white")
    splits = {"train": prints(blank, blank, picture(1)), "test": prints(blank, picture(2), as_jpeg(picture(1), 75))}
    assert similar_pictures(splits) == [("train", 2, "test", 2)]


def test_the_likest_is_named_and_empty_splits_are_no_matter() -> None:
    exact, copy = picture(0), as_jpeg(picture(0), 50)
    splits = {"train": prints(copy, picture(1), exact), "val": prints(), "test": prints(scaled(exact, 2), picture(7))}
    assert similar_pictures(splits) == [("train", 2, "test", 0)]
    assert similar_pictures({}) == same_pictures({}) == []
    assert similar_pictures({"train": prints(exact)}) == []


def test_many_pictures_in_pieces() -> None:
    random = np.random.default_rng(0)

    train, test = (random.integers(0, 256, (count, 16, 16), dtype=np.uint8) for count in (3000, 2600))
    copies = ((0, 7), (1023, 8), (1024, 2999), (2599, 0))
    for place, index in copies:
        test[place] = train[index]
    assert duplicates.similar_pictures(train, test) == [(index, place) for place, index in copies]
    for place, index in copies:
        test[place] = np.rot90(train[index])
    assert turned_pictures(train, test) == [(index, place) for place, index in copies]


def test_a_real_film_without_and_with_copies(real_data: Path) -> None:
    folder = real_data / "camvid" / "images"
    splits = {
        "train": [photograph(path) for path in sorted((folder / "train").glob("0001TP*"))[-12:]],
        "test": [photograph(path) for path in sorted((folder / "test").glob("0001TP*"))[:12]],
    }
    clean = {split: prints(*pictures) for split, pictures in splits.items()}
    assert similar_pictures(clean) == same_pictures(clean) == []  # frames a second apart where the splits meet
    leaked = clean | {"test": prints(*splits["test"], scaled(as_jpeg(splits["train"][4], 75), 0.5), splits["train"][2])}
    assert similar_pictures(leaked) == [("train", 4, "test", 12)]
    assert same_pictures(leaked) == [("train", 2, "test", 13)]


def test_views_in_one_studio_are_not_similar(real_data: Path) -> None:
    views = [photograph(path) for path in sorted((real_data / "carvana" / "train").glob("*.jpg"))]
    assert len(views) == 5
    assert similar_pictures({f"{index}": prints(view) for index, view in enumerate(views)}) == []
    _, small = prints(*views)
    assert turned_pictures(small[:3], small[3:]) == []
